//! Config and secrets as the operator hands them to the sidecars of a plugin: `config.json`
//! in the Secret `pcp-<plugin>-config`, mounted into sidecars alone.
//!
//! One Secret serves all pods of a plugin, so each activation finds its own entry. An entry
//! holds what is in force and what is to take its place; a sidecar moves to the latter only
//! after the worker has accepted it, and says so in `WatchStatus`.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use paperclip_protocol::limits::Limits;

/// Name of the file in the config folder.
pub const FILE_NAME: &str = "config.json";

/// Config for every activation of a plugin that may have pods.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DeliveredConfig {
    /// By activation number.
    #[serde(default)]
    pub activations: BTreeMap<u64, ActivationConfig>,
    /// Limits of the plugin's calls, whatever runs.
    #[serde(default)]
    pub limits: Limits,
}

/// Config for the pods of one activation. At least one of the two is there.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ActivationConfig {
    /// The config that a worker of this activation accepted before. A worker that starts gets it first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<ConfigRevision>,
    /// The config that the worker is to accept. A worker without an active config serves only
    /// once it has accepted this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<ConfigRevision>,
}

/// Config and secrets of one revision.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ConfigRevision {
    /// Number of the revision.
    pub revision: u64,
    /// The config as hosts see it: references instead of secret values.
    #[serde(default)]
    pub config: Map<String, Value>,
    /// Values for the worker.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<DeliveredSecret>,
}

/// A secret value and what it is for.
#[derive(Clone, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct DeliveredSecret {
    /// The `secretId` of a `secret_ref` that stands for it.
    pub name: String,
    /// JSON pointer at which the config that the worker reads holds the value itself.
    /// Absent for a value that is only resolved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fill: Option<String>,
    /// The value.
    pub value: String,
}

impl fmt::Debug for DeliveredSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("DeliveredSecret")
            .field("name", &self.name)
            .field("fill", &self.fill)
            .finish_non_exhaustive()
    }
}
