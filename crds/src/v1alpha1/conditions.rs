//! Conditions and their reasons, which are API: listed in the docs, never renamed.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The standard condition of the Kubernetes API conventions.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// One of the types listed in the documentation of the kind.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 316))]
    pub type_: String,
    /// True, False or Unknown.
    #[schemars(extend("enum" = ["True", "False", "Unknown"]))]
    pub status: String,
    /// One CamelCase word for the cause.
    #[schemars(length(min = 1, max = 1024))]
    pub reason: String,
    /// A sentence for people: the root cause and what to do.
    #[schemars(length(max = 32768))]
    pub message: String,
    /// When `status` last changed, as RFC 3339.
    #[schemars(extend("format" = "date-time"))]
    pub last_transition_time: String,
    /// Generation of the spec that this condition speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// Types of conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConditionType {
    /// True: the observed generation works. A worker answers and a host session pings
    /// both ways. Sums up the others. Always present.
    Ready,
    /// True: the operator is bringing about the observed generation. Abnormal when
    /// True; absent when there is nothing to do.
    Reconciling,
    /// True: nothing more happens until a person acts. Abnormal when True; absent otherwise.
    Stalled,
    /// True: the artifact is in the store under the digest in status.
    ArtifactReady,
    /// Whether signatures were checked. Unknown with reason `Skipped` when no policy asks for it.
    Verified,
    /// True: config and secrets of the observed generation were accepted by the plugin
    /// manifest's schema and by the worker, which has them. Absent while no artifact is known.
    ConfigValid,
    /// True: every capability that the package asks for is granted. Absent while no artifact is known.
    Granted,
    /// True: the worker of the applied pod template is initialised and answers `health`.
    WorkerAvailable,
    /// True: a session with the host pings both ways.
    HostAttached,
    /// True: the pod tried to leave where no policy allows it, and could not. False does not
    /// hold `Ready` back: many cluster networks enforce no policy. Unknown until it was tried.
    EgressEnforced,
}

impl fmt::Display for ConditionType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, formatter)
    }
}

/// Reasons of conditions and events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// All is as it should be.
    Succeeded,
    /// The resource was seen and nothing is known yet.
    Pending,
    /// A packing Job runs.
    Packing,
    /// The package is not in the registry.
    PackageNotFound,
    /// The package is in the registry, and this version of it is not.
    VersionNotFound,
    /// The npm registry could not be reached, or failed.
    RegistryUnavailable,
    /// The npm registry refused the platform's credential, or wants one.
    RegistryAccessDenied,
    /// The package breaks a rule of packing; the message names the rule.
    PackageRefused,
    /// The package has no plugin manifest.
    ManifestMissing,
    /// The package's plugin manifest cannot be evaluated, or breaks a rule of Paperclip.
    ManifestInvalid,
    /// The worker file that the plugin manifest names is not in the package.
    WorkerFileMissing,
    /// A field of `spec.manifest` is not what the package says.
    ManifestMismatch,
    /// The packing Job failed for another cause.
    PackingFailed,
    /// The artifact store could not be reached or refused us.
    StoreUnavailable,
    /// A ConfigMap or a key that the spec names is missing.
    ReferenceMissing,
    /// A Secret or a key that `spec.secrets` names is missing, or the Secret lacks the label
    /// that opens it to plugins.
    SecretUnavailable,
    /// The config breaks the plugin manifest's `instanceConfigSchema`, or a source of it is no object.
    ConfigInvalid,
    /// The worker's `validateConfig` refused the config.
    ConfigRejected,
    /// The package asks for capabilities that were not granted.
    CapabilitiesAdded,
    /// Granted without a reviewer's grant: by `spec.manifest.capabilities`, or as what the
    /// first revision asked for.
    Implicit,
    /// `spec.suspend` is set.
    Suspended,
    /// The revision did not come to serve in time, and the one that served last runs again.
    RolledBack,
    /// The revision did not come to serve in time.
    DeadlineExceeded,
    /// A ResourceQuota leaves no room for the pod.
    QuotaExceeded,
    /// An admission policy or webhook of the cluster refuses the pod.
    AdmissionRefused,
    /// No node has room for the pod, or none fits it.
    Unschedulable,
    /// The pods of the new template are being started.
    Progressing,
    /// The kubelet or the cluster refused the pod for another cause.
    PodRefused,
    /// An image of the pod cannot be pulled.
    ImageUnavailable,
    /// The artifact could not be delivered to the pod.
    DeliveryFailed,
    /// The worker exited or was killed.
    WorkerExited,
    /// The worker did not answer `initialize`, or answered it with an error.
    InitializeFailed,
    /// The worker does not answer `health`.
    WorkerUnresponsive,
    /// The worker's set-up waits for a host to answer.
    WaitingForHost,
    /// No session with the host pings both ways.
    HostAbsent,
    /// The `PaperclipHost` does not exist.
    HostNotFound,
    /// The `PaperclipHost` does not allow plugins of this namespace.
    HostForbidden,
    /// Another plugin of the same host has the id of the plugin manifest.
    PluginIdTaken,
    /// The cluster's network lets the pod connect where no policy allows it.
    NotEnforced,
    /// The check was not asked for.
    Skipped,
    /// The API server refused a write of the operator.
    ApplyFailed,
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, formatter)
    }
}
