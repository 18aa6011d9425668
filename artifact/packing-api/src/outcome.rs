//! What a packing step reports: the JSON in a container's termination message.

use std::path::{Path, PathBuf};

use paperclip_artifact_format::platform::Platform;
use paperclip_oci::digest::Digest;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The kubelet keeps no more than this of a termination message.
pub const MAX_BYTES: usize = 4096;

/// Exit code that says "the package is at fault, do not retry".
pub const PACKAGE_AT_FAULT: u8 = 10;

/// Reasons of a failed step; each is the text of a `Reason` of the API.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub enum FailureReason {
    /// The package is not in the registry.
    PackageNotFound,
    /// The package is in the registry, and this version of it is not.
    VersionNotFound,
    /// The npm registry could not be reached, or failed.
    RegistryUnavailable,
    /// The npm registry refused the platform's credential, or wants one.
    RegistryAccessDenied,
    /// The package breaks a rule of packing; the message names the rule.
    PackageRefused,
    /// The package has no plugin manifest.
    ManifestMissing,
    /// The plugin manifest cannot be evaluated, or breaks a rule of Paperclip.
    ManifestInvalid,
    /// The worker file that the plugin manifest names is not in the package.
    WorkerFileMissing,
    /// Packing failed for another cause.
    PackingFailed,
    /// The artifact store could not be reached or refused us.
    StoreUnavailable,
    /// The artifact carries no signature of the kind that a policy wants.
    SignatureMissing,
    /// A signature does not hold, or is of something else.
    SignatureInvalid,
    /// A signature holds, and somebody else made it than a policy wants.
    IdentityMismatch,
    /// The key that signed had expired when the package was published.
    KeyExpired,
    /// A key, pattern or trust root of a policy cannot be read.
    PolicyInvalid,
}

impl FailureReason {
    /// Whether trying the same again can only fail again.
    #[must_use]
    pub fn is_fault_of_package(self) -> bool {
        matches!(
            self,
            Self::PackageNotFound
                | Self::VersionNotFound
                | Self::PackageRefused
                | Self::ManifestMissing
                | Self::ManifestInvalid
                | Self::WorkerFileMissing
        ) || self.is_of_trust()
    }

    /// Whether a policy is not met, or is none.
    #[must_use]
    pub fn is_of_trust(self) -> bool {
        matches!(
            self,
            Self::SignatureMissing
                | Self::SignatureInvalid
                | Self::IdentityMismatch
                | Self::KeyExpired
                | Self::PolicyInvalid
        )
    }
}

/// A failed step, in words for the person who reads the status.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct Failure {
    /// The cause in one word.
    pub reason: FailureReason,
    /// A sentence: what failed and on what.
    pub message: String,
}

/// What `fetch` reports.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Fetched {
    /// Integrity of the package's tarball, as npm writes it.
    pub integrity: String,
    /// Digest of the lock the tree was installed from.
    pub lock_digest: Digest,
    /// Number of packages in the tree.
    pub packages: usize,
}

/// What `evaluate` reports.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Evaluated {
    /// `id` of the plugin manifest.
    pub plugin_id: String,
    /// `version` of the plugin manifest.
    pub plugin_version: String,
    /// Digest of the canonical manifest.
    pub manifest_digest: Digest,
}

/// What `push` reports: where the artifact is.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Pushed {
    /// Repository in the store, without the store's address.
    pub repository: String,
    /// Digest of the OCI image, or of the index of images.
    pub digest: Digest,
    /// Content of the artifact's marker file; of an index that of each platform.
    pub marker: String,
    /// Size of the packed layers in bytes.
    pub size_bytes: u64,
    /// Digest of the lock the tree was installed from.
    pub lock_digest: Digest,
    /// Platforms it is for; none where it runs on every one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<Platform>,
}

/// What `push` reports in a Job: where the artifact is, and what was found on the way there.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Published {
    /// Where it is.
    #[serde(flatten)]
    pub pushed: Pushed,
    /// Which policies it met and by whom, for people; none where none asks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub proofs: Vec<String>,
    /// Id of the platform's key that signed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_by: Option<Digest>,
}

/// The outcome of one step.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum StepOutcome<T> {
    /// The step did its work.
    Ok(T),
    /// The step failed.
    Error(Failure),
}

impl<T: Serialize> StepOutcome<T> {
    /// The outcome as JSON of at most [`MAX_BYTES`]; a longer message is cut.
    ///
    /// # Errors
    /// When a success does not fit, which none of this crate's does.
    pub fn to_message(&self) -> Result<String, serde_json::Error> {
        let text = serde_json::to_string(self)?;
        match self {
            Self::Error(failure) if text.len() > MAX_BYTES => serde_json::to_string(&cut(failure)),
            _ => Ok(text),
        }
    }
}

/// Cuts the message until the JSON fits; escapes make its length depend on its content.
fn cut(failure: &Failure) -> StepOutcome<()> {
    let mut message: String = failure.message.chars().take(MAX_BYTES).collect();
    loop {
        let outcome = StepOutcome::Error(Failure {
            reason: failure.reason,
            message: format!("{message}…"),
        });
        match serde_json::to_string(&outcome) {
            Ok(text) if text.len() > MAX_BYTES && !message.is_empty() => {
                let keep = message.chars().count() * 9 / 10;
                message = message.chars().take(keep).collect();
            }
            _ => return outcome,
        }
    }
}

/// Reads the termination message of any step. `None` when it is not one of ours, as when
/// the kubelet ended the container.
#[must_use]
pub fn parse<T: for<'de> Deserialize<'de>>(message: &str) -> Option<StepOutcome<T>> {
    serde_json::from_str(message).ok()
}

/// Reads only the failure of a termination message, whatever step wrote it.
#[must_use]
pub fn parse_failure(message: &str) -> Option<Failure> {
    match parse::<Box<RawValue>>(message)? {
        StepOutcome::Error(failure) => Some(failure),
        StepOutcome::Ok(_) => None,
    }
}

/// The file a container writes its termination message to.
#[must_use]
pub fn termination_log() -> PathBuf {
    Path::new("/dev/termination-log").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longest_message_fits_and_parses_again() {
        for text in [
            "x".repeat(100_000),
            "\u{1}".repeat(5000),
            "é\n\"".repeat(5000),
        ] {
            let failure = Failure {
                reason: FailureReason::PackageRefused,
                message: text,
            };
            let message = StepOutcome::<Pushed>::Error(failure).to_message().unwrap();
            assert!(message.len() <= MAX_BYTES);
            let failure = parse_failure(&message).unwrap();
            assert_eq!(failure.reason, FailureReason::PackageRefused);
        }
    }

    #[test]
    fn message_that_is_not_ours_is_no_outcome() {
        assert_eq!(parse::<Pushed>("OOMKilled"), None);
        assert_eq!(parse_failure(r#"{"ok":{}}"#), None);
    }
}
