//! A plugin as published, through everything that may happen to its pod.

use paperclip_protocol::DEFAULT_COMPANY;
use serde_json::{Value, json};

use crate::support::{
    artifact,
    host::{Host, Store},
    pod::{Pod, signal},
};

fn intent(session: &str) -> Value {
    let body =
        json!({"type": "intent", "sessionId": session, "payload": {"service": "a logo design"}});
    json!({
        "endpointKey": "bcp-incoming", "headers": {"content-type": "application/json"},
        "rawBody": body.to_string(), "parsedBody": body, "requestId": "r",
    })
}

async fn deals(host: &Host) -> String {
    let params = json!({
        "toolName": "bcp_list_deals", "parameters": {},
        "runContext": {"agentId": "a", "runId": "r", "companyId": DEFAULT_COMPANY, "projectId": "p"},
    });
    host.call("executeTool", params).await.unwrap().to_string()
}

fn config() -> Value {
    json!({"services": [{"name": "logo design", "basePrice": 420}], "autoQuote": true})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_published_plugin_answers_through_the_loss_of_worker_and_sidecar() {
    let mut pod = Pod::start(config(), artifact::published);
    let store = Store::default();
    let host = Host::attach(&pod, &store).await;
    assert_eq!(host.hello.activation, 3);
    pod.serving().await;

    host.call("handleWebhook", intent("s-1")).await.unwrap();
    assert_eq!(store.get("deal:s-1").unwrap()["price"], 420);

    let first = pod.logged("worker started", "pid").await.as_u64().unwrap() as u32;
    signal(first, "KILL");
    pod.state("restarted", |state| {
        state.worker.as_ref().is_some_and(|w| w.restarts == 1)
    })
    .await;
    pod.serving().await;
    assert!(deals(&host).await.contains("s-1"), "after the worker");
    let second = pod.logged("worker started", "pid").await.as_u64().unwrap();
    assert_ne!(u64::from(first), second);

    pod.kill_sidecar();
    host.sender.closed().await;
    pod.start_sidecar();
    let adopted = pod.logged("a running worker was taken over", "pid").await;
    assert_eq!(adopted.as_u64(), Some(second));
    let host = Host::attach(&pod, &store).await;
    assert!(deals(&host).await.contains("s-1"), "after the sidecar");
    assert!(!host.hello.initialize_result_json.is_empty());
    assert!(pod.has_logged("worker initialised").is_none());

    pod.ask_shim_to_stop();
    assert!(pod.shim_exit().await.success());
    assert!(pod.has_logged("worker stopped").is_some());
    assert!(pod.stop_sidecar().await.success());
}
