//! Draining: hosts hear of it, calls finish, the worker is shut down.

use std::time::Duration;

use bytes::Bytes;
use paperclip_bridge::v1::Phase;
use paperclip_pod_layout::time;
use paperclip_shim::protocol::Command;

use crate::{multiplexer::Multiplexer, shim::Shim, supervisor::Stopping};

/// How long the worker may take over `shutdown`.
const SHUTDOWN: Duration = Duration::from_secs(10);
/// How long a worker that answered `shutdown` may take to exit.
const EXIT: Duration = Duration::from_millis(500);
/// How long it may take over TERM, and then over KILL.
const TERM: Duration = Duration::from_secs(5);
const KILL: Duration = Duration::from_secs(2);

const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;

/// Drains the pod and ends its worker, and then the shim.
pub async fn run(multiplexer: &Multiplexer, shim: &Shim, stopping: &Stopping) {
    tracing::info!("draining");
    multiplexer
        .state
        .update(|state| state.phase = Phase::Draining);
    if multiplexer.state.now().worker.running {
        // New calls are refused from here on, also of hosts that have not heard of it yet.
        let calls = tokio::time::timeout(time::CALLS, multiplexer.idle(false));
        let jobs = tokio::time::timeout(time::JOBS, multiplexer.idle(true));
        let _ = tokio::join!(calls, jobs);
    }
    stopping.begin();
    stop_worker(multiplexer, shim).await;
    shim.send(&Command::Quit);
    tracing::info!("drained");
}

async fn stop_worker(multiplexer: &Multiplexer, shim: &Shim) {
    if !multiplexer.state.now().worker.running {
        return;
    }
    let params = Bytes::from_static(b"{}");
    let asked = multiplexer
        .internal_call("shutdown", params, SHUTDOWN)
        .await;
    let grace = if asked.is_ok() { EXIT } else { Duration::ZERO };
    for (grace, signal) in [(grace, SIGTERM), (TERM, SIGKILL)] {
        if is_gone_within(multiplexer, grace).await {
            return;
        }
        shim.send(&Command::Signal(signal));
    }
    is_gone_within(multiplexer, KILL).await;
}

async fn is_gone_within(multiplexer: &Multiplexer, grace: Duration) -> bool {
    let mut state = multiplexer.state.subscribe();
    let is_gone = state.wait_for(|state| !state.worker.running);
    tokio::time::timeout(grace, is_gone).await.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_stopped_within_the_time_that_a_pod_has_for_it() {
        assert!(SHUTDOWN + EXIT + TERM + KILL <= time::STOP);
    }
}
