//! Calls to workers, with the time each kind may take, counted.

use std::{sync::Arc, time::Duration};

use serde::Serialize;
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::{
    host::Host,
    plugins::{Call, Plugin},
    rpc::Fault,
};

/// Time for a call.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Time for a job.
const JOB_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// Calls the worker of a plugin and returns its result as it was written.
pub async fn call(
    host: &Host,
    plugin: &Arc<Plugin>,
    method: &'static str,
    params: &impl Serialize,
    company: Option<&str>,
) -> Result<Box<RawValue>, Fault> {
    let is_job = method == "runJob";
    let call = Call {
        method,
        params: serde_json::to_vec(params)
            .map_err(|error| Fault::internal(format!("write the params of {method}: {error}")))?
            .into(),
        company: company.map(str::to_owned),
        timeout: if is_job { JOB_TIMEOUT } else { TIMEOUT },
        first: is_job,
    };
    let begun = Instant::now();
    let result = plugin.call(call).await;
    let code = result.as_ref().err().map(|fault| fault.code);
    host.metrics.called(method, code, begun.elapsed());
    serde_json::from_slice(&result?).map_err(|error| {
        Fault::internal(format!(
            "the worker's result of {method} is no JSON: {error}"
        ))
    })
}
