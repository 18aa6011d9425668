//! What this host reads of a plugin manifest. The text itself is kept as it came.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::value::RawValue;

/// A plugin manifest, in the parts the host acts on.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// The plugin key.
    pub id: String,
    /// Version of the plugin.
    pub version: String,
    /// Version of the manifest format.
    pub api_version: u32,
    /// What the plugin may ask the host for.
    #[serde(default)]
    pub capabilities: BTreeSet<String>,
    /// Declared jobs.
    #[serde(default)]
    pub jobs: Vec<Job>,
    /// Declared webhooks.
    #[serde(default)]
    pub webhooks: Vec<Webhook>,
    /// Declared tools.
    #[serde(default)]
    pub tools: Vec<Tool>,
}

/// A declared job.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Job {
    /// Its key within the plugin.
    pub job_key: String,
    /// Five-field cron expression. A job without one runs when somebody triggers it.
    #[serde(default)]
    pub schedule: Option<String>,
}

/// A declared webhook.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Webhook {
    /// Its key within the plugin.
    pub endpoint_key: String,
}

/// A declared tool.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tool {
    /// Its name within the plugin.
    pub name: String,
    /// Name for people.
    pub display_name: String,
    /// What it does, for agents.
    pub description: String,
    /// JSON Schema of its parameters.
    pub parameters_schema: Box<RawValue>,
}

impl Manifest {
    /// Reads a manifest.
    pub fn parse(json: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(json)
    }

    /// Whether the plugin declares a webhook of this key.
    pub fn has_webhook(&self, endpoint_key: &str) -> bool {
        self.webhooks
            .iter()
            .any(|webhook| webhook.endpoint_key == endpoint_key)
    }

    /// Whether the plugin declares a tool of this name.
    pub fn has_tool(&self, name: &str) -> bool {
        self.tools.iter().any(|tool| tool.name == name)
    }
}
