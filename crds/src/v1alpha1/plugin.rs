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
        name = "Revision",
        type_ = "integer",
        json_path = ".status.activeRevision.number"
    ),
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
        .message("name must be a DNS label of at most 50 characters, since names of Services are made from it"),
    validation = Rule::new("!has(self.spec.source.configMap) || has(self.spec.manifest)")
        .message("spec.manifest is required with spec.source.configMap, whose file has no plugin manifest of its own")
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
    /// Configuration of the plugin. No secret belongs here. A change reaches the running
    /// worker without a restart, after the plugin manifest's `instanceConfigSchema` and the
    /// worker's own `validateConfig` have accepted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<PluginConfig>,
    /// Values from Secrets of this namespace. They are held by the sidecar alone: the worker
    /// gets one where it asks for it, and no host ever does. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub secrets: Vec<PluginSecret>,
    /// The host this plugin attaches to.
    pub host: HostReference,
    /// How a new revision replaces the one that runs.
    #[serde(default)]
    pub upgrade: UpgradePolicy,
    /// How the worker runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<WorkerSpec>,
    /// True stops the plugin's pods and leaves everything else as it is. Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
    /// How many superseded or failed revisions are kept beside the active one. Default: 5.
    #[serde(default = "default_history")]
    #[schemars(range(min = 1, max = 100))]
    pub revision_history_limit: i32,
}

fn default_history() -> i32 {
    5
}

/// How a worker runs.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkerSpec {
    /// Where the plugin's pods may connect to, beside name lookups and the artifact store.
    /// Hosts dial the pods, so a plugin that talks to its host alone needs nothing here.
    /// It takes a cluster network that enforces NetworkPolicy; see `EgressEnforced`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub egress: Vec<EgressRule>,
}

/// Addresses and ports that are open.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EgressRule {
    /// Addresses, as in `203.0.113.0/24`.
    #[schemars(length(min = 1, max = 49))]
    pub cidr: String,
    /// Addresses of `cidr` that stay closed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 49)))]
    pub except: Vec<String>,
    /// Open ports. Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub ports: Vec<EgressPort>,
}

/// A port.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EgressPort {
    /// Number of the port.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// Default: `TCP`.
    #[serde(default)]
    pub protocol: PortProtocol,
}

/// Transport protocols.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum PortProtocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

/// How a new revision replaces the one that runs.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpgradePolicy {
    /// Whether the old pods serve until the new ones work. Default: `Overlap`.
    #[serde(default)]
    pub strategy: UpgradeStrategy,
    /// Seconds in which a revision must come to serve, counted from its creation. Default: 300.
    #[serde(default = "default_deadline")]
    #[schemars(range(min = 5, max = 86400))]
    pub progress_deadline_seconds: i32,
    /// What happens when it does not. Default: `RollBack`.
    #[serde(default)]
    pub on_failure: FailurePolicy,
}

fn default_deadline() -> i32 {
    300
}

impl Default for UpgradePolicy {
    fn default() -> Self {
        Self {
            strategy: UpgradeStrategy::default(),
            progress_deadline_seconds: default_deadline(),
            on_failure: FailurePolicy::default(),
        }
    }
}

/// Whether two revisions of a plugin may run at the same time.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub enum UpgradeStrategy {
    /// The old pods serve until the new ones work.
    #[default]
    Overlap,
    /// The old pods stop first, for plugins that hold something only one process may hold.
    Replace,
}

/// What happens to a revision that does not come to serve in time.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub enum FailurePolicy {
    /// The revision that served last takes its place again. The failed one is not tried
    /// again until the resource asks for something else.
    #[default]
    RollBack,
    /// Everything stays as it is, for a person to look at.
    Freeze,
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
    /// A worker of one file, which depends on nothing, in a ConfigMap of this namespace. Its plugin
    /// manifest is `spec.manifest`, whole. Read again within half a minute after a change; the
    /// version in the manifest must change with it. At most about 120 KiB.
    ConfigMap(ConfigMapKey),
}

/// A package of the npm registry that the platform is installed with.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.version) != has(self.range)")
    .message("exactly one of version and range is required"))]
pub struct NpmSource {
    /// Name of the package, with its scope if it has one.
    #[schemars(
        length(min = 1, max = 214),
        regex(pattern = r"^(@[a-z0-9~-][a-z0-9._~-]*/)?[a-z0-9~-][a-z0-9._~-]*$")
    )]
    pub package: String,
    /// Exact version, as in `1.2.3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 5, max = 256),
        regex(
            pattern = r"^(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$"
        )
    )]
    pub version: Option<String>,
    /// Versions as npm writes them, such as `^1.2.0`, or a dist-tag such as `latest`. What it
    /// stands for is in `status.resolution`. With `lock` it stands for the version in the lock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 128),
        regex(pattern = r"^[0-9A-Za-z.*^~<>=|_-][0-9A-Za-z.*^~<>=| +_-]*$")
    )]
    pub range: Option<String>,
    /// Seconds after which the registry is asked again what `range` stands for. The annotation
    /// `plugins.paperclip.ing/reconcile-requested-at` asks at once. Default: 3600.
    #[serde(default = "default_resolve_interval")]
    #[schemars(range(min = 60, max = 2_592_000))]
    pub resolve_interval_seconds: i32,
    /// A `package-lock.json` for the whole dependency tree, in a ConfigMap of this
    /// namespace. Default: the package's own `npm-shrinkwrap.json`, else the lock
    /// recorded when this version was first packed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<ConfigMapKey>,
}

fn default_resolve_interval() -> i32 {
    3600
}

impl NpmSource {
    /// `package@version`, or `package@range`.
    #[must_use]
    pub fn asked(&self) -> String {
        let wanted = self.version.as_ref().or(self.range.as_ref());
        let wanted = wanted.map(String::as_str).unwrap_or_default();
        format!("{}@{wanted}", self.package)
    }
}

impl PaperclipPlugin {
    /// What its packing Jobs are about: `package@version` and, of a range, `package@range`.
    #[must_use]
    pub fn packages(&self) -> Vec<String> {
        let source = match &self.spec.source {
            PluginSource::Npm(source) => source,
            PluginSource::ConfigMap(_) => {
                let field = |name| self.spec.manifest.as_ref()?.get(name)?.as_str();
                let named = field("id").zip(field("version"));
                return named
                    .map(|(id, version)| format!("{id}@{version}"))
                    .into_iter()
                    .collect();
            }
        };
        let asked = source.asked();
        let resolution = self
            .status
            .as_ref()
            .and_then(|status| status.resolution.as_ref());
        let resolved = resolution
            .filter(|resolution| resolution.source == asked)
            .map(|resolution| format!("{}@{}", source.package, resolution.version));
        [Some(asked), resolved].into_iter().flatten().collect()
    }
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
    /// What the worker reads. Its keys win over those of `defaultFrom`, at the top level.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schemars(schema_with = "free_object")]
    pub default: Map<String, Value>,
    /// Keys of ConfigMaps of this namespace that hold an object as JSON or YAML. Later ones win over
    /// earlier ones, at the top level. Read again within half a minute after a change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub default_from: Vec<ConfigMapKey>,
}

/// A value from a Secret, for the worker alone.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.use != 'Value' || has(self.configPath)")
    .message("configPath is required with use: Value"))]
pub struct PluginSecret {
    /// Names the value in this resource, and as `secretId` where the worker resolves it.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub name: String,
    /// Where the value is.
    pub secret_ref: SecretKey,
    /// Where in the config the value belongs, as a JSON pointer (RFC 6901): `/smtp/password`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 256), regex(pattern = r"^(/([^~/]|~[01])+)+$"))]
    pub config_path: Option<String>,
    /// What stands at `configPath`. Default: `Reference`.
    #[serde(default)]
    pub r#use: SecretUse,
}

/// How the worker comes to the value of a Secret.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub enum SecretUse {
    /// Config holds a `secret_ref`, which the worker hands to `secrets.resolve`.
    #[default]
    Reference,
    /// Config, as the worker reads it, holds the value itself.
    Value,
}

/// A key of a Secret in the same namespace, which must carry the label
/// `plugins.paperclip.ing/allow-plugins: "true"`.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKey {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Key in the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
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
    /// What a range or a dist-tag stood for when the registry was last asked. It is here
    /// before any of it rolls out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolution: Option<ResolutionStatus>,
    /// The artifact that the source resolved to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<ArtifactStatus>,
    /// What became of the check of the artifact's signatures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<VerificationStatus>,
    /// What the package's manifest says, in short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<PluginSummary>,
    /// Activation number of the pod template that was applied last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation: Option<i64>,
    /// The revision that serves, or served last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_revision: Option<RevisionStatus>,
    /// The revision that is to take its place, or that failed to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_revision: Option<RevisionStatus>,
    /// The highest number that a revision was given. No number is given twice, also when
    /// revisions were deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_revision: Option<i64>,
    /// Capabilities that the first revision was granted. They are what is granted where
    /// `spec.manifest.capabilities` says nothing, also when that revision was deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256), inner(length(max = 128)))]
    pub implicit_grant: Option<Vec<String>>,
    /// Value of the annotation `plugins.paperclip.ing/reconcile-requested-at` that was acted on last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_reconcile_at: Option<String>,
    /// One printed word in Paperclip's vocabulary: installed, ready, disabled, error,
    /// upgrade_pending or uninstalled. Nothing reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifecycle: Option<String>,
}

/// What a range or a dist-tag stands for.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResolutionStatus {
    /// What was asked, as in `paperclip-plugin-example@^1.2.0`.
    pub source: String,
    /// Exact version.
    pub version: String,
    /// npm's integrity of that version.
    pub integrity: String,
    /// When the operator learnt it, as RFC 3339.
    pub resolved_at: String,
    /// The request, by annotation, that it was the answer to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// Why the last attempt to ask again failed. The version above goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// A revision in short.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RevisionStatus {
    /// Name of the `PaperclipPluginRevision`.
    pub name: String,
    /// Its number.
    pub number: i64,
    /// Capabilities that it asks for and that are not granted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub added_capabilities: Vec<String>,
}

/// The outcome of a check of signatures. It stands until artifact or policies change.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VerificationStatus {
    /// Name of the check, made from the artifact and from all that the policies ask.
    pub request: String,
    /// Why the artifact may not run, as a reason of the condition. Absent where it may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// Policies and signers, or what was found and what was wanted.
    #[schemars(length(max = 32768))]
    pub message: String,
    /// When it was checked, as RFC 3339.
    pub checked_at: String,
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
    /// Hash of the `spec.manifest` that this artifact was found to agree with, so that it is
    /// compared once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub agrees_with: Option<String>,
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
