//! Limits of the plugin's calls: what they refuse, and in which words.

mod gate;

use std::time::Duration;

use bytes::Bytes;
use governor::{
    DefaultDirectRateLimiter,
    clock::{Clock as _, DefaultClock},
};
use paperclip_bridge::v1::RpcError;
use paperclip_protocol::jsonrpc;
use prometheus_client::encoding::EncodeLabelValue;
use serde_json::{Value, json};

pub use gate::{Entering, Gate, Origin, Place};

/// Takes a place of a rate, or says how long until there is one.
pub(crate) fn take(rate: &DefaultDirectRateLimiter) -> Result<(), Duration> {
    let taken = rate.check();
    taken.map_err(|until| until.wait_time_from(DefaultClock::default().now()))
}

/// A limit, as errors and metrics call it.
#[derive(Clone, Copy, Debug, EncodeLabelValue, Hash, PartialEq, Eq)]
pub enum Limit {
    /// Calls that the worker has before it at once.
    Concurrency,
    /// Calls that begin in a second.
    Rate,
    /// Bytes of params or of a result.
    Payload,
    /// Requests of one host under way.
    Requests,
    /// Calls of the worker under way.
    Callbacks,
}

impl Limit {
    /// The name in errors: the field of `spec.limits`, where there is one.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Concurrency => "concurrency",
            Self::Rate => "rate",
            Self::Payload => "payloadBytes",
            Self::Requests => "requests",
            Self::Callbacks => "callbacks",
        }
    }
}

/// A call that a limit refused. The worker has not seen it.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// Which one.
    pub limit: Limit,
    /// The error that the caller gets.
    pub error: RpcError,
}

impl Refusal {
    fn new(limit: Limit, code: i32, message: String, data: &Value) -> Self {
        Self {
            limit,
            error: RpcError {
                data_json: Bytes::from(data.to_string()),
                ..RpcError::new(code, message)
            },
        }
    }

    /// More calls than may wait.
    fn queue_full(limit: Limit, most: usize, waiting: usize) -> Self {
        let reached = match limit {
            Limit::Rate => format!("{most} calls begin in a second"),
            _ => format!("{most} calls are under way"),
        };
        let name = limit.name();
        let message = format!(
            "the plugin's limit of {name} is reached: {reached}, and {waiting} wait, which is the limit of queue"
        );
        let data = json!({"notSent": true, "limit": name, "most": most, "waiting": waiting});
        Self::new(limit, jsonrpc::LIMIT_EXCEEDED, message, &data)
    }

    /// A call whose time was over before its turn came.
    fn waited(limit: Limit, most: usize, milliseconds: u128) -> Self {
        let name = limit.name();
        let message = format!(
            "the call waited {milliseconds} ms for its turn and was not sent: the plugin's limit of {name} is {most}"
        );
        let data = json!({"notSent": true, "limit": name, "most": most});
        Self::new(limit, jsonrpc::TIMEOUT, message, &data)
    }

    /// More under way at once than may be, where nothing waits.
    #[must_use]
    pub fn at_once(limit: Limit, who: &str, most: usize) -> Self {
        let name = limit.name();
        let message = format!("{who} has {most} {name} under way, which is the limit");
        let data = json!({"notSent": true, "limit": name, "most": most});
        Self::new(limit, jsonrpc::LIMIT_EXCEEDED, message, &data)
    }

    /// A payload that is too large. `what` says whose, and of which call.
    #[must_use]
    pub fn payload(what: &str, found: usize, most: usize) -> Self {
        let limit = Limit::Payload;
        let message = format!("{what}: {found} bytes, wanted at most {most}");
        let data = json!({"limit": limit.name(), "found": found, "most": most});
        Self::new(limit, jsonrpc::PAYLOAD_TOO_LARGE, message, &data)
    }
}
