//! The way out of a pod, as its hosts see it.

use std::time::{Duration, Instant};

use paperclip_bridge::{client::CallError, v1::Phase};
use serde_json::{Value, json};

use crate::support::{
    artifact,
    host::{Host, Store},
    pod::Pod,
};

/// The data of the error a call ended with.
fn data(outcome: Result<Value, CallError>) -> Value {
    match outcome {
        Err(CallError::Rpc(error)) if error.code == -32000 => {
            serde_json::from_slice(&error.data_json).unwrap()
        }
        other => panic!("{other:?}"),
    }
}

async fn attached(worker: &'static str) -> (Pod, Host) {
    let pod = Pod::start(json!({}), |folder| artifact::raw(folder, worker, &[]));
    pod.serving().await;
    let host = Host::attach(&pod, &Store::default()).await;
    (pod, host)
}

#[tokio::test]
async fn a_draining_pod_refuses_new_calls_unseen_and_ends_the_open_one_well() {
    let worker = r#"
        handlers.getData = ({ id }) => { say("begun"); setTimeout(() => send({ id, result: 1 }), 1500); };
        handlers.performAction = ({ id }) => send({ id, result: 2 });
    "#;
    let (mut pod, host) = attached(worker).await;
    let late = async {
        pod.logged("begun", "stream").await;
        pod.ask_shim_to_stop();
        pod.state("draining", |state| state.phase() == Phase::Draining)
            .await;
        host.call("performAction", json!({})).await
    };
    let (open, late) = tokio::join!(host.call("getData", json!({})), late);
    assert_eq!(open.unwrap(), 1);
    assert!(matches!(late, Err(CallError::NotSent(_))), "{late:?}");
    assert!(pod.shim_exit().await.success());
}

#[tokio::test]
async fn a_call_that_its_worker_did_not_survive_is_not_called_unsent() {
    let worker = "handlers.getData = () => process.kill(process.pid, 'SIGKILL');";
    let (_pod, host) = attached(worker).await;
    let lost = host.call("getData", json!({})).await;
    assert_eq!(data(lost), json!({"workerExited": true}));
}

#[tokio::test]
async fn a_worker_that_ignores_every_request_to_stop_is_killed_in_time() {
    let worker = r#"
        process.on("SIGTERM", () => {});
        handlers.shutdown = () => {};
        setInterval(() => {}, 1000);
    "#;
    let (mut pod, _host) = attached(worker).await;
    let asked = Instant::now();
    pod.ask_shim_to_stop();
    assert!(pod.shim_exit().await.success());
    // 10 s for shutdown, 5 s for TERM.
    assert!(asked.elapsed() > Duration::from_secs(14));
    assert!(asked.elapsed() < Duration::from_secs(18));
}
