//! What a pod says about its plugin when a session begins.

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

/// Release that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("read the plugin manifest of the pod's hello")]
pub struct ReleaseError(#[source] serde_json::Error);

impl Release {
    /// Reads the release.
    pub fn read(
        manifest_json: &[u8],
        artifact_digest: String,
        activation: u64,
    ) -> Result<Self, ReleaseError> {
        Ok(Self {
            manifest: Manifest::parse(manifest_json).map_err(ReleaseError)?,
            manifest_json: serde_json::from_slice(manifest_json).map_err(ReleaseError)?,
            artifact_digest,
            activation,
        })
    }
}
