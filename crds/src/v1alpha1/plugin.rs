//! `PaperclipPlugin`: a plugin's package, manifest and config.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Condition, HostReference, PluginLimits, WorkerResources};

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
        .message("spec.manifest is required with spec.source.configMap, whose file has no plugin manifest of its own"),
    validation = Rule::new("self.spec.upgrade.strategy != 'Replace' || !has(self.spec.worker) || self.spec.worker.replicas == 1")
        .message("spec.worker.replicas must be 1 with spec.upgrade.strategy: Replace, which is for what only one process may hold")
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
    /// Limits of the plugin's calls, in each of its pods. Default: the platform's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<PluginLimits>,
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
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkerSpec {
    /// How many pods run the worker. Calls are spread over them; events and jobs go to the first
    /// by name. A change starts or stops pods and is no new revision. Default: 1.
    #[serde(default = "default_replicas")]
    #[schemars(range(min = 1, max = 100))]
    pub replicas: i32,
    /// CPU and memory of the worker's container. A change is a new revision with pods of its own.
    #[serde(default, skip_serializing_if = "WorkerResources::is_default")]
    pub resources: WorkerResources,
    /// Where the plugin's pods may connect to, beside name lookups and the artifact store.
    /// Hosts dial the pods, so a plugin that talks to its host alone needs nothing here.
    /// It takes a cluster network that enforces NetworkPolicy; see `EgressEnforced`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub egress: Vec<EgressRule>,
}

fn default_replicas() -> i32 {
    1
}

impl Default for WorkerSpec {
    fn default() -> Self {
        Self {
            replicas: default_replicas(),
            resources: WorkerResources::default(),
            egress: Vec::new(),
        }
    }
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
    /// The tarball of a package, as `npm pack` writes it, behind a URL. Its dependencies come from
    /// the platform's npm registry.
    Http(HttpSource),
    /// An artifact that was packed before, in a registry of container images. It is checked and
    /// copied unchanged: same digest, no npm.
    Oci(OciSource),
    /// A worker of one file, which depends on nothing, in a ConfigMap of this namespace. Its plugin
    /// manifest is `spec.manifest`, whole. Read again within half a minute after a change; the
    /// version in the manifest must change with it. At most about 120 KiB.
    ConfigMap(ConfigMapKey),
}

/// A package of an npm registry.
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
    /// URL of the npm registry, for the package and its dependencies. Default: the platform's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 9, max = 1024),
        regex(pattern = r"^https?://[^/?#@\s]+(/[^?#\s]*)?$")
    )]
    pub registry: Option<String>,
    /// Secret of this namespace with the credential for the registry. It carries the label
    /// `plugins.paperclip.ing/allow-plugins: "true"` and the key `.npmrc`, or `token`, or
    /// `username` and `password`; `ca.crt` beside them is the authority to trust. Default: none,
    /// and the platform's own where `registry` is the platform's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub credentials_secret: Option<String>,
}

fn default_resolve_interval() -> i32 {
    3600
}

/// The tarball of a package.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpSource {
    /// Where the tarball is. Without a query, in which a credential would stand for all to read.
    #[schemars(
        length(min = 10, max = 2048),
        regex(pattern = r"^https?://[^/?#@\s]+/[^?#\s]+$")
    )]
    pub url: String,
    /// SHA-512 of the tarball as npm writes it: `sha512-` and base64.
    #[schemars(
        length(equal = 95),
        regex(pattern = r"^sha512-[A-Za-z0-9+/]{85}[AQgw]==$")
    )]
    pub integrity: String,
    /// Secret of this namespace with the credential for the URL, with the same label as for npm:
    /// `token`, or `username` and `password`; `ca.crt` beside them is the authority to trust.
    /// Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub credentials_secret: Option<String>,
}

/// An artifact in a registry of container images.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.tag) != has(self.digest)")
    .message("exactly one of tag and digest is required"))]
pub struct OciSource {
    /// Registry and repository, as in `registry.example:5000/plugins/greeter`.
    #[schemars(
        length(min = 3, max = 512),
        regex(
            pattern = r"^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)+$"
        )
    )]
    pub repository: String,
    /// A tag. What it stands for is in `status.resolution`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 128),
        regex(pattern = r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")
    )]
    pub tag: Option<String>,
    /// Digest of the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(equal = 71), regex(pattern = r"^sha256:[0-9a-f]{64}$"))]
    pub digest: Option<String>,
    /// Seconds after which the registry is asked again what `tag` stands for, as for npm.
    /// Default: 3600.
    #[serde(default = "default_resolve_interval")]
    #[schemars(range(min = 60, max = 2_592_000))]
    pub resolve_interval_seconds: i32,
    /// Secret of this namespace with the credential, of type `kubernetes.io/dockerconfigjson` and
    /// with the same label as for npm; `ca.crt` beside it is the authority to trust. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub pull_secret: Option<String>,
}

impl NpmSource {
    /// `package@version`, or `package@range`, and the registry where it is the plugin's own.
    #[must_use]
    pub fn asked(&self) -> String {
        let wanted = self.version.as_ref().or(self.range.as_ref());
        let wanted = wanted.map(String::as_str).unwrap_or_default();
        let asked = format!("{}@{wanted}", self.package);
        match &self.registry {
            Some(registry) => format!("{asked} of {registry}"),
            None => asked,
        }
    }
}

impl OciSource {
    /// `repository:tag`, or `repository@digest`.
    #[must_use]
    pub fn asked(&self) -> String {
        match (&self.tag, &self.digest) {
            (Some(tag), _) => format!("{}:{tag}", self.repository),
            (None, digest) => {
                let digest = digest.as_deref().unwrap_or_default();
                format!("{}@{digest}", self.repository)
            }
        }
    }
}

impl PluginSource {
    /// What the place that has the package is asked for; `None` where nobody is asked.
    #[must_use]
    pub fn asked(&self) -> Option<String> {
        match self {
            Self::Npm(source) => Some(source.asked()),
            Self::Http(source) => Some(source.url.clone()),
            Self::Oci(source) => Some(source.asked()),
            Self::ConfigMap(_) => None,
        }
    }

    /// Seconds after which what was asked for may stand for something else; `None` where it
    /// stands for the same for ever.
    #[must_use]
    pub fn resolve_interval_seconds(&self) -> Option<i32> {
        match self {
            Self::Npm(source) => {
                let moves = source.range.is_some() && source.lock.is_none();
                moves.then_some(source.resolve_interval_seconds)
            }
            Self::Oci(source) => {
                let moves = source.tag.is_some();
                moves.then_some(source.resolve_interval_seconds)
            }
            Self::Http(_) | Self::ConfigMap(_) => None,
        }
    }

    /// The field that names the Secret with the credential, and the name.
    #[must_use]
    pub fn credential(&self) -> Option<(&'static str, &str)> {
        let (field, name) = match self {
            Self::Npm(source) => (
                "spec.source.npm.credentialsSecret",
                source.credentials_secret.as_ref(),
            ),
            Self::Http(source) => (
                "spec.source.http.credentialsSecret",
                source.credentials_secret.as_ref(),
            ),
            Self::Oci(source) => ("spec.source.oci.pullSecret", source.pull_secret.as_ref()),
            Self::ConfigMap(_) => return None,
        };
        Some((field, name?))
    }
}

impl PaperclipPlugin {
    /// What its packing Jobs are about: what is asked for, and `package@version`.
    #[must_use]
    pub fn packages(&self) -> Vec<String> {
        let Some(asked) = self.spec.source.asked() else {
            let field = |name| self.spec.manifest.as_ref()?.get(name)?.as_str();
            let named = field("id").zip(field("version"));
            return named
                .map(|(id, version)| format!("{id}@{version}"))
                .into_iter()
                .collect();
        };
        let resolution = self
            .status
            .as_ref()
            .and_then(|status| status.resolution.as_ref());
        let package_of = |resolution: &ResolutionStatus| match &self.spec.source {
            PluginSource::Npm(source) => Some(source.package.clone()),
            _ => resolution.package.clone(),
        };
        let resolved = resolution
            .filter(|resolution| resolution.source == asked)
            .and_then(|resolution| {
                let package = package_of(resolution)?;
                Some(format!("{package}@{}", resolution.version))
            });
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
    /// What the source stood for when its place was last asked: a range, a dist-tag or a tag, or
    /// a source with a registry or a credential of its own. It is here before any of it rolls out.
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
    /// What became of the capabilities that the manifest asks for, and of those that the worker
    /// tried without: counted by the pods of the applied template since each began, and up to a
    /// minute old.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub capabilities: Vec<CapabilityStatus>,
    /// Value of the annotation `plugins.paperclip.ing/reconcile-requested-at` that was acted on last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_reconcile_at: Option<String>,
    /// One printed word in Paperclip's vocabulary: installed, ready, disabled, error,
    /// upgrade_pending or uninstalled. Nothing reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifecycle: Option<String>,
}

/// What became of a capability.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CapabilityStatus {
    /// The capability, in Paperclip's words.
    pub name: String,
    /// Whether the manifest asks for it.
    pub asked: bool,
    /// Whether the worker may use it.
    pub granted: bool,
    /// Calls that needed it and were let through.
    pub used: i64,
    /// Calls that were refused for want of it.
    pub denied: i64,
    /// When it was used last, as RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used: Option<String>,
}

/// What a source stands for.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResolutionStatus {
    /// What was asked, as in `paperclip-plugin-example@^1.2.0`.
    pub source: String,
    /// Name of the package, where the source does not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<String>,
    /// Exact version.
    pub version: String,
    /// npm's integrity of that version, or the digest of the image.
    pub integrity: String,
    /// Fingerprint of the registry and the credential of the plugin's own that it was asked with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub credential: Option<String>,
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
    /// Digest of the OCI image, or of the index with an image a platform: `sha256:` and 64 hex
    /// digits.
    pub digest: String,
    /// Content of the marker file in the artifact, checked before a worker starts. Where the
    /// artifact has a tree a platform, the marker of each: `linux/amd64=…,linux/arm64=…`.
    pub marker: String,
    /// Id of the platform's key that signed it, `sha256:` and 64 hex digits. Absent where it was
    /// packed before artifacts were signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71))]
    pub signed_by: Option<String>,
    /// Size of the packed layers in bytes.
    pub size_bytes: i64,
    /// When the operator saw the artifact in the store first, as RFC 3339.
    pub observed_at: String,
    /// Hash of the `spec.manifest` that this artifact was found to agree with, so that it is
    /// compared once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub agrees_with: Option<String>,
    /// What moved in the tree of packages since the artifact before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock_changes: Option<LockChanges>,
    /// Where it runs, as in `linux/amd64`; its pods are kept to such nodes. `any` where its tree
    /// is the same on every CPU. Absent from what an earlier release packed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 64)))]
    pub platforms: Vec<String>,
    /// The platforms that it was packed for. Those that it is not for, the package lacks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 64)))]
    pub packed_for: Vec<String>,
}

/// The word in `status.artifact.platforms` for an artifact that runs on every CPU.
pub const ANY_PLATFORM: &str = "any";

/// What moved between the locks of two artifacts of one package.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LockChanges {
    /// Digest of the artifact before.
    pub since: String,
    /// Number of changes.
    pub total: i64,
    /// The first of them, in order of the paths.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub changes: Vec<LockChange>,
}

/// A package of the tree that is new, gone, or another version.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LockChange {
    /// Its place in the tree, without the leading `node_modules/`.
    #[schemars(length(max = 512))]
    pub package: String,
    /// The version before; none for a package that is new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub from: Option<String>,
    /// The version now; none for a package that is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub to: Option<String>,
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

    /// How the worker runs, with the defaults where nothing is said.
    #[must_use]
    pub fn worker(&self) -> WorkerSpec {
        self.spec.worker.clone().unwrap_or_default()
    }

    /// The condition of this type, if it was written yet.
    #[must_use]
    pub fn condition(&self, type_: super::ConditionType) -> Option<&Condition> {
        let conditions = &self.status.as_ref()?.conditions;
        conditions.iter().find(|c| c.type_ == type_.to_string())
    }
}
