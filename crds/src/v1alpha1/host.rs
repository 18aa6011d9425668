//! `PaperclipHost`: what plugins attach to.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Condition;

/// A host that plugins attach to, in the namespace of that host.
///
/// The operator issues the client certificate that the host's processes dial
/// plugin pods with, as the Secret `<name>-client-tls` beside this object.
#[derive(CustomResource, KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "plugins.paperclip.ing",
    version = "v1alpha1",
    kind = "PaperclipHost",
    plural = "papercliphosts",
    singular = "papercliphost",
    shortname = "pch",
    category = "paperclip",
    namespaced,
    status = "PaperclipHostStatus",
    doc = "PaperclipHost is a host that plugins attach to, in the namespace of that host.",
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
    printcolumn(name = "Service", type_ = "string", json_path = ".spec.service.name"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.matches('^[a-z0-9]([-a-z0-9]{0,48}[a-z0-9])?$')")
        .message("name must be a DNS label of at most 50 characters")
)]
#[serde(rename_all = "camelCase")]
pub struct PaperclipHostSpec {
    /// Service of the host's HTTP API in this namespace. `kubectl paperclip` reaches the host through it.
    pub service: ServiceReference,
    /// Namespaces whose plugins may attach. Default: this namespace only.
    #[serde(default)]
    pub allowed_namespaces: AllowedNamespaces,
}

/// A Service in the same namespace.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceReference {
    /// Name of the Service.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Port of the Service. Default: 3100, the port of a Paperclip server.
    #[serde(default = "default_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
}

fn default_port() -> i32 {
    3100
}

/// Which namespaces may attach.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.from == 'Names' ? has(self.names) && size(self.names) > 0 : !has(self.names)")
    .message("names is required with from: Names, and only allowed there"))]
pub struct AllowedNamespaces {
    /// `Same`: the host's namespace. `All`: every namespace. `Names`: those listed. Default: `Same`.
    #[serde(default)]
    pub from: NamespacesFrom,
    /// Namespaces by name, with `from: Names`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), inner(length(min = 1, max = 63)))]
    pub names: Vec<String>,
}

/// How [`AllowedNamespaces`] selects.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub enum NamespacesFrom {
    /// The host's own namespace.
    #[default]
    Same,
    /// Every namespace.
    All,
    /// The namespaces listed in `names`.
    Names,
}

impl AllowedNamespaces {
    /// Whether a plugin in `namespace` may attach to a host in `host_namespace`.
    #[must_use]
    pub fn allows(&self, namespace: &str, host_namespace: &str) -> bool {
        match self.from {
            NamespacesFrom::Same => namespace == host_namespace,
            NamespacesFrom::All => true,
            NamespacesFrom::Names => self.names.iter().any(|name| name == namespace),
        }
    }
}

/// Names a `PaperclipHost`.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostReference {
    /// Name of the `PaperclipHost`.
    #[schemars(
        length(min = 1, max = 50),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub name: String,
    /// Namespace of the `PaperclipHost`. Default: the namespace of the plugin.
    /// The host must allow the plugin's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
}

/// What was observed of a host.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PaperclipHostStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`, `Reconciling` and `Stalled`, with kstatus meaning.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// When the client certificate ends, as RFC 3339. It is renewed after two thirds of its life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_expires: Option<String>,
}
