//! Facts of a pod for its sidecar, from the operator: `facts.json`, an annotation of the pod
//! template that the downward API mounts. It never changes for a pod.

use serde::{Deserialize, Serialize};

/// Name of the file in the facts folder.
pub const FILE_NAME: &str = "facts.json";

/// Facts about a plugin pod that its sidecar cannot see for itself. Never holds a secret.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Facts {
    /// Namespace of the `PaperclipPlugin`.
    pub plugin_namespace: String,
    /// Name of the `PaperclipPlugin`.
    pub plugin_name: String,
    /// UID of the `PaperclipPlugin`; the worker's `PAPERCLIP_PLUGIN_ID`.
    pub plugin_uid: String,
    /// Activation number of this pod template.
    pub activation: u64,
    /// Digest of the artifact, `sha256:` and 64 hex digits.
    pub artifact_digest: String,
    /// Expected content of the artifact's marker file.
    pub marker: String,
    /// The one host that may hold sessions with this pod.
    pub host: HostFacts,
    /// Capabilities that are granted. A call that needs another is refused.
    pub granted: Vec<String>,
    /// `instanceInfo` of the worker's `initialize`.
    pub instance: InstanceFacts,
}

/// Names the host of a plugin.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct HostFacts {
    /// Namespace of the `PaperclipHost`.
    pub namespace: String,
    /// Name of the `PaperclipHost`.
    pub name: String,
}

/// `instanceInfo` as the worker receives it.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct InstanceFacts {
    /// Names the deployment of the host: `<namespace>/<name>`.
    pub instance_id: String,
    /// Version of the host's protocol, semver.
    pub host_version: String,
    /// `local_trusted` or `authenticated`.
    pub deployment_mode: String,
    /// `private` or `public`.
    pub deployment_exposure: String,
}
