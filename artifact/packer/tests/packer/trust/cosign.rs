//! Cosign signatures in both layouts, with a key and without one.

use paperclip_artifact::failure::FailureReason;
use paperclip_artifact::trust::cosign::{Signer, simple_payload};
use paperclip_artifact::trust::evidence::{LoggedCertificate, SimpleSignature};
use paperclip_artifact::trust::{Evidence, Keyless, Pattern, Requirement, Subject, TrustRoot};
use paperclip_oci::Digest;
use serde_json::{Value, json};
use sigstore_verify::crypto::KeyPair;
use time::Duration;

use super::authority::{Authority, Person, base64, key_bundle, pem, sign};
use super::{judge, raw, refused};

const PERSON: Person<'static> = Person {
    identity: "https://git.example/acme/release",
    issuer: "https://token.git.example",
    repository: "https://git.example/acme/p",
};

fn image() -> Digest {
    Digest::of(b"image")
}

fn evidence() -> Evidence {
    Evidence {
        subject: Subject {
            source_digest: Some(image()),
            ..Subject::default()
        },
        ..Evidence::default()
    }
}

fn simple(key: &KeyPair, payload: &[u8]) -> Evidence {
    Evidence {
        simple_signatures: vec![SimpleSignature {
            payload: base64(payload),
            signature: sign(key, payload),
            vouched: None,
        }],
        ..evidence()
    }
}

fn bundled(bundle: &Value) -> Evidence {
    Evidence {
        bundles: vec![raw(bundle)],
        ..evidence()
    }
}

fn statement(image: &Digest) -> Value {
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{ "digest": { "sha256": image.hex() } }],
        "predicateType": "https://sigstore.dev/cosign/sign/v1",
        "predicate": {},
    })
}

fn by_key(key: &KeyPair) -> Requirement {
    Requirement::Cosign(Signer::Key(pem(key)))
}

fn by_person(authority: &Authority) -> Requirement {
    Requirement::Cosign(Signer::Keyless(Keyless {
        issuer: PERSON.issuer.into(),
        identity: Pattern::Exact(PERSON.identity.into()),
        source_repository: None,
        trust_root: TrustRoot::Inline(authority.trusted_root()),
    }))
}

#[test]
fn signature_by_the_key_holds_in_both_layouts() {
    let key = KeyPair::generate_ecdsa_p256().unwrap();
    let tag = simple(&key, &simple_payload("registry.example/p", &image()));
    assert!(judge(by_key(&key), &tag).is_ok());
    let bundle = bundled(&key_bundle(&key, &statement(&image())));
    assert!(judge(by_key(&key), &bundle).is_ok());
}

#[test]
fn signature_of_another_image_is_refused_in_both_layouts() {
    let key = KeyPair::generate_ecdsa_p256().unwrap();
    let other = Digest::of(b"other");
    let tag = simple(&key, &simple_payload("registry.example/p", &other));
    let cause = refused(by_key(&key), &tag, other.as_str());
    assert_eq!(cause, FailureReason::SignatureInvalid);
    let bundle = bundled(&key_bundle(&key, &statement(&other)));
    let cause = refused(by_key(&key), &bundle, "not about");
    assert_eq!(cause, FailureReason::SignatureInvalid);
}

#[test]
fn signature_by_another_key_is_refused_in_both_layouts() {
    let key = KeyPair::generate_ecdsa_p256().unwrap();
    let other = KeyPair::generate_ecdsa_p256().unwrap();
    let tag = simple(&other, &simple_payload("registry.example/p", &image()));
    let bundle = bundled(&key_bundle(&other, &statement(&image())));
    for evidence in [tag, bundle] {
        let cause = refused(by_key(&key), &evidence, "does not hold");
        assert_eq!(cause, FailureReason::SignatureInvalid);
    }
}

#[test]
fn tampered_payload_is_refused_in_both_layouts() {
    let key = KeyPair::generate_ecdsa_p256().unwrap();
    let mut tag = simple(
        &key,
        &simple_payload("registry.example/p", &Digest::of(b"x")),
    );
    tag.simple_signatures[0].payload = base64(&simple_payload("registry.example/p", &image()));
    let mut bundle = key_bundle(&key, &statement(&Digest::of(b"x")));
    bundle["dsseEnvelope"]["payload"] = base64(statement(&image()).to_string().as_bytes()).into();
    for evidence in [tag, bundled(&bundle)] {
        let cause = refused(by_key(&key), &evidence, "does not hold");
        assert_eq!(cause, FailureReason::SignatureInvalid);
    }
}

#[test]
fn payload_of_another_type_is_no_signature() {
    let key = KeyPair::generate_ecdsa_p256().unwrap();
    let payload = simple_payload("registry.example/p", &image());
    let mut payload: Value = serde_json::from_slice(&payload).unwrap();
    payload["critical"]["type"] = "atomic container signature".into();
    let cause = refused(
        by_key(&key),
        &simple(&key, payload.to_string().as_bytes()),
        "atomic",
    );
    assert_eq!(cause, FailureReason::SignatureInvalid);
}

/// Who signs a bill of materials does not vouch for the image.
#[test]
fn other_signed_statements_about_the_image_are_no_signature() {
    let key = KeyPair::generate_ecdsa_p256().unwrap();
    let mut other = statement(&image());
    other["predicateType"] = "https://cyclonedx.org/bom".into();
    let evidence = bundled(&key_bundle(&key, &other));
    let cause = refused(by_key(&key), &evidence, "no cosign signature");
    assert_eq!(cause, FailureReason::SignatureMissing);
}

fn payload(image: &Digest) -> Vec<u8> {
    simple_payload("registry.example/p", image)
}

fn vouched(signature: SimpleSignature) -> Evidence {
    Evidence {
        simple_signatures: vec![signature],
        ..evidence()
    }
}

#[test]
fn signature_by_an_identity_below_a_tag_holds_for_its_image_alone() {
    let authority = Authority::new();
    let good = vouched(authority.detached(PERSON, &payload(&image())));
    let proofs = judge(by_person(&authority), &good).unwrap();
    assert_eq!(proofs[0].signer, PERSON.identity);
    let other = Digest::of(b"other");
    let replayed = vouched(authority.detached(PERSON, &payload(&other)));
    let cause = refused(by_person(&authority), &replayed, other.as_str());
    assert_eq!(cause, FailureReason::SignatureInvalid);
    let somebody = Person {
        identity: "https://git.example/mallory",
        ..PERSON
    };
    let theirs = vouched(authority.detached(somebody, &payload(&image())));
    let cause = refused(by_person(&authority), &theirs, "mallory");
    assert_eq!(cause, FailureReason::IdentityMismatch);
    let elsewhere = Person {
        issuer: "https://token.mallory.example",
        ..PERSON
    };
    let theirs = vouched(authority.detached(elsewhere, &payload(&image())));
    let cause = refused(by_person(&authority), &theirs, "mallory");
    assert_eq!(cause, FailureReason::IdentityMismatch);
}

#[test]
fn signature_below_a_tag_by_nobody_in_the_trust_root_is_refused() {
    let authority = Authority::new();
    let stranger = vouched(Authority::new().detached(PERSON, &payload(&image())));
    let cause = refused(by_person(&authority), &stranger, "");
    assert_eq!(cause, FailureReason::SignatureInvalid);
    // By a key, it says nothing of who signed.
    let key = KeyPair::generate_ecdsa_p256().unwrap();
    let by_a_key = simple(&key, &payload(&image()));
    let cause = refused(by_person(&authority), &by_a_key, "no cosign signature");
    assert_eq!(cause, FailureReason::SignatureMissing);
}

#[test]
fn tampered_and_late_signatures_below_a_tag_are_refused() {
    let authority = Authority::new();
    let good = authority.detached(PERSON, &payload(&image()));
    let other = authority.detached(PERSON, &payload(&Digest::of(b"other")));
    let (ours, theirs) = (
        good.vouched.clone().unwrap(),
        other.vouched.clone().unwrap(),
    );
    let moved = |from: &str, to: &str| LoggedCertificate {
        log_entry: ours.log_entry.replace(from, to),
        ..ours.clone()
    };
    let time = serde_json::from_str::<Value>(&ours.log_entry).unwrap()["Payload"]["integratedTime"]
        .to_string();
    let tampered = [
        (
            "payload",
            SimpleSignature {
                payload: other.payload.clone(),
                ..good.clone()
            },
        ),
        (
            "signature",
            SimpleSignature {
                signature: other.signature.clone(),
                ..good.clone()
            },
        ),
        (
            "entry of another signature",
            SimpleSignature {
                vouched: Some(LoggedCertificate {
                    log_entry: theirs.log_entry,
                    ..ours.clone()
                }),
                ..good.clone()
            },
        ),
        (
            "certificate of another signature",
            SimpleSignature {
                vouched: Some(LoggedCertificate {
                    certificate: theirs.certificate,
                    ..ours.clone()
                }),
                ..good.clone()
            },
        ),
        (
            "time",
            SimpleSignature {
                vouched: Some(moved(&time, "1700000000")),
                ..good.clone()
            },
        ),
        (
            "no entry",
            SimpleSignature {
                vouched: Some(moved(&ours.log_entry, "{}")),
                ..good.clone()
            },
        ),
        (
            "late",
            authority.detached_logged(PERSON, &payload(&image()), Duration::hours(1)),
        ),
    ];
    for (what, signature) in tampered {
        let judged = judge(by_person(&authority), &vouched(signature));
        let refusal = judged.expect_err(what);
        assert_eq!(
            refusal.reason,
            FailureReason::SignatureInvalid,
            "{what}: {refusal}"
        );
    }
}

#[test]
fn signature_by_an_identity_holds_for_its_image_alone() {
    let authority = Authority::new();
    let good = bundled(&authority.bundle(PERSON, &statement(&image())));
    let proofs = judge(by_person(&authority), &good).unwrap();
    assert_eq!(proofs[0].signer, PERSON.identity);
    let other = statement(&Digest::of(b"other"));
    let other = bundled(&authority.bundle(PERSON, &other));
    let cause = refused(by_person(&authority), &other, "does not match");
    assert_eq!(cause, FailureReason::SignatureInvalid);
    let somebody = Person {
        identity: "https://git.example/mallory",
        ..PERSON
    };
    let other = bundled(&authority.bundle(somebody, &statement(&image())));
    let cause = refused(by_person(&authority), &other, "mallory");
    assert_eq!(cause, FailureReason::IdentityMismatch);
}

#[test]
fn one_signature_that_holds_is_enough_among_others() {
    let key = KeyPair::generate_ecdsa_p256().unwrap();
    let other = KeyPair::generate_ecdsa_p256().unwrap();
    let payload = simple_payload("registry.example/p", &image());
    let mut evidence = simple(&other, &payload);
    let good = simple(&key, &payload).simple_signatures;
    evidence.simple_signatures.extend(good);
    assert!(judge(by_key(&key), &evidence).is_ok());
}

#[test]
fn package_of_no_oci_registry_has_no_cosign_signature() {
    let key = KeyPair::generate_ecdsa_p256().unwrap();
    let mut evidence = simple(&key, &simple_payload("registry.example/p", &image()));
    evidence.subject.source_digest = None;
    let cause = refused(by_key(&key), &evidence, "no OCI registry");
    assert_eq!(cause, FailureReason::SignatureMissing);
}
