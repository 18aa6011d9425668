//! Calls without a result: of which plugin and method, why, and what the caller is told.

use std::fmt;

use super::PluginId;
use crate::rpc::Fault;

/// Why a call has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// No pod served in time. The worker has not seen the call.
    NotServing,
    /// Too many calls wait for a pod already. The worker has not seen the call.
    QueueFull,
    /// The session ended with the call under way. The worker may have done the work.
    SessionEnded,
    /// The worker did not answer in time. It may have done the work.
    TimedOut,
    /// The worker, or its sidecar, answered with an error.
    Refused,
    /// The worker's answer cannot be read. It has done the work.
    BadAnswer,
    /// The call could not be written down. The worker has not seen it.
    BadCall,
}

impl Cause {
    /// As the API shows it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotServing => "notServing",
            Self::QueueFull => "queueFull",
            Self::SessionEnded => "sessionEnded",
            Self::TimedOut => "timedOut",
            Self::Refused => "refused",
            Self::BadAnswer => "badAnswer",
            Self::BadCall => "badCall",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A call that has no result.
#[derive(Clone, Debug, thiserror::Error)]
#[error("call {method} of plugin {}/{}: {fault}", plugin.namespace, plugin.name)]
pub struct CallFailure {
    /// The plugin.
    pub plugin: PluginId,
    /// JSON-RPC method.
    pub method: &'static str,
    /// Why.
    pub cause: Cause,
    /// The same in the words of the plugin protocol.
    pub fault: Fault,
}
