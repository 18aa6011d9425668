//! `PaperclipPluginRevision`: what one state of a plugin consisted of.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{HostReference, PluginSummary, WorkerResources};

/// One state of a plugin: artifact, config, secrets and grant. Written once by the operator,
/// owned by the plugin, and never changed.
///
/// Config and secrets are named by hash and version only; their content is in the Secret
/// that the plugin's sidecars read, for as long as a pod may need it.
#[derive(CustomResource, KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "plugins.paperclip.ing",
    version = "v1alpha1",
    kind = "PaperclipPluginRevision",
    plural = "paperclippluginrevisions",
    singular = "paperclippluginrevision",
    shortname = "pcr",
    category = "paperclip",
    namespaced,
    status = "PaperclipPluginRevisionStatus",
    doc = "PaperclipPluginRevision is one state of a plugin: artifact, config, secrets and grant.",
    printcolumn(name = "Plugin", type_ = "string", json_path = ".spec.plugin"),
    printcolumn(name = "Revision", type_ = "integer", json_path = ".spec.number"),
    printcolumn(name = "State", type_ = "string", json_path = ".status.state"),
    printcolumn(name = "Version", type_ = "string", json_path = ".spec.artifact.version"),
    printcolumn(
        name = "Digest",
        type_ = "string",
        json_path = ".spec.artifact.digest",
        priority = 1
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.message",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.spec == oldSelf.spec").message("a revision cannot be changed")
)]
#[serde(rename_all = "camelCase")]
pub struct PaperclipPluginRevisionSpec {
    /// Name of the plugin.
    #[schemars(length(min = 1, max = 50))]
    pub plugin: String,
    /// Number among the plugin's revisions; grows by one with each.
    #[schemars(range(min = 1))]
    pub number: i64,
    /// What runs.
    pub artifact: RevisionArtifact,
    /// SHA-256 of the plugin manifest in canonical JSON, `sha256:` and 64 hex digits.
    #[schemars(length(max = 71))]
    pub manifest_digest: String,
    /// What the plugin manifest says, in short.
    pub summary: PluginSummary,
    /// Activation number of the pod template this revision runs in. Revisions that share it
    /// differ in config or secrets only.
    #[schemars(range(min = 1))]
    pub activation: i64,
    /// Hash of everything the pod template is made from, the activation's number apart.
    #[schemars(length(min = 1, max = 64))]
    pub template_hash: String,
    /// Hash of the config, with references instead of secret values.
    #[schemars(length(min = 1, max = 64))]
    pub config_hash: String,
    /// Versions of the Secrets that its values were read from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub secrets: Vec<SecretVersion>,
    /// What the plugin may do to its host.
    pub grant: Grant,
    /// The `PaperclipHost` it is attached to, with its namespace. Absent from revisions of
    /// releases that did not write it down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostReference>,
    /// CPU and memory of its worker, where the plugin says anything of them.
    #[serde(default, skip_serializing_if = "WorkerResources::is_default")]
    pub resources: WorkerResources,
}

/// The artifact of a revision.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RevisionArtifact {
    /// Origin, as in `npm:paperclip-plugin-example@1.2.3`.
    #[schemars(length(max = 1024))]
    pub source: String,
    /// Version of the package.
    #[schemars(length(max = 256))]
    pub version: String,
    /// Repository in the store, without the store's address.
    #[schemars(length(max = 256))]
    pub repository: String,
    /// Digest of the OCI image, `sha256:` and 64 hex digits.
    #[schemars(length(max = 71))]
    pub digest: String,
    /// Content of the marker file in the artifact, or that of each platform.
    #[schemars(length(max = 512))]
    pub marker: String,
    /// Id of the platform's key that signed it. Where it is there, pods check the signature
    /// before they run the artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71))]
    pub signed_by: Option<String>,
    /// Size of the packed layers in bytes.
    pub size_bytes: i64,
    /// Where it runs, as in `linux/amd64`, or `any`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 64)))]
    pub platforms: Vec<String>,
}

/// A Secret as it was read.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretVersion {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// A keyed fingerprint of the keys in use, which says nothing of their values.
    #[schemars(length(max = 128))]
    pub version: String,
}

/// What a plugin may do to its host.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Grant {
    /// Where the grant comes from.
    pub origin: GrantOrigin,
    /// Capabilities that are granted, in order.
    #[serde(default)]
    #[schemars(length(max = 256), inner(length(max = 128)))]
    pub capabilities: Vec<String>,
}

/// Where a grant comes from.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub enum GrantOrigin {
    /// `spec.manifest.capabilities` of the plugin.
    Pinned,
    /// What the plugin's first revision asked for.
    FirstRevision,
}

/// What became of a revision.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PaperclipPluginRevisionStatus {
    /// One printed word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<RevisionState>,
    /// Why it failed, in one word: a reason of the plugin's conditions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub reason: Option<String>,
    /// Why it failed: the root cause, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32768))]
    pub message: Option<String>,
    /// When it could begin, as RFC 3339; its deadline is counted from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolled_out_at: Option<String>,
    /// When it served first, as RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub served_at: Option<String>,
}

/// What became of a revision.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub enum RevisionState {
    /// It is being rolled out.
    Pending,
    /// It serves.
    Active,
    /// It served and another took its place.
    Superseded,
    /// It did not come to serve in time, or its config was refused.
    Failed,
}
