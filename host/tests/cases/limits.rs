//! Limits of a plugin as callers of the host meet them.

use std::time::{Duration, Instant};

use futures::future::pending;
use paperclip_bridge::v1::Limits;
use reqwest::StatusCode;
use serde_json::json;

use crate::{PLUGIN, ready, support::pod::Settings};

#[tokio::test(flavor = "multi_thread")]
async fn a_call_ends_with_the_limit_that_the_pod_told() {
    let (_ca, _pod, host) = ready(Settings {
        limits: Limits {
            call_timeout_seconds: 1,
            ..Limits::default()
        },
        worker: |_, _| Box::pin(pending()),
        ..Settings::default()
    })
    .await;
    let begun = Instant::now();
    let (status, answer) = host.post(&format!("{PLUGIN}/data/k"), json!({})).await;
    assert_eq!(
        (status, &answer["code"]),
        (StatusCode::BAD_GATEWAY, &json!("TIMEOUT")),
        "{answer}"
    );
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_is_reached_is_the_callers_to_heed() {
    let (_ca, _pod, host) = ready(Settings {
        worker: |_, asked| {
            Box::pin(async move {
                match asked.params["key"].as_str() {
                    Some("many") => Err((-32010, "too many".to_owned())),
                    _ => Err((-32011, "too large".to_owned())),
                }
            })
        },
        ..Settings::default()
    })
    .await;
    for (key, status, code) in [
        ("many", StatusCode::TOO_MANY_REQUESTS, "LIMIT_EXCEEDED"),
        ("large", StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE"),
    ] {
        let (found, answer) = host.post(&format!("{PLUGIN}/data/{key}"), json!({})).await;
        assert_eq!((found, &answer["code"]), (status, &json!(code)), "{answer}");
    }
}
