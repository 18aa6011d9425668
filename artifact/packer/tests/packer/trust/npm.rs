//! Signatures of a registry, and provenance.

use paperclip_artifact::failure::FailureReason;
use paperclip_artifact::trust::npm::Key;
use paperclip_artifact::trust::{
    Evidence, Keyless, Pattern, Requirement, Subject, TrustRoot, evidence::NpmSignature,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha512};
use sigstore_verify::crypto::KeyPair;
use time::Duration;

use super::authority::{Authority, Person, base64, pem, sign};
use super::{judge, raw, refused};

const WORKFLOW: &str = "https://git.example/acme/p/.github/workflows/release.yml@refs/heads/main";
const ISSUER: &str = "https://token.git.example";
const REPOSITORY: &str = "https://git.example/acme/p";
const BUILDER: Person<'static> = Person {
    identity: WORKFLOW,
    issuer: ISSUER,
    repository: REPOSITORY,
};

pub fn subject() -> Subject {
    Subject {
        package: "@acme/p".into(),
        version: "1.2.3".into(),
        integrity: format!("sha512-{}", base64(&Sha512::digest(b"tarball"))),
        source_digest: None,
    }
}

pub fn signed(key: &KeyPair, text: &str) -> Evidence {
    let sig = sign(key, text.as_bytes());
    Evidence {
        subject: subject(),
        npm_signatures: vec![NpmSignature {
            keyid: "SHA256:a".into(),
            sig,
        }],
        ..Evidence::default()
    }
}

pub fn text_of(subject: &Subject) -> String {
    let Subject {
        package,
        version,
        integrity,
        ..
    } = subject;
    format!("{package}@{version}:{integrity}")
}

pub fn by_key(key: &KeyPair, expires: Option<i64>) -> Requirement {
    let key = Key {
        keyid: "SHA256:a".into(),
        key: pem(key),
        expires,
    };
    Requirement::NpmSignature { keys: vec![key] }
}

#[test]
fn signature_of_the_registry_holds_for_its_package_and_names_the_key() {
    let key = KeyPair::generate_ecdsa_p256().unwrap();
    let evidence = signed(&key, &text_of(&subject()));
    let proofs = judge(by_key(&key, None), &evidence).unwrap();
    assert_eq!(proofs[0].signer, "SHA256:a");
    assert_eq!(proofs[0].policy, "p");
    let bare = base64(key.public_key_der().unwrap().as_bytes());
    let key = Key {
        keyid: "SHA256:a".into(),
        key: bare,
        expires: None,
    };
    assert!(judge(Requirement::NpmSignature { keys: vec![key] }, &evidence).is_ok());
}

#[test]
fn signature_replayed_from_another_package_version_or_tarball_is_refused() {
    let key = KeyPair::generate_ecdsa_p256().unwrap();
    let others = [
        Subject {
            package: "@acme/q".into(),
            ..subject()
        },
        Subject {
            version: "1.2.4".into(),
            ..subject()
        },
        Subject {
            integrity: format!("sha512-{}", base64(&Sha512::digest(b"other"))),
            ..subject()
        },
    ];
    for other in others {
        let evidence = signed(&key, &text_of(&other));
        let cause = refused(by_key(&key, None), &evidence, "does not hold");
        assert_eq!(cause, FailureReason::SignatureInvalid, "{other}");
    }
}

#[test]
fn signature_by_another_key_under_the_same_id_is_refused() {
    let (key, other) = (
        KeyPair::generate_ecdsa_p256().unwrap(),
        KeyPair::generate_ecdsa_p256().unwrap(),
    );
    let evidence = signed(&other, &text_of(&subject()));
    let cause = refused(by_key(&key, None), &evidence, "SHA256:a");
    assert_eq!(cause, FailureReason::SignatureInvalid);
}

#[test]
fn package_without_a_signature_or_by_unknown_keys_alone_is_refused() {
    let key = KeyPair::generate_ecdsa_p256().unwrap();
    let mut evidence = signed(&key, &text_of(&subject()));
    evidence.npm_signatures[0].keyid = "SHA256:b".into();
    let cause = refused(by_key(&key, None), &evidence, "SHA256:b");
    assert_eq!(cause, FailureReason::SignatureMissing);
    evidence.npm_signatures.clear();
    let cause = refused(by_key(&key, None), &evidence, "no signature");
    assert_eq!(cause, FailureReason::SignatureMissing);
}

#[test]
fn expired_key_counts_for_what_was_published_before_and_for_nothing_later() {
    let key = KeyPair::generate_ecdsa_p256().unwrap();
    let mut evidence = signed(&key, &text_of(&subject()));
    for (published, holds) in [(Some(99), true), (Some(100), false), (None, false)] {
        evidence.published = published;
        let requirement = by_key(&key, Some(100));
        if holds {
            assert!(judge(requirement, &evidence).is_ok());
        } else {
            let cause = refused(requirement, &evidence, "expired");
            assert_eq!(cause, FailureReason::KeyExpired);
        }
    }
}

#[test]
fn key_that_is_none_is_the_policys_fault() {
    let key = KeyPair::generate_ecdsa_p256().unwrap();
    let evidence = signed(&key, &text_of(&subject()));
    for text in ["", "nonsense", "AAAA", &"A".repeat(5000)] {
        let key = Key {
            keyid: "SHA256:a".into(),
            key: text.into(),
            expires: None,
        };
        let requirement = Requirement::NpmSignature { keys: vec![key] };
        let cause = refused(requirement, &evidence, "public key");
        assert_eq!(cause, FailureReason::PolicyInvalid);
    }
}

fn statement(name: &str, content: &[u8]) -> Value {
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{ "name": name, "digest": { "sha512": hex::encode(Sha512::digest(content)) } }],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {},
    })
}

fn honest() -> Value {
    statement("pkg:npm/%40acme/p@1.2.3", b"tarball")
}

fn attested(bundle: &Value) -> Evidence {
    Evidence {
        subject: subject(),
        npm_attestations: vec![raw(bundle)],
        ..Evidence::default()
    }
}

fn wanted(authority: &Authority) -> Keyless {
    Keyless {
        issuer: ISSUER.into(),
        identity: Pattern::Exact(WORKFLOW.into()),
        source_repository: Some(REPOSITORY.into()),
        trust_root: TrustRoot::Inline(authority.trusted_root()),
    }
}

#[test]
fn provenance_by_the_wanted_workflow_holds_and_names_it() {
    let authority = Authority::new();
    let evidence = attested(&authority.bundle(BUILDER, &honest()));
    let proofs = judge(Requirement::NpmProvenance(wanted(&authority)), &evidence).unwrap();
    assert_eq!(proofs[0].signer, WORKFLOW);
    let by_pattern = Keyless {
        identity: Pattern::Regexp(
            r"https://git\.example/acme/p/\.github/workflows/.*@refs/heads/main".into(),
        ),
        source_repository: None,
        ..wanted(&authority)
    };
    assert!(judge(Requirement::NpmProvenance(by_pattern), &evidence).is_ok());
}

#[test]
fn provenance_by_another_identity_issuer_or_repository_is_refused() {
    let authority = Authority::new();
    let evidence = attested(&authority.bundle(BUILDER, &honest()));
    let others = [
        Keyless {
            identity: Pattern::Exact(WORKFLOW.replace("main", "other")),
            ..wanted(&authority)
        },
        Keyless {
            // A pattern that would match a part.
            identity: Pattern::Regexp(r"https://git\.example/acme/p/".into()),
            ..wanted(&authority)
        },
        Keyless {
            issuer: "https://token.other.example".into(),
            ..wanted(&authority)
        },
        Keyless {
            source_repository: Some("https://git.example/acme/q".into()),
            ..wanted(&authority)
        },
    ];
    for other in others {
        let cause = refused(Requirement::NpmProvenance(other), &evidence, "");
        assert_eq!(cause, FailureReason::IdentityMismatch);
    }
}

#[test]
fn provenance_of_another_package_version_or_tarball_is_refused() {
    let authority = Authority::new();
    let names = ["pkg:npm/%40acme/q@1.2.3", "pkg:npm/%40acme/p@1.2.4", "p"];
    for name in names {
        let evidence = attested(&authority.bundle(BUILDER, &statement(name, b"tarball")));
        let requirement = Requirement::NpmProvenance(wanted(&authority));
        let cause = refused(requirement, &evidence, name);
        assert_eq!(cause, FailureReason::SignatureInvalid);
    }
    let other = statement("pkg:npm/%40acme/p@1.2.3", b"other");
    let evidence = attested(&authority.bundle(BUILDER, &other));
    let cause = refused(
        Requirement::NpmProvenance(wanted(&authority)),
        &evidence,
        "does not match",
    );
    assert_eq!(cause, FailureReason::SignatureInvalid);
}

/// The name of one subject and the hash of another do not add up to a provenance.
#[test]
fn two_subjects_do_not_lend_each_other_what_they_lack() {
    let authority = Authority::new();
    let mut two = statement("pkg:npm/%40acme/p@1.2.3", b"other");
    let lent = statement("pkg:npm/%40acme/q@1.2.3", b"tarball");
    two["subject"] = json!([two["subject"][0], lent["subject"][0]]);
    let evidence = attested(&authority.bundle(BUILDER, &two));
    let requirement = Requirement::NpmProvenance(wanted(&authority));
    assert_eq!(
        refused(requirement, &evidence, "2 subjects"),
        FailureReason::SignatureInvalid
    );
}

#[test]
fn tampered_payload_signature_log_or_certificate_is_refused() {
    let authority = Authority::new();
    let good = authority.bundle(BUILDER, &honest());
    let other = authority.bundle(BUILDER, &honest());
    let places = [
        "/dsseEnvelope/payload",
        "/dsseEnvelope/signatures/0/sig",
        "/verificationMaterial/certificate/rawBytes",
        "/verificationMaterial/tlogEntries/0",
        "/verificationMaterial/tlogEntries/0/canonicalizedBody",
        "/verificationMaterial/tlogEntries/0/inclusionPromise",
        "/verificationMaterial/tlogEntries/0/inclusionProof",
    ];
    for place in places {
        let mut tampered = good.clone();
        let with = match place {
            // Still the statement of this package, so that nothing but the signature tells.
            "/dsseEnvelope/payload" => {
                let mut changed = honest();
                changed["predicate"] = json!({ "more": true });
                Value::String(base64(changed.to_string().as_bytes()))
            }
            place => other.pointer(place).unwrap().clone(),
        };
        *tampered.pointer_mut(place).unwrap() = with;
        let requirement = Requirement::NpmProvenance(wanted(&authority));
        let cause = refused(requirement, &attested(&tampered), "");
        assert_eq!(cause, FailureReason::SignatureInvalid, "{place}");
    }
}

#[test]
fn bundle_without_a_log_entry_is_refused() {
    let authority = Authority::new();
    let mut bundle = authority.bundle(BUILDER, &honest());
    bundle["verificationMaterial"]["tlogEntries"] = json!([]);
    let requirement = Requirement::NpmProvenance(wanted(&authority));
    let cause = refused(requirement, &attested(&bundle), "");
    assert_eq!(cause, FailureReason::SignatureInvalid);
}

#[test]
fn certificate_that_had_expired_when_the_log_took_the_entry_in_is_refused() {
    let authority = Authority::new();
    let late = authority.bundle_logged(BUILDER, &honest(), Duration::minutes(11));
    let requirement = Requirement::NpmProvenance(wanted(&authority));
    let cause = refused(requirement, &attested(&late), "");
    assert_eq!(cause, FailureReason::SignatureInvalid);
}

#[test]
fn certificate_of_another_authority_is_refused() {
    let (authority, other) = (Authority::new(), Authority::new());
    let evidence = attested(&other.bundle(BUILDER, &honest()));
    let requirement = Requirement::NpmProvenance(wanted(&authority));
    assert_eq!(
        refused(requirement, &evidence, ""),
        FailureReason::SignatureInvalid
    );
    let public = Keyless {
        trust_root: TrustRoot::PublicGood,
        ..wanted(&authority)
    };
    let cause = refused(Requirement::NpmProvenance(public), &evidence, "");
    assert_eq!(cause, FailureReason::SignatureInvalid);
}

#[test]
fn other_statements_of_the_same_builder_are_no_provenance() {
    let authority = Authority::new();
    let mut other = honest();
    other["predicateType"] =
        "https://github.com/npm/attestation/tree/main/specs/publish/v0.1".into();
    let evidence = attested(&authority.bundle(BUILDER, &other));
    let requirement = Requirement::NpmProvenance(wanted(&authority));
    let cause = refused(requirement, &evidence, "no provenance");
    assert_eq!(cause, FailureReason::SignatureMissing);
}

#[test]
fn trust_root_that_is_none_is_the_policys_fault() {
    let authority = Authority::new();
    let evidence = attested(&authority.bundle(BUILDER, &honest()));
    for root in ["{}", "", &"x".repeat(200_000)] {
        let broken = Keyless {
            trust_root: TrustRoot::Inline(root.into()),
            ..wanted(&authority)
        };
        let cause = refused(Requirement::NpmProvenance(broken), &evidence, "trust root");
        assert_eq!(cause, FailureReason::PolicyInvalid);
    }
}

#[test]
fn recorded_evidence_of_another_artifact_is_not_taken() {
    let key = KeyPair::generate_ecdsa_p256().unwrap();
    let evidence = signed(&key, &text_of(&subject()));
    let text = evidence.to_bytes().unwrap();
    assert!(Evidence::parse(&text, &subject()).is_ok());
    let other = Subject {
        integrity: format!("sha512-{}", base64(&Sha512::digest(b"other"))),
        ..subject()
    };
    let refusal = Evidence::parse(&text, &other).unwrap_err();
    assert_eq!(refusal.reason, FailureReason::SignatureInvalid);
    assert!(Evidence::parse(&vec![b' '; 5 * 1024 * 1024], &subject()).is_err());
}
