//! One bad plugin delays no other.

use std::time::Duration;

use futures::future::{join_all, pending};
use paperclip_host::COMPANY_ID;
use reqwest::StatusCode;
use serde_json::json;

use crate::support::{
    Authority, Host,
    pod::{Pod, Settings, manifest},
};

/// Far below what a stuck neighbour would cost: a call may take 30 s, a job 5 min.
const PROMPT: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_never_answers_delays_nobody_elses_calls_jobs_and_events() {
    let authority = Authority::new();
    let subscriptions = vec![json!({"eventPattern": "plugin.acme.x.*"})];
    let stuck = Pod::start(
        &authority,
        Settings {
            plugin: "stuck",
            uid: "9a3c7c55-5b29-4b6e-8a0a-0c6a6d1f8f22",
            name: "stuck-1",
            manifest: {
                let mut manifest = manifest();
                manifest["id"] = json!("acme.stuck");
                manifest
            },
            subscriptions: subscriptions.clone(),
            worker: |_, _| Box::pin(pending()),
            ..Settings::default()
        },
    )
    .await;
    let mut good = Pod::start(
        &authority,
        Settings {
            subscriptions,
            ..Settings::default()
        },
    )
    .await;
    let host = Host::start(&authority, &[&stuck, &good]).await;
    host.wait_for("/api/plugins?status=ready", |plugins| {
        plugins.as_array().is_some_and(|plugins| plugins.len() == 2)
    })
    .await;
    let (status, _) = host
        .post("/api/plugins/acme.stuck/jobs/sync/trigger", json!({}))
        .await;
    assert_eq!(status, StatusCode::OK);
    let hanging =
        join_all((0..300).map(|_| host.post("/api/plugins/acme.stuck/data/k", json!({}))));
    let prompt = async {
        host.wait_for("/api/plugins/acme.stuck/dashboard", |dashboard| {
            dashboard["worker"]["pendingRequests"] == 301
        })
        .await;
        let begun = tokio::time::Instant::now();
        let (status, answer) = host.post("/api/plugins/acme.x/data/k", json!({})).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        host.post("/api/plugins/acme.x/jobs/sync/trigger", json!({}))
            .await;
        host.wait_for("/api/plugins/acme.x/jobs/sync/runs", |runs| {
            runs[0]["status"] == "succeeded"
        })
        .await;
        let took = begun.elapsed();
        assert!(took < PROMPT, "{took:?}");
        let link = good.links.recv().await.unwrap();
        // Events that the stuck pod does not take fill its session, which holds fewer than these.
        let text = "x".repeat(4096);
        for n in 0..500 {
            let payload = json!({"n": n, "text": text});
            let event = json!({"name": "done", "companyId": COMPANY_ID, "payload": payload});
            link.call("events.emit", event, "").await.unwrap();
            let told = good.notified.recv().await.unwrap();
            assert_eq!(told["params"]["event"]["payload"]["n"], n);
        }
    };
    tokio::select! {
        () = prompt => {}
        _ = hanging => panic!("calls to the stuck worker ended before the neighbour was done"),
    }
}
