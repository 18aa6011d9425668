//! What a pod says about its plugin when a session begins.

use paperclip_plugin_manifest::releases;
use paperclip_protocol::PAPERCLIP_RELEASE;
use serde_json::value::RawValue;

use crate::manifest::Manifest;

/// Manifest and artifact of one pod template.
#[derive(Debug)]
pub struct Release {
    /// The manifest, parsed.
    pub manifest: Manifest,
    /// The manifest as it came.
    pub manifest_json: Box<RawValue>,
    /// What runs.
    pub artifact_digest: String,
    /// Activation number of the pod template.
    pub activation: u64,
}

/// A release that cannot be read, or is of a plugin that this host does not take.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// The plugin manifest cannot be read.
    #[error("read the plugin manifest of the pod's hello")]
    Manifest(#[source] serde_json::Error),
    /// The plugin manifest needs a later release of Paperclip than this host stands for.
    #[error("take the plugin of the pod's hello")]
    Paperclip(#[from] releases::ReleaseError),
}

impl Release {
    /// Reads the release.
    ///
    /// # Errors
    /// When the manifest cannot be read, or is for a later release of Paperclip.
    pub fn read(
        manifest_json: &[u8],
        artifact_digest: String,
        activation: u64,
    ) -> Result<Self, ReleaseError> {
        let whole = serde_json::from_slice(manifest_json).map_err(ReleaseError::Manifest)?;
        releases::check(&whole, PAPERCLIP_RELEASE)?;
        Ok(Self {
            manifest: Manifest::parse(manifest_json).map_err(ReleaseError::Manifest)?,
            manifest_json: serde_json::from_slice(manifest_json).map_err(ReleaseError::Manifest)?,
            artifact_digest,
            activation,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(slot: &str) -> Result<Release, ReleaseError> {
        let manifest = serde_json::json!({
            "id": "x", "version": "1.0.0", "apiVersion": 1, "ui": {"slots": [{"type": slot}]},
        });
        Release::read(manifest.to_string().as_bytes(), String::new(), 1)
    }

    #[test]
    fn plugin_for_a_later_release_of_paperclip_is_not_attached() {
        assert!(read("page").is_ok());
        let refused = read("appShellOverlay").unwrap_err();
        let said = paperclip_error_chain::chain(&refused);
        assert!(said.contains(PAPERCLIP_RELEASE), "{said}");
        assert!(said.contains("ui.slots[0].type"), "{said}");
    }
}
