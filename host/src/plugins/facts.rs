//! What a pod says about its plugin when a session begins.

use serde_json::value::RawValue;

use crate::manifest::Manifest;

/// Manifest, config and artifact of one pod template.
#[derive(Debug)]
pub struct Facts {
    /// The manifest, parsed.
    pub manifest: Manifest,
    /// The manifest as it came.
    pub manifest_json: Box<RawValue>,
    /// The default of `spec.config`.
    pub config_json: Box<RawValue>,
    /// What runs.
    pub artifact_digest: String,
    /// Activation number of the pod template.
    pub activation: u64,
}

/// Facts that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("read {what} of the pod's hello")]
pub struct FactsError {
    what: &'static str,
    source: serde_json::Error,
}

impl Facts {
    /// Reads the facts.
    pub fn read(
        manifest_json: &[u8],
        config_json: &[u8],
        artifact_digest: String,
        activation: u64,
    ) -> Result<Self, FactsError> {
        let failed = |what| move |source| FactsError { what, source };
        let config_json = if config_json.is_empty() {
            b"{}"
        } else {
            config_json
        };
        Ok(Self {
            manifest: Manifest::parse(manifest_json).map_err(failed("the plugin manifest"))?,
            manifest_json: serde_json::from_slice(manifest_json)
                .map_err(failed("the plugin manifest"))?,
            config_json: serde_json::from_slice(config_json).map_err(failed("the config"))?,
            artifact_digest,
            activation,
        })
    }

    /// Whether the plugin was given a config.
    pub fn has_config(&self) -> bool {
        let is_punctuation = |c: char| "{}".contains(c) || c.is_whitespace();
        !self
            .config_json
            .get()
            .trim_matches(is_punctuation)
            .is_empty()
    }
}
