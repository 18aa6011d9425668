//! Judges an artifact of the store by policies: a Job of one step, which asks nobody but the
//! store.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use paperclip_artifact::attachment::Kind;
use paperclip_artifact::inspect::{self, InspectError, Opened};
use paperclip_artifact::lock::Lock;
use paperclip_artifact::trust::evidence::{self, Evidence, Subject};
use paperclip_artifact::trust::verification::Verification;
use paperclip_artifact::trust::{Policy, Proof, Refusal, check};
use paperclip_error_chain::chain;
use paperclip_oci::canonical;
use paperclip_oci::client::{StoreClient, StoreError};
use paperclip_oci::digest::Digest;
use paperclip_oci::image::Descriptor;
use paperclip_oci::referrers;
use paperclip_oci::source::Source;
use paperclip_packing_api::report::{Failure, FailureReason};
use paperclip_packing_api::verification::{VerificationReport, VerifyRequest};

/// Most records of evidence that are read for one artifact: one for each time it was packed.
const MAX_EVIDENCE: usize = 8;

/// Most of a termination message that goes to proofs.
const MAX_SUMMARY: usize = 3000;

/// Why an artifact was not found trustworthy.
#[derive(Debug, thiserror::Error)]
pub enum JudgeError {
    /// A policy is not met.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The artifact or what is attached to it could not be read.
    #[error(transparent)]
    Inspect(#[from] InspectError),
    /// The record could not be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<&JudgeError> for Failure {
    fn from(error: &JudgeError) -> Self {
        let reason = match error {
            JudgeError::Refused(refusal) => refusal.reason,
            JudgeError::Inspect(InspectError::Read { .. }) | JudgeError::Store(_) => {
                FailureReason::StoreUnavailable
            }
            JudgeError::Inspect(_) => FailureReason::SignatureInvalid,
        };
        Self {
            reason,
            message: chain(error),
        }
    }
}

/// Judges the artifact and records which policies it met.
///
/// # Errors
/// When a policy is not met, or the store fails.
pub async fn judge(
    store: &StoreClient,
    request: &VerifyRequest,
) -> Result<VerificationReport, JudgeError> {
    let VerifyRequest {
        repository,
        digest,
        policies,
        copied,
        ..
    } = request;
    let source = Source::Store {
        client: store.clone(),
        repository: repository.clone(),
    };
    let opened = Opened::open(&source, digest).await?;
    let subject = Subject {
        source_digest: copied.then(|| digest.clone()),
        ..subject_of(&opened).await?
    };
    let evidence = evidence_of(&opened, subject).await?;
    let accepted = decide(policies, &evidence)?;
    record(store, repository, opened.descriptor(), &accepted).await?;
    Ok(VerificationReport {
        digest: digest.clone(),
        proofs: accepted.summary(),
    })
}

/// Policies that are met: what is recorded once the artifact is in the store.
#[derive(Clone, Debug)]
pub struct Accepted {
    policies: Digest,
    time: i64,
    proofs: Vec<Proof>,
}

/// Judges evidence now, wherever it was found.
///
/// # Errors
/// The first requirement that does not hold.
pub fn decide(policies: &[Policy], evidence: &Evidence) -> Result<Accepted, Refusal> {
    let time = now();
    Ok(Accepted {
        proofs: check(policies, evidence, time)?,
        policies: Digest::of(&canonical::compact(&serde_json::json!(policies))),
        time,
    })
}

impl Accepted {
    /// What holds and by whom, for people: as much as a termination message takes.
    #[must_use]
    pub fn summary(&self) -> Vec<String> {
        let mut left = MAX_SUMMARY;
        let mut told = Vec::new();
        for proof in &self.proofs {
            let one = describe(proof);
            let length = serde_json::to_string(&one).map_or(usize::MAX, |text| text.len());
            match left.checked_sub(length) {
                Some(rest) => left = rest,
                None => break,
            }
            told.push(one);
        }
        let untold = self.proofs.len() - told.len();
        told.extend((untold > 0).then(|| format!("and {untold} more")));
        told
    }
}

/// Writes down at the artifact which policies it met.
///
/// # Errors
/// When the store fails.
pub async fn record(
    store: &StoreClient,
    repository: &str,
    artifact: &Descriptor,
    Accepted {
        policies,
        time,
        proofs,
    }: &Accepted,
) -> Result<(), StoreError> {
    let record = Verification {
        artifact: artifact.digest.clone(),
        policies: policies.clone(),
        time: *time,
        proofs: proofs.clone(),
    };
    let content = Bytes::from(canonical::readable(&serde_json::json!(record)));
    let referrer = Kind::Verification.attach(artifact.clone(), content);
    referrers::push(store, repository, &artifact.digest, &[referrer]).await
}

fn describe(proof: &Proof) -> String {
    let Proof {
        policy,
        requirement,
        signer,
    } = proof;
    let signer: String = signer.chars().take(200).collect();
    format!("{policy}: {requirement} by {signer}")
}

/// All that was recorded of the artifact, together. More of it can only add signatures,
/// each of which must hold; of the times of publication the latest counts.
///
/// Two ways may lead to one artifact: packed here, and copied from where it was packed. What
/// was seen on one of them says nothing of the other.
async fn evidence_of(opened: &Opened<'_>, subject: Subject) -> Result<Evidence, JudgeError> {
    let mut found = Evidence {
        subject: subject.clone(),
        ..Evidence::default()
    };
    let listed = opened.referrers().await?;
    let listed = listed
        .iter()
        .filter(|listed| listed.artifact_type == evidence::MEDIA_TYPE);
    for listed in listed.take(MAX_EVIDENCE) {
        let manifest = opened.referrer(listed).await?;
        if inspect::kind(&manifest) != Some(Kind::Evidence) {
            continue;
        }
        let content = opened.content(listed, &manifest).await?;
        let one = Evidence::read(&content)?;
        if one.subject.source_digest != subject.source_digest {
            continue;
        }
        one.check_subject(&subject)?;
        found.published = found.published.max(one.published);
        found.npm_signatures.extend(one.npm_signatures);
        found.npm_attestations.extend(one.npm_attestations);
        found.simple_signatures.extend(one.simple_signatures);
        found.bundles.extend(one.bundles);
    }
    Ok(found)
}

/// What the artifact itself says it was made from.
pub(crate) async fn subject_of(opened: &Opened<'_>) -> Result<Subject, InspectError> {
    let facts = opened.facts().await?;
    let lock = Lock::parse(&facts.lock, &facts.package, &facts.version);
    let lock = lock.map_err(|e| opened.refused("the lock", e.to_string()))?;
    Ok(Subject {
        integrity: lock.integrity(&facts.package).unwrap_or_default().into(),
        package: facts.package,
        version: facts.version,
        source_digest: None,
    })
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}
