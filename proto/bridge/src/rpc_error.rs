//! Errors of calls, and which of them say that the worker has not seen the call.

use bytes::Bytes;
use paperclip_protocol::jsonrpc::{LIMIT_EXCEEDED, TIMEOUT, WORKER_UNAVAILABLE};
use serde::Deserialize;

use crate::v1::RpcError;

impl RpcError {
    /// An error without data.
    pub fn new(code: i32, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            ..Self::default()
        }
    }

    /// A refusal of a call that was never written to the worker: it may be made again, elsewhere.
    pub fn not_sent(message: impl Into<String>) -> Self {
        Self {
            data_json: Bytes::from_static(br#"{"notSent":true}"#),
            ..Self::new(WORKER_UNAVAILABLE, message)
        }
    }

    /// True when the worker has not seen the call.
    #[must_use]
    pub fn is_not_sent(&self) -> bool {
        self.code == WORKER_UNAVAILABLE && self.says_not_sent()
    }

    /// True when the worker has not seen the call, also where a limit is why.
    #[must_use]
    pub fn was_unseen(&self) -> bool {
        matches!(self.code, WORKER_UNAVAILABLE | LIMIT_EXCEEDED | TIMEOUT) && self.says_not_sent()
    }

    fn says_not_sent(&self) -> bool {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Data {
            not_sent: bool,
        }
        serde_json::from_slice::<Data>(&self.data_json).is_ok_and(|data| data.not_sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use paperclip_protocol::jsonrpc::WORKER_ERROR;

    #[test]
    fn only_a_refusal_that_says_so_was_not_sent() {
        assert!(RpcError::not_sent("draining").is_not_sent());
        assert!(!RpcError::new(WORKER_UNAVAILABLE, "gone").is_not_sent());
        let limited = RpcError {
            code: LIMIT_EXCEEDED,
            ..RpcError::not_sent("many")
        };
        assert!(limited.was_unseen() && !limited.is_not_sent());
        let of_the_worker = RpcError {
            code: WORKER_ERROR,
            ..RpcError::not_sent("a worker's own words")
        };
        assert!(!of_the_worker.is_not_sent());
    }
}
