//! Trust: whether an artifact carries the signatures that an administrator asks for.
//!
//! Everything here is a pure function over bytes and a time: [`Evidence`] is what a
//! registry said of a package when it was packed, a [`Policy`] what must hold of it, and
//! [`check`] decides. Nothing is asked of the network, so an artifact of the store can be
//! judged again at any time, by another policy and with every registry away.

pub mod cosign;
mod detached;
pub mod evidence;
mod identity;
mod keys;
pub mod npm;
pub mod platform;
pub mod record;
mod sigstore;
pub mod tagged;

use serde::{Deserialize, Serialize};

pub use evidence::{Evidence, Subject};
pub use identity::{Keyless, Pattern, TrustRoot};
pub use keys::{InvalidSigningKey, PublicKey, SigningKey};

/// Why an artifact is not trusted; each is the text of a `Reason` of the API.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, Hash)]
pub enum Cause {
    /// It carries no signature of the wanted kind.
    SignatureMissing,
    /// A signature is there and does not hold, or is of something else.
    SignatureInvalid,
    /// A signature holds and somebody else made it.
    IdentityMismatch,
    /// The key was no longer to be used when the package was published.
    KeyExpired,
    /// A key, pattern or trust root of the policy cannot be read.
    PolicyInvalid,
}

/// A requirement that does not hold.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The cause in one word.
    pub cause: Cause,
    /// What was looked at, what was found and what was wanted.
    pub message: String,
}

impl Refusal {
    fn new(cause: Cause, message: impl Into<String>) -> Self {
        // Much of it may come from a certificate or a registry.
        let message: String = message.into();
        let message = message.chars().filter(|c| !c.is_control()).take(1000);
        Self {
            cause,
            message: message.collect(),
        }
    }
}

/// What one policy asks of an artifact; all of it must hold.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Policy {
    /// Its name, for messages and records.
    pub name: String,
    /// What must hold.
    pub require: Vec<Requirement>,
}

/// One thing an artifact must carry.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Requirement {
    /// The npm registry's signature over name, version and integrity.
    NpmSignature {
        /// Keys of the registry; one of them must have signed.
        keys: Vec<npm::Key>,
    },
    /// A statement of where and how the package was built.
    NpmProvenance(Keyless),
    /// A cosign signature of the source image.
    Cosign(cosign::Signer),
}

/// A requirement that holds, and by whom.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Proof {
    /// Name of the policy.
    pub policy: String,
    /// `npmSignature`, `npmProvenance` or `cosign`.
    pub requirement: String,
    /// Id of the key, or identity of the certificate.
    pub signer: String,
}

/// Checks every requirement of every policy. `now` is in seconds since 1970; it matters
/// only where the registry told no time of publication.
///
/// # Errors
/// The first requirement that does not hold, with the name of its policy.
pub fn check(policies: &[Policy], evidence: &Evidence, now: i64) -> Result<Vec<Proof>, Refusal> {
    let mut proofs = Vec::new();
    for policy in policies {
        for requirement in &policy.require {
            let checked = requirement.check(evidence, now);
            let signer = checked.map_err(|refusal| Refusal {
                message: format!("policy {}: {}", policy.name, refusal.message),
                ..refusal
            })?;
            proofs.push(Proof {
                policy: policy.name.clone(),
                requirement: requirement.name().into(),
                signer,
            });
        }
    }
    Ok(proofs)
}

impl Requirement {
    /// Its name, as in the resource.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::NpmSignature { .. } => "npmSignature",
            Self::NpmProvenance(_) => "npmProvenance",
            Self::Cosign(_) => "cosign",
        }
    }

    /// Whether it asks what an npm registry said of a package.
    #[must_use]
    pub fn is_of_npm(&self) -> bool {
        matches!(self, Self::NpmSignature { .. } | Self::NpmProvenance(_))
    }

    fn check(&self, evidence: &Evidence, now: i64) -> Result<String, Refusal> {
        let subject = &evidence.subject;
        if self.is_of_npm() && subject.source_digest.is_some() {
            let message = format!(
                "{subject} was packed elsewhere: nobody here saw its tree come from that package, wanted {}",
                self.name()
            );
            return Err(Refusal::new(Cause::SignatureMissing, message));
        }
        match self {
            Self::NpmSignature { keys } => npm::check_signature(keys, evidence, now),
            Self::NpmProvenance(wanted) => npm::check_provenance(wanted, evidence),
            Self::Cosign(signer) => cosign::check(signer, evidence),
        }
    }
}

/// Of several signatures that do not hold, the one that tells most: somebody else's before
/// an expired key, and that before a broken one.
fn most_telling(refusals: impl IntoIterator<Item = Refusal>) -> Option<Refusal> {
    let rank = |refusal: &Refusal| match refusal.cause {
        Cause::PolicyInvalid => 0,
        Cause::IdentityMismatch => 1,
        Cause::KeyExpired => 2,
        Cause::SignatureInvalid => 3,
        Cause::SignatureMissing => 4,
    };
    refusals.into_iter().min_by_key(rank)
}

/// The first that holds, else the refusal that tells most, else `missing`.
fn any_of<T, S>(
    candidates: &[T],
    missing: impl FnOnce() -> String,
    check: impl Fn(&T) -> Result<S, Refusal>,
) -> Result<S, Refusal> {
    let mut refusals = Vec::new();
    for candidate in candidates {
        match check(candidate) {
            Ok(signer) => return Ok(signer),
            Err(refusal) => refusals.push(refusal),
        }
    }
    let refusal = most_telling(refusals);
    Err(refusal.unwrap_or_else(|| Refusal::new(Cause::SignatureMissing, missing())))
}
