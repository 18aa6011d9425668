//! What is said once, through the loss of the sidecar or the worker.

use bytes::Bytes;
use paperclip_bridge::client::CallError;
use serde_json::{Value, json};

use crate::support::{
    artifact,
    host::{Host, Store},
    pod::{Pod, signal},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_is_run_once_though_the_sidecar_is_replaced_in_the_middle() {
    let worker = r#"
        let runs = 0;
        handlers.runJob = () => { runs++; say("begun"); };
        handlers.getData = ({ id }) => send({ id, result: runs });
    "#;
    let mut pod = Pod::start(json!({}), |folder| artifact::raw(folder, worker, &[]));
    pod.serving().await;
    let store = Store::default();
    let first = Host::attach(&pod, &store).await;
    let job = json!({"job": {"jobKey": "sync", "scheduledAt": "2026-09-20T10:01:00.000Z"}});
    let lost = async {
        pod.logged("begun", "stream").await;
        // By the time this is answered the shim was told of the slot.
        first.call("getData", json!({})).await.unwrap();
        pod.kill_sidecar();
    };
    let (begun, ()) = tokio::join!(first.call("runJob", job.clone()), lost);
    assert!(matches!(begun, Err(CallError::Detached)), "{begun:?}");
    pod.start_sidecar();
    pod.serving().await;
    let second = Host::attach(&pod, &store).await;
    let again = second.call("runJob", job).await;
    let Err(CallError::Rpc(error)) = again else {
        panic!("{again:?}");
    };
    let data: Value = serde_json::from_slice(&error.data_json).unwrap();
    assert_eq!(data, json!({"workerExited": true}));
    assert_eq!(second.call("getData", json!({})).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_told_again_after_the_sidecar_was_killed_reaches_the_same_worker_once() {
    let worker = r#"
        const heard = [];
        handlers.onEvent = ({ params }) => heard.push(params.event.eventId);
        handlers.getData = ({ id }) => send({ id, result: heard });
    "#;
    let mut pod = Pod::start(json!({}), |folder| artifact::raw(folder, worker, &[]));
    pod.serving().await;
    let tell = async |host: &Host, name: &str| {
        let event = json!({"event": {"eventId": name}}).to_string().into();
        host.sender
            .notify("onEvent", event, Bytes::new())
            .await
            .unwrap();
    };
    let first = Host::attach(&pod, &Store::default()).await;
    tell(&first, "e-1").await;
    assert_eq!(
        first.call("getData", json!({})).await.unwrap(),
        json!(["e-1"])
    );
    pod.kill_sidecar();
    pod.start_sidecar();
    pod.serving().await;
    let second = Host::attach(&pod, &Store::default()).await;
    tell(&second, "e-1").await;
    tell(&second, "e-2").await;
    let heard = second.call("getData", json!({})).await.unwrap();
    assert_eq!(heard, json!(["e-1", "e-2"]));
    assert!(pod.metrics().await.contains("repeated_events_total 1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_crashed_twice_has_each_subscription_once() {
    let worker = r#"
        let instance;
        handlers.initialize = ({ id, params }) => {
            instance = params.instanceInfo;
            send({ id: 1, method: "events.subscribe", params: { eventPattern: "issue.*" } });
            send({ id, result: { ok: true, supportedMethods: [] } });
        };
        handlers.getData = ({ id }) => send({ id, result: instance });
    "#;
    let make = |folder: &std::path::Path| artifact::raw(folder, worker, &["events.subscribe"]);
    let pod = Pod::start(json!({}), make);
    for restarts in 0..2 {
        pod.serving().await;
        let process = pod.logged("worker started", "pid").await.as_u64().unwrap();
        signal(u32::try_from(process).unwrap(), "KILL");
        pod.state("restarted", |state| {
            let worker = state.worker.as_ref();
            worker.is_some_and(|worker| worker.restarts > restarts)
        })
        .await;
    }
    pod.serving().await;
    let host = Host::attach(&pod, &Store::default()).await;
    assert_eq!(host.hello.subscriptions.len(), 1);
    // Where the original says "default" and 0.0.0.
    let instance = host.call("getData", json!({})).await.unwrap();
    assert_eq!(instance["instanceId"], "paperclip/main");
    assert_eq!(instance["hostVersion"], "2026.916.1");
}
