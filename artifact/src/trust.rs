//! Trust: whether an artifact carries the signatures that an administrator asks for.
//!
//! Everything here is a pure function over bytes and a time: [`Evidence`] is what a
//! registry said of a package when it was packed, a [`Policy`] what must hold of it, and
//! [`check`] decides. Nothing is asked of the network, so an artifact of the store can be
//! judged again at any time, by another policy and with every registry away.

pub mod cosign;
pub mod cosign_tag;
mod detached;
pub mod evidence;
mod identity;
mod keys;
pub mod npm;
pub mod platform;
mod sigstore;
pub mod verification;

use serde::{Deserialize, Serialize};

use crate::failure::FailureReason;

pub use evidence::{Evidence, Subject};
pub use identity::{Keyless, Pattern, TrustRoot};
pub use keys::{InvalidSigningKey, PublicKey, SigningKey};

/// A requirement that does not hold.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The reason in one word.
    pub reason: FailureReason,
    /// What was looked at, what was found and what was wanted.
    pub message: String,
}

impl Refusal {
    fn new(reason: FailureReason, message: impl Into<String>) -> Self {
        // Much of it may come from a certificate or a registry.
        let message: String = message.into();
        let message = message.chars().filter(|c| !c.is_control()).take(1000);
        Self {
            reason,
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
    /// The requirements.
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
            return Err(Refusal::new(FailureReason::SignatureMissing, message));
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
    let rank = |refusal: &Refusal| match refusal.reason {
        FailureReason::PolicyInvalid => 0,
        FailureReason::IdentityMismatch => 1,
        FailureReason::KeyExpired => 2,
        FailureReason::SignatureInvalid => 3,
        FailureReason::SignatureMissing => 4,
        // No check gives another.
        _ => 5,
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
    Err(refusal.unwrap_or_else(|| Refusal::new(FailureReason::SignatureMissing, missing())))
}
