//! What a worker says of its own health is shown and restarts nothing.

use paperclip_bridge::v1::{Phase, WorkerReason};
use serde_json::json;

use crate::support::{
    artifact,
    host::{Host, Store},
    pod::Pod,
};

/// Says what it was told to say.
const WORKER: &str = r#"
    let health = { status: "ok" };
    handlers.health = ({ id }) => send(health.code ? { id, error: health } : { id, result: health });
    handlers.getData = ({ id, params }) => { health = params.health; send({ id, result: null }); };
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workers_own_word_on_its_health_is_shown_counted_and_restarts_nothing() {
    let pod = Pod::start(json!({}), |folder| artifact::raw(folder, WORKER, &[]));
    pod.serving().await;
    let host = Host::attach(&pod, &Store::default()).await;
    let cases = [
        (
            json!({"status": "degraded", "message": "the queue is long"}),
            ("degraded", "the queue is long"),
        ),
        (
            json!({"code": -32002, "message": "no database"}),
            ("error", "health failed (-32002): no database"),
        ),
        (json!({"status": "ok"}), ("ok", "")),
    ];
    for (answer, (status, message)) in cases {
        let told = host.call("getData", json!({"health": answer})).await;
        assert!(told.is_ok());
        let state = pod
            .state(status, |state| {
                let worker = state.worker.as_ref();
                let health = worker.and_then(|worker| worker.health.as_ref());
                health.is_some_and(|health| health.status == status && health.message == message)
            })
            .await;
        let worker = state.worker.as_ref().unwrap();
        assert!(worker.healthy && worker.restarts == 0);
        assert_eq!(worker.reason(), WorkerReason::Unspecified);
        assert_eq!(state.phase(), Phase::Serving);
        let shown = format!("paperclip_sidecar_worker_health{{status=\"{status}\"}} 1");
        assert!(
            pod.metrics().await.contains(&shown),
            "{}",
            pod.metrics().await
        );
    }
}
