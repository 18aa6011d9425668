//! What a worker may use: `spec.worker.resources` of its container, `spec.limits` of its calls.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// CPU and memory of the worker's container.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkerResources {
    /// What the scheduler keeps free for each pod. A request above the limit counts as the limit.
    /// Default: `cpu: 50m`, `memory: 128Mi`.
    #[serde(default, skip_serializing_if = "ResourceAmounts::is_empty")]
    pub requests: ResourceAmounts,
    /// What each pod gets at most. Node's heap limit is three quarters of a memory limit that
    /// stands here.
    /// Default: `cpu: 1`, `memory: 512Mi`.
    #[serde(default, skip_serializing_if = "ResourceAmounts::is_empty")]
    pub limits: ResourceAmounts,
}

impl WorkerResources {
    /// Whether everything is as by default.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Amounts of CPU and memory.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourceAmounts {
    /// Cores, as in `2`, or thousandths of one, as in `250m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8), regex(pattern = r"^[1-9][0-9]{0,5}m?$"))]
    pub cpu: Option<String>,
    /// Mebibytes or gibibytes, as in `256Mi` and `2Gi`. At least `32Mi` is of use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8), regex(pattern = r"^[1-9][0-9]{0,5}(Mi|Gi)$"))]
    pub memory: Option<String>,
}

impl ResourceAmounts {
    /// Whether nothing is asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Limits of the calls of a plugin, for each of its pods. They hold within seconds of a change,
/// without a restart. A call that a limit refuses was not seen by the worker and fails with the
/// name of the limit.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PluginLimits {
    /// Seconds after which a call has failed, also where its host would wait longer.
    /// Default: 30 for a call whose host names no time, and no limit for others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86400))]
    pub call_timeout_seconds: Option<i32>,
    /// The same for runs of jobs. A pod that stops waits 310 s for a run, whatever stands here.
    /// Default: 300 with `paperclip-host`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86400))]
    pub job_timeout_seconds: Option<i32>,
    /// Calls, runs of jobs among them, that a worker has before it at once. Default: 4096.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4096))]
    pub concurrency: Option<i32>,
    /// Calls that wait while `concurrency` or `rate` is reached; hosts take turns, and a host that
    /// floods loses its own calls first. One more is refused at once. Default: 1024.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 4096))]
    pub queue: Option<i32>,
    /// How many calls begin in a second. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<RateLimit>,
    /// Bytes of JSON that params and a result may have, whichever way they go. Default: what the
    /// protocol allows, 128 Mi characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1024, max = 134_217_728))]
    pub payload_bytes: Option<i64>,
    /// How a worker that crashes is started again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarts: Option<RestartLimit>,
}

impl PluginLimits {
    /// Whether everything is as by default.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// How many calls begin in a second.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RateLimit {
    /// Calls in a second, over time.
    #[schemars(range(min = 1, max = 100_000))]
    pub calls_per_second: i32,
    /// Calls that may begin together after a quiet time. Default: as many as in a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub burst: Option<i32>,
}

/// How a worker that crashes is started again: at once after the first crash, then after pauses
/// that double, for ever.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestartLimit {
    /// The longest pause in seconds, before jitter. Default: 300.
    #[serde(default = "default_pause")]
    #[schemars(range(min = 1, max = 3600))]
    pub longest_pause_seconds: i32,
}

fn default_pause() -> i32 {
    300
}
