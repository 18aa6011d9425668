//! The inputs of an artifact, and the tags that follow from them.

use paperclip_artifact_format::platform::Platforms;
use paperclip_oci::digest::Digest;
use serde::{Deserialize, Serialize};

use crate::toolchain;

/// Media type and artifact type of a recorded lock.
pub const LOCK_MEDIA_TYPE: &str = "application/vnd.paperclip.lock.v1+json";

/// The registry, among the inputs, of a plugin of one file.
pub const CONFIG_MAP: &str = "configMap";

/// Names the packing code: a change of it that changes bytes changes this.
pub const PACKER: &str = concat!("paperclip-packer/", env!("CARGO_PKG_VERSION"), "+layout.1");

/// The inputs that decide every byte of an artifact, apart from lock and packer.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Inputs {
    /// URL of the registry, with a slash at the end.
    pub registry: String,
    /// Name of the package.
    pub package: String,
    /// Its exact version.
    pub version: String,
    /// npm's integrity of its tarball: `sha512-…`.
    pub integrity: String,
    /// Where the artifact is to run.
    #[serde(rename = "platform")]
    pub platforms: Platforms,
    /// Fingerprint of the tenant whose registry or credential this was, if not the platform's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Complete<'a> {
    #[serde(flatten)]
    inputs: &'a Inputs,
    lock_digest: &'a Digest,
    packer: &'a str,
    node: &'a str,
    npm: &'a str,
}

impl Inputs {
    /// Hash of the inputs without lock and packer: the key of a recorded lock. A lock that was
    /// asked for anew has a key of its own, so that nobody else's artifact moves with it.
    ///
    /// A lock is for every platform, so its key names the same one always: an artifact that is
    /// packed for more platforms is of the lock it had.
    #[must_use]
    pub fn lock_key(&self, relock: Option<&str>) -> Digest {
        let everywhere = Self {
            platforms: Platforms::default(),
            ..self.clone()
        };
        let text = serde_json::to_vec(&everywhere);
        let mut text = text.expect("a struct of strings is always JSON");
        text.extend(relock.unwrap_or_default().bytes());
        Digest::of(&text)
    }

    /// Hash of all inputs.
    #[must_use]
    pub fn complete(&self, lock_digest: &Digest) -> Digest {
        let complete = Complete {
            inputs: self,
            lock_digest,
            packer: PACKER,
            node: toolchain::NODE_VERSION,
            npm: toolchain::NPM_VERSION,
        };
        Digest::of(&serde_json::to_vec(&complete).expect("a struct of strings is always JSON"))
    }

    /// Tag of the recorded lock.
    #[must_use]
    pub fn lock_tag(&self, relock: Option<&str>) -> String {
        format!("lock-{}", self.lock_key(relock).short(16))
    }

    /// Tag of the image. A tag holds no `+` and at most 128 characters.
    #[must_use]
    pub fn image_tag(&self, lock_digest: &Digest) -> String {
        let version: String = self.version.replace('+', "_").chars().take(100).collect();
        format!("v{version}-{}", self.complete(lock_digest).short(16))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_was_asked_for_anew_has_a_key_of_its_own() {
        let inputs = Inputs {
            registry: "https://a/".into(),
            package: "p".into(),
            version: "1.0.0".into(),
            integrity: "sha512-x".into(),
            platforms: Platforms::default(),
            owner: None,
        };
        let tags = [None, Some("2026-01-01"), Some("2026-01-02")].map(|at| inputs.lock_tag(at));
        assert_ne!(tags[0], tags[1]);
        assert_ne!(tags[1], tags[2]);
        assert_eq!(tags[1], inputs.lock_tag(Some("2026-01-01")));
    }

    #[test]
    fn registry_is_part_of_the_key() {
        let inputs = |registry: &str| Inputs {
            registry: registry.into(),
            package: "p".into(),
            version: "1.0.0+build".into(),
            integrity: "sha512-x".into(),
            platforms: Platforms::default(),
            owner: None,
        };
        let lock = Digest::of(b"{}");
        assert_ne!(
            inputs("https://a/").image_tag(&lock),
            inputs("https://b/").image_tag(&lock)
        );
        assert!(
            inputs("https://a/")
                .image_tag(&lock)
                .starts_with("v1.0.0_build-")
        );
        let ours = Inputs {
            owner: Some("aa".into()),
            ..inputs("https://a/")
        };
        assert_ne!(ours.lock_tag(None), inputs("https://a/").lock_tag(None));
    }
}
