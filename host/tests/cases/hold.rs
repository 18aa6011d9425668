//! Calls while pods come, go and refuse: held, sent once, or failed with their cause.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use futures::future::{join, join_all, pending};
use paperclip_bridge::v1::Phase;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::{
    PLUGIN, ready,
    support::{
        Authority, Host, PATIENCE,
        pod::{NOT_SENT, Pod, Settings},
    },
};

/// Longest wait of the host for a pod that serves.
const HOLD: Duration = Duration::from_secs(10);

fn data() -> String {
    format!("{PLUGIN}/data/k")
}

async fn metric(host: &Host, name: &str) -> f64 {
    let (_, text) = host.health("/metrics").await;
    let line = text.lines().find(|line| line.starts_with(name));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
        .unwrap_or(0.0)
}

/// Waits until a metric has grown to a value.
async fn grows(host: &Host, name: &str, wanted: f64) {
    let grows = async {
        while metric(host, name).await < wanted {
            tokio::task::yield_now().await;
        }
    };
    let grown = tokio::time::timeout(PATIENCE, grows).await;
    grown.unwrap_or_else(|_| panic!("{name} did not come to {wanted}"));
}

async fn attached(host: &Host, count: usize) {
    host.wait_for(&format!("{PLUGIN}/dashboard"), |dashboard| {
        dashboard["pods"]
            .as_array()
            .is_some_and(|pods| pods.len() == count)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_no_pod_serves_in_time_fails_with_its_cause() {
    let authority = Authority::new();
    let pod = Pod::start(
        &authority,
        Settings {
            phase: Phase::Starting,
            ..Settings::default()
        },
    )
    .await;
    let host = Host::start(&authority, &[&pod]).await;
    attached(&host, 1).await;
    let begun = Instant::now();
    let (status, answer) = host.post(&data(), json!({})).await;
    let waited = begun.elapsed();
    assert_eq!(status, StatusCode::BAD_GATEWAY);
    assert_eq!(
        answer,
        json!({
            "code": "WORKER_UNAVAILABLE", "message": "plugin worker is not running: no pod of shop/acme serves",
            "plugin": "shop/acme", "method": "getData", "cause": "notServing",
        })
    );
    assert!(waited >= HOLD && waited < HOLD * 2, "{waited:?}");
    let held = r#"paperclip_host_held_calls_total{outcome="not_serving"}"#;
    assert_eq!(metric(&host, held).await, 1.0);
    assert_eq!(
        metric(&host, "paperclip_host_hold_duration_seconds_count").await,
        1.0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn more_calls_than_may_wait_fail_at_once_and_the_others_are_served() {
    const WAITING: usize = 256;
    let authority = Authority::new();
    let mut pod = Pod::start(
        &authority,
        Settings {
            phase: Phase::Starting,
            ..Settings::default()
        },
    )
    .await;
    let host = Host::start(&authority, &[&pod]).await;
    attached(&host, 1).await;
    let link = pod.links.recv().await.unwrap();
    let path = data();
    let calls = join_all((0..WAITING + 8).map(|_| host.post(&path, json!({}))));
    let serve = async {
        let full = r#"paperclip_host_held_calls_total{outcome="queue_full"}"#;
        grows(&host, full, 8.0).await;
        link.phase(Phase::Serving).await;
    };
    let (answers, ()) = join(calls, serve).await;
    let served = answers
        .iter()
        .filter(|(status, _)| *status == StatusCode::OK);
    assert_eq!(served.count(), WAITING);
    let refused = answers
        .iter()
        .filter(|(_, answer)| answer["cause"] == "queueFull");
    assert_eq!(refused.count(), 8);
    let sent = r#"paperclip_host_held_calls_total{outcome="sent"}"#;
    assert_eq!(metric(&host, sent).await, WAITING as f64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_a_draining_pod_refuses_unseen_goes_to_the_older_pod_that_serves() {
    static REFUSED: AtomicUsize = AtomicUsize::new(0);
    static SERVED: AtomicUsize = AtomicUsize::new(0);
    let authority = Authority::new();
    let refusing = Pod::start(
        &authority,
        Settings {
            name: "new",
            activation: 2,
            worker: |_, _| {
                Box::pin(async {
                    REFUSED.fetch_add(1, Ordering::SeqCst);
                    Err((-32000, NOT_SENT.to_owned()))
                })
            },
            ..Settings::default()
        },
    )
    .await;
    let serving = Pod::start(
        &authority,
        Settings {
            name: "old",
            worker: |_, _| {
                Box::pin(async {
                    SERVED.fetch_add(1, Ordering::SeqCst);
                    Ok(json!("old"))
                })
            },
            ..Settings::default()
        },
    )
    .await;
    let host = Host::start(&authority, &[&refusing, &serving]).await;
    attached(&host, 2).await;
    let (status, answer) = host.post(&data(), json!({})).await;
    assert_eq!(
        (status, &answer["data"]),
        (StatusCode::OK, &json!("old")),
        "{answer}"
    );
    assert_eq!(REFUSED.load(Ordering::SeqCst), 1);
    assert_eq!(SERVED.load(Ordering::SeqCst), 1);
    let sent = r#"paperclip_host_held_calls_total{outcome="sent"}"#;
    assert_eq!(metric(&host, sent).await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_refused_unseen_is_made_again_on_the_same_pod_once_it_serves() {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let settings = Settings {
        worker: |_, _| {
            Box::pin(async {
                match ASKED.fetch_add(1, Ordering::SeqCst) {
                    0..3 => Err((-32000, NOT_SENT.to_owned())),
                    _ => Ok(json!("served")),
                }
            })
        },
        ..Settings::default()
    };
    let (_ca, _pod, host) = ready(settings).await;
    let (status, answer) = host.post(&data(), json!({})).await;
    assert_eq!(
        (status, &answer["data"]),
        (StatusCode::OK, &json!("served")),
        "{answer}"
    );
    assert_eq!(ASKED.load(Ordering::SeqCst), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ordinary_refusal_with_the_same_code_is_not_made_again() {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let settings = Settings {
        worker: |_, _| {
            Box::pin(async {
                ASKED.fetch_add(1, Ordering::SeqCst);
                Err((-32000, "the worker exited".to_owned()))
            })
        },
        ..Settings::default()
    };
    let (_ca, _pod, host) = ready(settings).await;
    let (status, answer) = host.post(&data(), json!({})).await;
    assert_eq!(
        (status, &answer["cause"]),
        (StatusCode::BAD_GATEWAY, &json!("refused"))
    );
    assert_eq!(ASKED.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_pod_goes_away_is_not_repeated_and_says_so() {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let authority = Authority::new();
    let vanishing = Pod::start(
        &authority,
        Settings {
            name: "new",
            activation: 2,
            worker: |link, _| {
                Box::pin(async move {
                    ASKED.fetch_add(1, Ordering::SeqCst);
                    link.end().await;
                    pending().await
                })
            },
            ..Settings::default()
        },
    )
    .await;
    let other = Pod::start(
        &authority,
        Settings {
            name: "old",
            worker: |_, _| {
                Box::pin(async {
                    ASKED.fetch_add(1, Ordering::SeqCst);
                    Ok(Value::Null)
                })
            },
            ..Settings::default()
        },
    )
    .await;
    let host = Host::start(&authority, &[&vanishing, &other]).await;
    attached(&host, 2).await;
    let (status, answer) = host.post(&data(), json!({})).await;
    assert_eq!(status, StatusCode::BAD_GATEWAY);
    assert_eq!(
        answer,
        json!({
            "code": "WORKER_UNAVAILABLE",
            "message": "the session with pod new ended before its worker answered getData; the work may be done",
            "plugin": "shop/acme", "method": "getData", "cause": "sessionEnded",
        })
    );
    assert_eq!(ASKED.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_pod_answers_what_it_has_while_new_calls_go_to_the_other() {
    let authority = Authority::new();
    let mut draining = Pod::start(
        &authority,
        Settings {
            name: "new",
            activation: 2,
            worker: |link, _| {
                Box::pin(async move {
                    link.phase(Phase::Draining).await;
                    link.wait().await;
                    Ok(json!("new"))
                })
            },
            ..Settings::default()
        },
    )
    .await;
    let other = Pod::start(
        &authority,
        Settings {
            name: "old",
            worker: |_, _| Box::pin(async { Ok(json!("old")) }),
            ..Settings::default()
        },
    )
    .await;
    let host = Host::start(&authority, &[&draining, &other]).await;
    attached(&host, 2).await;
    let link = draining.links.recv().await.unwrap();
    let path = data();
    let open = host.post(&path, json!({}));
    let meanwhile = async {
        host.wait_for(&format!("{PLUGIN}/dashboard"), |dashboard| {
            dashboard["pods"]
                .as_array()
                .is_some_and(|pods| pods.iter().any(|pod| pod["phase"] == "draining"))
        })
        .await;
        let answer = host.post(&path, json!({})).await.1;
        link.go();
        answer
    };
    let ((status, first), second) = join(open, meanwhile).await;
    assert_eq!(status, StatusCode::OK, "{first}");
    assert_eq!(
        (&first["data"], &second["data"]),
        (&json!("new"), &json!("old"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_caller_goes_away_leaves_the_queue() {
    let authority = Authority::new();
    let mut pod = Pod::start(
        &authority,
        Settings {
            phase: Phase::Starting,
            worker: |_, _| Box::pin(async { panic!("nobody waits for this") }),
            ..Settings::default()
        },
    )
    .await;
    let host = Host::start(&authority, &[&pod]).await;
    attached(&host, 1).await;
    let call = host
        .request(reqwest::Method::POST, &data())
        .timeout(Duration::from_millis(200));
    assert!(call.send().await.unwrap_err().is_timeout());
    let given_up = r#"paperclip_host_held_calls_total{outcome="given_up"}"#;
    grows(&host, given_up, 1.0).await;
    let link = pod.links.recv().await.unwrap();
    link.phase(Phase::Serving).await;
    assert_eq!(metric(&host, "paperclip_host_calls_total").await, 0.0);
}
