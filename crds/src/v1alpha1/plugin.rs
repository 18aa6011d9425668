//! `PaperclipPlugin`: a plugin's package, manifest and config.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Condition, HostReference};

/// A plugin that runs in a pod of its own.
#[derive(CustomResource, KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "plugins.paperclip.ing",
    version = "v1alpha1",
    kind = "PaperclipPlugin",
    plural = "paperclipplugins",
    singular = "paperclipplugin",
    shortname = "pcp",
    category = "paperclip",
    namespaced,
    status = "PaperclipPluginStatus",
    doc = "PaperclipPlugin is a Paperclip plugin whose worker runs in a pod of its own.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].reason"
    ),
    printcolumn(name = "Plugin", type_ = "string", json_path = ".status.plugin.id"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.artifact.version"),
    printcolumn(
        name = "Digest",
        type_ = "string",
        json_path = ".status.artifact.digest",
        priority = 1
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].message",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.matches('^[a-z0-9]([-a-z0-9]{0,48}[a-z0-9])?$')")
        .message("name must be a DNS label of at most 50 characters, since names of Services are made from it")
)]
#[serde(rename_all = "camelCase")]
pub struct PaperclipPluginSpec {
    /// Where the package comes from. Exactly one source.
    pub source: PluginSource,
    /// Fields of the plugin manifest that must be what the package says, so that a
    /// reviewer sees id, version and capabilities in Git. A field that differs stops
    /// the roll-out with reason `ManifestMismatch` and names the field. Objects are
    /// compared by the keys given; lists are compared whole, in any order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "free_object")]
    pub manifest: Option<Map<String, Value>>,
    /// Configuration of the plugin. No secret belongs here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<PluginConfig>,
    /// The host this plugin attaches to.
    pub host: HostReference,
}

/// An object whose content is the plugin's own affair.
fn free_object(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

/// Where a package comes from.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum PluginSource {
    /// A package of an npm registry.
    Npm(NpmSource),
}

/// A package of the npm registry that the platform is installed with.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NpmSource {
    /// Name of the package, with its scope if it has one.
    #[schemars(
        length(min = 1, max = 214),
        regex(pattern = r"^(@[a-z0-9~-][a-z0-9._~-]*/)?[a-z0-9~-][a-z0-9._~-]*$")
    )]
    pub package: String,
    /// Exact version, as in `1.2.3`.
    #[schemars(
        length(min = 5, max = 256),
        regex(
            pattern = r"^(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$"
        )
    )]
    pub version: String,
    /// A `package-lock.json` for the whole dependency tree, in a ConfigMap of this
    /// namespace. Default: the package's own `npm-shrinkwrap.json`, else the lock
    /// recorded when this version was first packed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<ConfigMapKey>,
}

/// A key of a ConfigMap in the same namespace.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapKey {
    /// Name of the ConfigMap.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Key in the ConfigMap.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// Configuration of a plugin.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PluginConfig {
    /// What the worker reads where a company has no value of its own.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schemars(schema_with = "free_object")]
    pub default: Map<String, Value>,
}

/// What was observed of a plugin.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PaperclipPluginStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`, `Reconciling` and `Stalled` with kstatus meaning, and one condition a stage.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Name of the packing request that the package's own fault made fail. It is not tried
    /// again; a change of source or lock is another request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_request: Option<String>,
    /// The artifact that the source resolved to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<ArtifactStatus>,
    /// What the package's manifest says, in short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<PluginSummary>,
    /// Activation number of the pod template that was applied last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation: Option<i64>,
    /// One printed word in Paperclip's vocabulary: installed, ready, disabled, error,
    /// upgrade_pending or uninstalled. Nothing reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifecycle: Option<String>,
}

/// An artifact in the store.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactStatus {
    /// Name of the packing request that made it.
    #[serde(default)]
    pub request: String,
    /// Origin, as in `npm:paperclip-plugin-example@1.2.3`.
    pub source: String,
    /// Version of the package.
    pub version: String,
    /// Repository in the store, without the store's address.
    pub repository: String,
    /// Digest of the OCI image, `sha256:` and 64 hex digits.
    pub digest: String,
    /// Content of the marker file in the artifact, checked before a worker starts.
    pub marker: String,
    /// Size of the packed layers in bytes.
    pub size_bytes: i64,
    /// When the operator saw the artifact in the store first, as RFC 3339.
    pub observed_at: String,
}

/// The manifest of a plugin in short.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PluginSummary {
    /// `id` of the manifest, Paperclip's plugin key.
    pub id: String,
    /// `version` of the manifest.
    pub version: String,
    /// `displayName` of the manifest.
    pub display_name: String,
    /// Capabilities that the manifest asks for.
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// Tools that the manifest declares.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<DeclaredTool>,
    /// Jobs that the manifest declares.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub jobs: Vec<DeclaredJob>,
    /// Webhooks that the manifest declares.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub webhooks: Vec<DeclaredWebhook>,
}

/// A tool of a plugin.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeclaredTool {
    /// Name without the plugin's prefix.
    pub name: String,
}

/// A job of a plugin.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeclaredJob {
    /// Key of the job.
    pub key: String,
    /// Cron schedule in UTC, absent for a job that is only triggered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
}

/// A webhook of a plugin.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeclaredWebhook {
    /// Key of the endpoint.
    pub key: String,
}

impl PaperclipPlugin {
    /// Namespace and name of the host this plugin attaches to.
    #[must_use]
    pub fn host_reference(&self) -> (String, String) {
        let own = self.metadata.namespace.clone().unwrap_or_default();
        let host = &self.spec.host;
        (host.namespace.clone().unwrap_or(own), host.name.clone())
    }

    /// The condition of this type, if it was written yet.
    #[must_use]
    pub fn condition(&self, type_: super::ConditionType) -> Option<&Condition> {
        let conditions = &self.status.as_ref()?.conditions;
        conditions.iter().find(|c| c.type_ == type_.to_string())
    }
}
