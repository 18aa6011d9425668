//! The only module that knows the Sigstore library: bundles in, a statement out.
//!
//! The library's interface moves often. It is given bounded bytes, and of what it says only
//! the facts that it has verified are read.

use serde::Deserialize;
use sigstore_verify::trust_root::{SIGSTORE_PRODUCTION_TRUSTED_ROOT, TrustedRoot};
use sigstore_verify::types::{ArtifactDigest, Bundle, HashAlgorithm, SignatureContent};
use sigstore_verify::{Error, VerificationPolicy, VerificationResult, Verifier};

use super::Refusal;
use super::evidence::MAX_BUNDLE;
use super::identity::{Keyless, TrustRoot};
use super::keys::PublicKey;

use crate::failure::FailureReason;

/// Longest text of a trust root; the public one has 7 KiB.
const MAX_TRUST_ROOT: usize = 128 * 1024;

/// What the bundle must be about.
#[derive(Clone, Copy, Debug)]
pub(super) enum Content {
    /// SHA-256 of the content.
    Sha256([u8; 32]),
    /// SHA-512 of the content.
    Sha512([u8; 64]),
}

impl Content {
    fn digest(self) -> Result<ArtifactDigest, Refusal> {
        let digest = match self {
            Self::Sha256(hash) => ArtifactDigest::new(HashAlgorithm::Sha2256, hash.to_vec()),
            Self::Sha512(hash) => ArtifactDigest::new(HashAlgorithm::Sha2512, hash.to_vec()),
        };
        digest.map_err(|e| Refusal::new(FailureReason::SignatureInvalid, e.to_string()))
    }
}

/// What is read of a verified in-toto statement.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Statement {
    /// Kind of the statement.
    pub predicate_type: String,
    /// What it is about.
    pub subject: Vec<StatementSubject>,
}

/// One subject of a statement.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct StatementSubject {
    /// Name: for npm a package URL.
    #[serde(default)]
    pub name: String,
    /// Digests by algorithm.
    #[serde(default)]
    pub digest: std::collections::BTreeMap<String, String>,
}

/// A bundle whose certificate, log entry and signature hold.
pub(super) struct Verified {
    /// Identity in the certificate.
    pub signer: String,
    /// What was signed.
    pub statement: Statement,
}

/// Checks a statement that a key signed. No log and no time is asked for: the key is the
/// administrator's word. The caller checks what the statement is about.
pub(super) fn by_key(bundle: &[u8], key: &PublicKey) -> Result<Statement, Refusal> {
    let invalid = |message: String| Refusal::new(FailureReason::SignatureInvalid, message);
    let bundle = parse(bundle)?;
    let SignatureContent::DsseEnvelope(envelope) = &bundle.content else {
        return Err(invalid("the bundle signs no statement".into()));
    };
    key.verify_bytes(&envelope.pae(), envelope.signature.sig.as_bytes())
        .map_err(|why| invalid(format!("the bundle's signature does not hold: {why}")))?;
    statement(&bundle)
}

/// Checks a statement that somebody with a certificate signed: chain, time, log and identity.
pub(super) fn by_identity(
    bundle: &[u8],
    content: Content,
    wanted: &Keyless,
) -> Result<Verified, Refusal> {
    let bundle = parse(bundle)?;
    let signer = identified(&bundle, content, wanted)?;
    let statement = statement(&bundle)?;
    Ok(Verified { signer, statement })
}

/// The same where the content itself was signed, and no statement about it. Gives the identity
/// in the certificate.
pub(super) fn content_by_identity(
    bundle: &[u8],
    content: Content,
    wanted: &Keyless,
) -> Result<String, Refusal> {
    let bundle = parse(bundle)?;
    let SignatureContent::MessageSignature(_) = &bundle.content else {
        let message = "the bundle signs a statement, wanted the content itself";
        return Err(Refusal::new(FailureReason::SignatureInvalid, message));
    };
    identified(&bundle, content, wanted)
}

fn identified(bundle: &Bundle, content: Content, wanted: &Keyless) -> Result<String, Refusal> {
    let root = root_of(&wanted.trust_root)?;
    // Which identity is checked below; the library knows equality alone.
    let mut policy = VerificationPolicy::any_identity().require_issuer(&wanted.issuer);
    if root.ctlogs.is_empty() {
        // A trust root without certificate logs, as a small installation of one's own.
        policy = policy.skip_sct();
    }
    let verifier = Verifier::new(&root).map_err(refusal_of_root)?;
    let result = verifier.verify(content.digest()?, bundle, &policy);
    check_identity(&result.map_err(|e| refusal(&e))?, wanted)
}

fn check_identity(result: &VerificationResult, wanted: &Keyless) -> Result<String, Refusal> {
    let mismatch = |message: String| Refusal::new(FailureReason::IdentityMismatch, message);
    let found = result.identity().map_or("", |identity| identity.as_str());
    if !result.certificate_verified() || !result.tlog_verified() {
        let message = "the certificate or its log entry was not verified";
        return Err(Refusal::new(FailureReason::SignatureInvalid, message));
    }
    if !wanted.identity.matches(found)? {
        let wanted = &wanted.identity;
        return Err(mismatch(format!("signed by `{found}`, wanted {wanted}")));
    }
    if let Some(repository) = &wanted.source_repository {
        let claims = result.certificate().map(|found| &found.ci_claims);
        let found = claims.and_then(|claims| claims.source_repository_uri.as_deref());
        if found != Some(repository) {
            let found = found.unwrap_or("no repository");
            return Err(mismatch(format!("built from {found}, wanted {repository}")));
        }
    }
    Ok(found.to_owned())
}

fn parse(bundle: &[u8]) -> Result<Bundle, Refusal> {
    let invalid = |message: String| Refusal::new(FailureReason::SignatureInvalid, message);
    if bundle.len() > MAX_BUNDLE {
        let found = bundle.len();
        return Err(invalid(format!(
            "the bundle has {found} bytes, wanted at most {MAX_BUNDLE}"
        )));
    }
    let text = std::str::from_utf8(bundle).map_err(|e| invalid(e.to_string()))?;
    Bundle::from_json(text).map_err(|e| invalid(format!("the bundle cannot be read: {e}")))
}

/// The statement in a bundle, which the caller has verified.
fn statement(bundle: &Bundle) -> Result<Statement, Refusal> {
    let invalid = |message: String| Refusal::new(FailureReason::SignatureInvalid, message);
    let SignatureContent::DsseEnvelope(envelope) = &bundle.content else {
        return Err(invalid("the bundle signs no statement".into()));
    };
    let parsed = serde_json::from_slice(envelope.payload.as_bytes());
    parsed.map_err(|e| invalid(format!("the statement cannot be read: {e}")))
}

/// Whether a trust root can be used.
pub(super) fn check_root(root: &TrustRoot) -> Result<(), Refusal> {
    let verifier = Verifier::new(&root_of(root)?);
    verifier.map(|_| ()).map_err(refusal_of_root)
}

fn root_of(root: &TrustRoot) -> Result<TrustedRoot, Refusal> {
    match root {
        TrustRoot::PublicGood => parse_root(SIGSTORE_PRODUCTION_TRUSTED_ROOT),
        TrustRoot::Inline(text) => parse_root(text),
    }
}

fn parse_root(text: &str) -> Result<TrustedRoot, Refusal> {
    if text.len() > MAX_TRUST_ROOT {
        let message = format!(
            "the trust root has {} bytes, wanted at most {MAX_TRUST_ROOT}",
            text.len()
        );
        return Err(Refusal::new(FailureReason::PolicyInvalid, message));
    }
    TrustedRoot::from_json(text).map_err(refusal_of_root)
}

fn refusal_of_root(error: impl std::fmt::Display) -> Refusal {
    let message = format!("cannot use the trust root: {error}");
    Refusal::new(FailureReason::PolicyInvalid, message)
}

fn refusal(error: &Error) -> Refusal {
    let cause = match error {
        Error::IdentityMismatch { .. } | Error::IssuerMismatch { .. } => {
            FailureReason::IdentityMismatch
        }
        Error::InvalidTrustRoot(_) | Error::TrustRoot(_) | Error::TrustedCertificate(_) => {
            FailureReason::PolicyInvalid
        }
        _ => FailureReason::SignatureInvalid,
    };
    Refusal::new(cause, error.to_string())
}

/// The statement that a bundle claims to carry, unverified: good for choosing among
/// bundles, and for nothing else.
pub(super) fn claimed(bundle: &[u8]) -> Option<Statement> {
    statement(&parse(bundle).ok()?).ok()
}
