//! The errors that the multiplexer makes of its own.

use std::time::Duration;

use bytes::Bytes;
use paperclip_bridge::v1::RpcError;
use paperclip_protocol::jsonrpc;

use crate::envelope;

pub(super) fn is_of_a_limit(error: &RpcError) -> bool {
    matches!(
        error.code,
        jsonrpc::LIMIT_EXCEEDED | jsonrpc::PAYLOAD_TOO_LARGE
    )
}

pub(super) fn timed_out(method: &str, limit: Duration) -> RpcError {
    let limit = limit.as_millis();
    let message = format!("the worker did not answer {method} within {limit} ms");
    RpcError::new(jsonrpc::TIMEOUT, message)
}

pub(super) fn unavailable() -> RpcError {
    RpcError::not_sent("the worker is not running")
}

/// The worker ended with the call under way. It may have done the work, so the call is not
/// to be repeated.
pub(super) fn worker_exited(message: &str) -> RpcError {
    RpcError {
        data_json: Bytes::from_static(br#"{"workerExited":true}"#),
        ..RpcError::new(jsonrpc::WORKER_UNAVAILABLE, message)
    }
}

pub(super) fn check_json(bytes: &[u8], what: &str) -> Result<(), RpcError> {
    if bytes.is_empty() || envelope::is_json(bytes) {
        return Ok(());
    }
    let message = format!("{what} of the call is not JSON");
    Err(RpcError::new(jsonrpc::INVALID_PARAMS, message))
}
