//! Limits reach a running pod with its config, and refuse in the words of gRPC.

use std::time::Duration;

use bytes::Bytes;
use paperclip_bridge::{
    client::{self, ConnectError},
    status::from_status,
    v1::CallRequest,
};
use paperclip_protocol::jsonrpc;
use serde_json::{Value, json};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::support::{
    artifact,
    pod::{Pod, host, plugin},
};

const WORKER: &str = r#"
    handlers.getData = ({ id, params }) => {
        if (params.hang) say("hangs");
        else send({ id, result: { pid: process.pid, size: params.text?.length ?? 0 } });
    };
"#;

/// A single call, without a session.
async fn call(pod: &Pod, params: Value) -> Result<Value, Status> {
    let request = CallRequest {
        method: "getData".into(),
        params_json: Bytes::from(params.to_string()),
    };
    let tls = pod.authority.client(&host());
    match client::call(pod.address().await, &tls, &plugin(), request).await {
        Ok(result) => Ok(serde_json::from_slice(&result).unwrap()),
        Err(ConnectError::Refused { source, .. }) => Err(*source),
        Err(other) => panic!("{other}"),
    }
}

fn config() -> Value {
    json!({"active": {"revision": 1}})
}

async fn limited(pod: &Pod, limits: Value) {
    let already = pod.has_logged("limits changed");
    pod.deliver_with(config(), limits);
    crate::support::eventually("the limits to change", || {
        (pod.has_logged("limits changed") != already).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_change_under_a_running_worker_and_refuse_with_their_name() {
    let pod = Pod::start_with(config(), |folder| artifact::raw(folder, WORKER, &[]));
    pod.serving().await;
    let worker = call(&pod, json!({})).await.unwrap()["pid"].clone();

    limited(
        &pod,
        json!({"concurrency": 1, "queue": 0, "callTimeoutSeconds": 2}),
    )
    .await;
    let hangs = call(&pod, json!({"hang": true}));
    let refused = async {
        pod.logged("hangs", "stream").await;
        call(&pod, json!({})).await.unwrap_err()
    };
    let (hung, refused) = tokio::join!(hangs, refused);
    assert_eq!(hung.unwrap_err().code(), Code::DeadlineExceeded);
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let details = refused.get_error_details();
    assert_eq!(details.error_info().unwrap().reason, "LIMIT_EXCEEDED");
    assert_eq!(
        details.retry_info().unwrap().retry_delay,
        Some(Duration::from_secs(1))
    );
    let error = from_status(&refused);
    assert_eq!(error.code, jsonrpc::LIMIT_EXCEEDED);
    let data: Value = serde_json::from_slice(&error.data_json).unwrap();
    assert_eq!(data["limit"], "concurrency");

    limited(&pod, json!({"payloadBytes": 1024})).await;
    let refused = call(&pod, json!({"text": "x".repeat(2000)}))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let details = refused.get_error_details();
    assert_eq!(details.error_info().unwrap().reason, "PAYLOAD_TOO_LARGE");
    assert!(details.retry_info().is_none(), "it will never pass");

    limited(&pod, json!({})).await;
    let answer = call(&pod, json!({"text": "x".repeat(2000)})).await.unwrap();
    assert_eq!(answer["size"], 2000);
    assert_eq!(answer["pid"], worker, "the worker was not restarted");
    let metrics = pod.metrics().await;
    for limit in ["Concurrency", "Payload"] {
        let line = format!("paperclip_sidecar_refused_calls_total{{limit=\"{limit}\"}} 1");
        assert!(metrics.contains(&line), "{metrics}");
    }
}
