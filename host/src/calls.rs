//! Calls to workers, with the time each kind may take, counted.

use std::{sync::Arc, time::Duration};

use paperclip_bridge::trace::SpanKind;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::{
    host::Host,
    http,
    plugins::{Call, CallFailure, Cause, Place, Plugin},
    rpc::Fault,
};

/// Time for a call, unless the plugin's limits say otherwise.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Time for a job, unless the plugin's limits say otherwise.
const JOB_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// Calls the worker of a plugin and returns its result as it was written.
pub async fn call(
    host: &Host,
    plugin: &Arc<Plugin>,
    method: &'static str,
    params: &impl Serialize,
    company: Option<&str>,
) -> Result<Box<RawValue>, CallFailure> {
    let is_job = method == "runJob";
    let failed = |cause, message| CallFailure {
        plugin: plugin.id().clone(),
        method,
        cause,
        fault: Fault::internal(message),
    };
    let params = serde_json::to_vec(params).map_err(|error| {
        failed(
            Cause::BadCall,
            format!("write the params of {method}: {error}"),
        )
    })?;
    let timeout = if is_job { JOB_TIMEOUT } else { TIMEOUT };
    let name = format!("call {method}");
    let span = host
        .traces
        .start(name, SpanKind::Server, &http::trace_parent());
    let call = Call {
        traceparent: span.traceparent(),
        method,
        params: params.into(),
        company: company.map(str::to_owned),
        timeout: plugin.limits().longest(is_job).unwrap_or(timeout),
        place: match http::sticky_key() {
            _ if is_job => Place::First,
            Some(key) => Place::Sticky(key),
            None => Place::Any,
        },
    };
    let begun = Instant::now();
    let result = plugin.call(call).await;
    let outcome = result
        .as_ref()
        .map_err(|failure| failure.fault.clone().into());
    span.ended(&outcome.map(drop));
    let code = result.as_ref().err().map(|failure| failure.fault.code);
    host.metrics.called(method, code, begun.elapsed());
    serde_json::from_slice(&result?).map_err(|error| {
        failed(
            Cause::BadAnswer,
            format!("the worker's result of {method} is no JSON: {error}"),
        )
    })
}
