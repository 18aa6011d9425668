//! Jobs that several hosts bring, through the loss of the sidecar between them.

use paperclip_proto::client::CallError;
use serde_json::{Value, json};

use crate::support::{
    artifact,
    host::{Host, Store},
    pod::Pod,
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
        // The shim was told of the slot before this call was answered.
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
