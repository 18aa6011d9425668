//! The report of a packing step: the JSON in a container's termination message.

use std::path::{Path, PathBuf};

use paperclip_artifact_format::platform::Platform;
use paperclip_oci::digest::Digest;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub use paperclip_artifact::failure::{FailureClass, FailureReason};

/// The kubelet keeps no more than this of a termination message.
pub const MAX_BYTES: usize = 4096;

/// Exit code that says "the package is at fault, do not retry".
pub const PACKAGE_AT_FAULT: u8 = 10;

/// A failed step, in words for the person who reads the status.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct Failure {
    /// The cause in one word.
    pub reason: FailureReason,
    /// A sentence: what failed and on what.
    pub message: String,
}

/// The report of `fetch`.
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

/// The report of `evaluate`.
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

/// The report of `push`: the place of the artifact.
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

/// The report of one step.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum StepReport<T> {
    /// The step did its work.
    Ok(T),
    /// The step failed.
    Error(Failure),
}

impl<T: Serialize> StepReport<T> {
    /// The report as JSON of at most [`MAX_BYTES`]; a longer message is cut.
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
fn cut(failure: &Failure) -> StepReport<()> {
    let mut message: String = failure.message.chars().take(MAX_BYTES).collect();
    loop {
        let outcome = StepReport::Error(Failure {
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
pub fn parse<T: for<'de> Deserialize<'de>>(message: &str) -> Option<StepReport<T>> {
    serde_json::from_str(message).ok()
}

/// Reads only the failure of a termination message, whatever step wrote it.
#[must_use]
pub fn parse_failure(message: &str) -> Option<Failure> {
    match parse::<Box<RawValue>>(message)? {
        StepReport::Error(failure) => Some(failure),
        StepReport::Ok(_) => None,
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
            let message = StepReport::<Pushed>::Error(failure).to_message().unwrap();
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
