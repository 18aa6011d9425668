//! The call that begins a worker's life.

use std::time::Duration;

use bytes::Bytes;
use paperclip_bridge::v1::{RpcError, WorkerReason};
use paperclip_protocol::jsonrpc;
use serde::Deserialize;

use super::Failure;
use crate::multiplexer::Multiplexer;

/// How long a worker may take over `initialize`.
const INITIALIZE: Duration = Duration::from_secs(15);
/// The same for a worker whose setup waits for a host.
const INITIALIZE_WITH_HOST: Duration = Duration::from_secs(45);

#[derive(Deserialize)]
struct InitializeResult {
    ok: serde_json::Value,
}

/// Initialises the worker. Its clock stands still while its setup waits for a host.
pub(super) async fn initialize(multiplexer: &Multiplexer, params: Bytes) -> Result<Bytes, Failure> {
    let call = multiplexer.internal_call("initialize", params, INITIALIZE_WITH_HOST);
    tokio::pin!(call);
    let mut left = INITIALIZE;
    let slice = Duration::from_millis(250);
    let outcome = loop {
        match tokio::time::timeout(slice, &mut call).await {
            Ok(outcome) => break outcome,
            Err(_) if multiplexer.waiting_for_host() > 0 => show_waiting(multiplexer),
            Err(_) => left = left.saturating_sub(slice),
        }
        if left.is_zero() {
            let message = format!(
                "the worker did not answer it within {} s",
                INITIALIZE.as_secs()
            );
            break Err(RpcError::new(jsonrpc::TIMEOUT, message));
        }
    };
    let failed = |message: String| Failure {
        reason: WorkerReason::InitializeFailed,
        message,
    };
    let result =
        outcome.map_err(|e| failed(format!("initialize failed ({}): {}", e.code, e.message)))?;
    match serde_json::from_slice::<InitializeResult>(&result) {
        Ok(parsed) if is_truthy(&parsed.ok) => Ok(result),
        _ => Err(failed("initialize did not answer ok".into())),
    }
}

fn show_waiting(multiplexer: &Multiplexer) {
    multiplexer.state.update(|state| {
        state.worker.set_reason(WorkerReason::WaitingForHost);
        state.worker.message = "the worker's setup calls a host and none is attached".into();
    });
}

fn is_truthy(value: &serde_json::Value) -> bool {
    use serde_json::Value;
    match value {
        Value::Null => false,
        Value::Bool(truth) => *truth,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(_) | Value::Object(_) => true,
    }
}
