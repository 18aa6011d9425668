//! Cosign signatures of OCI images, in both layouts that are met.
//!
//! Version 2 puts a payload that names the image's digest under the tag
//! `sha256-<hex>.sig`. Version 3 attaches a Sigstore bundle as a referrer; what is signed is
//! a statement about the digest. Both are checked, with a key and without one; without, version
//! 2 keeps certificate and log entry beside the signature.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use paperclip_oci::digest::Digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::evidence::{Evidence, LoggedCertificate, MAX_SIGNATURES, SimpleSignature};
use super::identity::Keyless;
use super::keys::PublicKey;
use super::sigstore::{self, Content, Statement};
use super::{Refusal, any_of, detached};

use crate::failure::FailureReason;

/// Type of the statement that stands for a signature. Others, such as a bill of materials,
/// are signed too and vouch for nothing.
const SIGNATURE_PREDICATE: &str = "https://sigstore.dev/cosign/sign/v1";

/// Type of the payload in the tag layout.
const PAYLOAD_TYPE: &str = "cosign container image signature";

/// Longest payload, in base64; those of cosign have 300 bytes and what people annotate.
pub(super) const MAX_PAYLOAD: usize = 64 * 1024;

/// Who must have signed an image.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Signer {
    /// Whoever has this key; PEM, or base64 without a frame.
    Key(String),
    /// An identity, by a certificate.
    Keyless(Keyless),
}

/// The tag under which version 2 keeps the signatures of an image.
#[must_use]
pub fn signature_tag(image: &Digest) -> String {
    format!("sha256-{}.sig", image.hex())
}

/// Checks that the wanted signer signed the source image.
pub(super) fn check(signer: &Signer, evidence: &Evidence) -> Result<String, Refusal> {
    let Some(image) = &evidence.subject.source_digest else {
        let subject = &evidence.subject;
        let message = format!(
            "{subject} comes from no OCI registry, wanted an image with a cosign signature"
        );
        return Err(Refusal::new(FailureReason::SignatureMissing, message));
    };
    match signer {
        Signer::Key(key) => by_key(&PublicKey::parse(key)?, image, evidence),
        Signer::Keyless(wanted) => by_identity(wanted, image, evidence),
    }
}

/// What may be the wanted signature: of the tag layout, or a bundle.
enum Candidate<'a, T> {
    Simple(T),
    Bundle(&'a [u8]),
}

fn by_key(key: &PublicKey, image: &Digest, evidence: &Evidence) -> Result<String, Refusal> {
    let simple = evidence.simple_signatures.iter().take(MAX_SIGNATURES);
    let candidates: Vec<_> = simple
        .map(Candidate::Simple)
        .chain(bundles(evidence).map(Candidate::Bundle))
        .collect();
    any_of(
        &candidates,
        || missing(image),
        |candidate| {
            match candidate {
                Candidate::Simple(signature) => check_simple(signature, key, image)?,
                Candidate::Bundle(bundle) => {
                    check_statement(&sigstore::by_key(bundle, key)?, image)?;
                }
            }
            Ok("key".into())
        },
    )
}

fn by_identity(wanted: &Keyless, image: &Digest, evidence: &Evidence) -> Result<String, Refusal> {
    let simple = evidence.simple_signatures.iter().take(MAX_SIGNATURES);
    let candidates: Vec<_> = simple
        .filter_map(|simple| Some(Candidate::Simple((simple, simple.vouched.as_ref()?))))
        .chain(bundles(evidence).map(Candidate::Bundle))
        .collect();
    any_of(
        &candidates,
        || missing(image),
        |candidate| match candidate {
            Candidate::Simple((signature, vouched)) => {
                simple_by_identity(signature, vouched, image, wanted)
            }
            Candidate::Bundle(bundle) => {
                let verified = sigstore::by_identity(bundle, content(image)?, wanted)?;
                check_statement(&verified.statement, image)?;
                Ok(verified.signer)
            }
        },
    )
}

fn simple_by_identity(
    signature: &SimpleSignature,
    vouched: &LoggedCertificate,
    image: &Digest,
    wanted: &Keyless,
) -> Result<String, Refusal> {
    let payload = payload_of(signature)?;
    let bundle = detached::bundle(&payload, &signature.signature, vouched)?;
    let content = Content::Sha256(Sha256::digest(&payload).into());
    let signer = sigstore::content_by_identity(&bundle, content, wanted)?;
    check_payload(&payload, image)?;
    Ok(signer)
}

/// Bundles that may stand for a signature.
fn bundles(evidence: &Evidence) -> impl Iterator<Item = &[u8]> {
    let bundles = evidence.bundles.iter().take(MAX_SIGNATURES);
    bundles
        .map(|bundle| bundle.get().as_bytes())
        .filter(|bundle| {
            let claimed = sigstore::claimed(bundle);
            claimed.is_none_or(|claimed| claimed.predicate_type == SIGNATURE_PREDICATE)
        })
}

fn missing(image: &Digest) -> String {
    format!("{image} has no cosign signature, wanted one")
}

fn content(image: &Digest) -> Result<Content, Refusal> {
    let hash = hex::decode(image.hex()).ok();
    let hash = hash.and_then(|hash| <[u8; 32]>::try_from(hash).ok());
    let broken = || {
        Refusal::new(
            FailureReason::SignatureInvalid,
            format!("{image} is no digest"),
        )
    };
    hash.map(Content::Sha256).ok_or_else(broken)
}

/// What cosign signs in the tag layout: see [`simple_payload`] for its shape.
pub(super) fn check_simple(
    signature: &SimpleSignature,
    key: &PublicKey,
    image: &Digest,
) -> Result<(), Refusal> {
    let payload = payload_of(signature)?;
    let held = key.verify(&payload, &signature.signature);
    held.map_err(|why| {
        let message = format!("the signature of {image} does not hold: {why}");
        Refusal::new(FailureReason::SignatureInvalid, message)
    })?;
    check_payload(&payload, image)
}

/// The signed text of a signature in the tag layout.
fn payload_of(signature: &SimpleSignature) -> Result<Vec<u8>, Refusal> {
    let invalid = |message: String| Refusal::new(FailureReason::SignatureInvalid, message);
    if signature.payload.len() > MAX_PAYLOAD {
        return Err(invalid("the payload is too long".into()));
    }
    let payload = STANDARD.decode(&signature.payload);
    payload.map_err(|e| invalid(format!("the payload is no base64: {e}")))
}

/// Checks that a signed text vouches for the image.
fn check_payload(payload: &[u8], image: &Digest) -> Result<(), Refusal> {
    let invalid = |message: String| Refusal::new(FailureReason::SignatureInvalid, message);
    let payload: Value = serde_json::from_slice(payload)
        .map_err(|e| invalid(format!("the payload cannot be read: {e}")))?;
    let critical = &payload["critical"];
    if critical["type"] != PAYLOAD_TYPE {
        return Err(invalid(format!(
            "the payload is a {:.100}, wanted a {PAYLOAD_TYPE}",
            critical["type"].to_string()
        )));
    }
    let found = &critical["image"]["docker-manifest-digest"];
    if found != image.as_str() {
        return Err(invalid(format!(
            "the signature is of {:.100}, wanted {image}",
            found.to_string()
        )));
    }
    Ok(())
}

/// The text that is signed in the tag layout.
#[must_use]
pub fn simple_payload(reference: &str, image: &Digest) -> Vec<u8> {
    annotated_payload(reference, image, &Value::Null)
}

/// The same with what else the signer says, which `cosign verify -a` compares.
pub(super) fn annotated_payload(reference: &str, image: &Digest, optional: &Value) -> Vec<u8> {
    let payload = serde_json::json!({
        "critical": {
            "identity": { "docker-reference": reference },
            "image": { "docker-manifest-digest": image.as_str() },
            "type": PAYLOAD_TYPE,
        },
        "optional": optional,
    });
    paperclip_oci::canonical::compact(&payload)
}

fn check_statement(statement: &Statement, image: &Digest) -> Result<(), Refusal> {
    let invalid = |message: String| Err(Refusal::new(FailureReason::SignatureInvalid, message));
    if statement.predicate_type != SIGNATURE_PREDICATE {
        let found = &statement.predicate_type;
        return invalid(format!("the statement is a {found}, wanted a signature"));
    }
    let is_meant = |hash: Option<&String>| hash.is_some_and(|hash| hash == image.hex());
    if !statement
        .subject
        .iter()
        .any(|subject| is_meant(subject.digest.get("sha256")))
    {
        return invalid(format!("the statement is not about {image}"));
    }
    Ok(())
}
