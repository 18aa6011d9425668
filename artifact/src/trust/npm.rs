//! What npm registries sign: name, version and integrity; and what builders state.

use serde::{Deserialize, Serialize};

use super::evidence::{Evidence, MAX_SIGNATURES, NpmSignature, Subject};
use super::identity::Keyless;
use super::keys::PublicKey;
use super::sigstore::{self, Content, Statement};
use super::{Refusal, any_of};
use crate::failure::FailureReason;
use crate::integrity;
use crate::sbom::purl;

/// Predicate types of statements about a build.
const PROVENANCE: [&str; 2] = [
    "https://slsa.dev/provenance/v1",
    "https://slsa.dev/provenance/v0.2",
];

/// A key of an npm registry.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Key {
    /// Its id, as signatures name it.
    pub keyid: String,
    /// The key: PEM, or base64 without a frame.
    pub key: String,
    /// Seconds since 1970. It counts for what was published before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<i64>,
}

/// Checks that one of the keys signed this very name, version and integrity.
pub(super) fn check_signature(
    keys: &[Key],
    evidence: &Evidence,
    now: i64,
) -> Result<String, Refusal> {
    let subject = &evidence.subject;
    let listed = &evidence.npm_signatures;
    let wanted: Vec<_> = listed
        .iter()
        .take(MAX_SIGNATURES)
        .filter_map(|signature| {
            let key = keys.iter().find(|key| key.keyid == signature.keyid)?;
            Some((signature, key))
        })
        .collect();
    let missing = || {
        let found: Vec<_> = listed.iter().map(|one| one.keyid.as_str()).collect();
        let found = match found.is_empty() {
            true => "no signature of the registry".into(),
            false => format!("signatures by {:.300}", found.join(", ")),
        };
        let wanted: Vec<_> = keys.iter().map(|key| key.keyid.as_str()).collect();
        format!("{subject} has {found}, wanted one by {}", wanted.join(", "))
    };
    any_of(&wanted, missing, |(signature, key)| {
        check_one(signature, key, subject, evidence.published.unwrap_or(now))
    })
}

fn check_one(
    signature: &NpmSignature,
    key: &Key,
    subject: &Subject,
    published: i64,
) -> Result<String, Refusal> {
    let keyid = &key.keyid;
    let public = PublicKey::parse(&key.key)?;
    let signed = public.verify(signed_text(subject).as_bytes(), &signature.sig);
    signed.map_err(|why| {
        let message = format!("the signature of {subject} by {keyid} does not hold: {why}");
        Refusal::new(FailureReason::SignatureInvalid, message)
    })?;
    match key.expires {
        Some(expires) if published >= expires => {
            let message = format!(
                "{subject} was published at {published}, when {keyid} had expired at {expires}"
            );
            Err(Refusal::new(FailureReason::KeyExpired, message))
        }
        _ => Ok(keyid.clone()),
    }
}

/// What an npm registry signs.
fn signed_text(subject: &Subject) -> String {
    let Subject {
        package,
        version,
        integrity,
        ..
    } = subject;
    format!("{package}@{version}:{integrity}")
}

/// Checks that a builder with the wanted identity states to have built this very tarball.
pub(super) fn check_provenance(wanted: &Keyless, evidence: &Evidence) -> Result<String, Refusal> {
    let subject = &evidence.subject;
    let invalid = |message: String| Refusal::new(FailureReason::SignatureInvalid, message);
    let hash = integrity::sha512(&subject.integrity)
        .ok_or_else(|| invalid(format!("{subject} has no SHA-512")))?;
    let listed = &evidence.npm_attestations;
    let provenances: Vec<_> = listed
        .iter()
        .take(MAX_SIGNATURES)
        .map(|bundle| bundle.get().as_bytes())
        .filter(|bundle| names_provenance(bundle))
        .collect();
    let missing = || {
        let found = listed.len();
        format!("{subject} has no provenance ({found} other attestations), wanted one")
    };
    any_of(&provenances, missing, |bundle| {
        let verified = sigstore::by_identity(bundle, Content::Sha512(hash), wanted)?;
        check_statement(&verified.statement, subject, &hash)?;
        Ok(verified.signer)
    })
}

/// Whether a bundle claims to be about a build: others, as the registry's own publish
/// attestation, are signed by a key and are not looked at. Not verified.
fn names_provenance(bundle: &[u8]) -> bool {
    sigstore::claimed(bundle).is_some_and(|claimed| is_provenance(&claimed))
}

fn is_provenance(statement: &Statement) -> bool {
    PROVENANCE.contains(&statement.predicate_type.as_str())
}

/// One subject alone, with this package's URL and this tarball's hash together: two
/// subjects could lend each other what they lack.
fn check_statement(
    statement: &Statement,
    subject: &Subject,
    hash: &[u8; 64],
) -> Result<(), Refusal> {
    let invalid = |message: String| Err(Refusal::new(FailureReason::SignatureInvalid, message));
    if !is_provenance(statement) {
        let found = &statement.predicate_type;
        return invalid(format!("the statement is a {found}, wanted a provenance"));
    }
    let [stated] = statement.subject.as_slice() else {
        let found = statement.subject.len();
        return invalid(format!("the statement has {found} subjects, wanted one"));
    };
    let wanted = purl(&subject.package, &subject.version);
    if stated.name != wanted {
        let found = &stated.name;
        return invalid(format!("the statement is about {found}, wanted {wanted}"));
    }
    let found = stated.digest.get("sha512").map(String::as_str);
    if found != Some(hex::encode(hash).as_str()) {
        return invalid(format!(
            "the statement is about another tarball of {wanted}"
        ));
    }
    Ok(())
}
