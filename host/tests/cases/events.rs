//! Events: kept until a worker has them.

use paperclip_bridge::v1::Phase;
use paperclip_host::COMPANY_ID;
use serde_json::{Value, json};

use crate::{
    PLUGIN, ready,
    support::{
        Authority, Host,
        pod::{Link, Pod, Settings},
    },
};

fn subscriber(phase: Phase) -> Settings {
    Settings {
        phase,
        subscriptions: vec![json!({"eventPattern": "plugin.acme.x.*"})],
        ..Settings::default()
    }
}

async fn emit(link: &Link, n: usize) {
    let event = json!({"name": "done", "companyId": COMPANY_ID, "payload": {"n": n}});
    assert_eq!(link.call("events.emit", event, "").await, Ok(Value::Null));
}

async fn heard(pod: &mut Pod) -> Value {
    pod.notified.recv().await.unwrap()["params"]["event"]["payload"]["n"].take()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_wait_for_the_worker_beyond_the_end_of_the_host_and_keep_their_order() {
    let authority = Authority::new();
    let mut pod = Pod::start(&authority, subscriber(Phase::Starting)).await;
    let host = Host::start(&authority, &[&pod]).await;
    let link = pod.links.recv().await.unwrap();
    for n in 0..20 {
        emit(&link, n).await;
    }
    let folder = host.stop().await;
    let _host = Host::start_with(&authority, &[&pod], folder, |_| {}).await;
    let link = pod.links.recv().await.unwrap();
    emit(&link, 20).await;
    link.phase(Phase::Serving).await;
    for n in 0..=20 {
        assert_eq!(heard(&mut pod).await, n);
    }
    emit(&link, 21).await;
    assert_eq!(heard(&mut pod).await, 21, "each came once");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_that_does_not_serve_yet_takes_no_subscription_away() {
    let authority = Authority::new();
    let mut old = Pod::start(&authority, subscriber(Phase::Serving)).await;
    let new = Pod::start(
        &authority,
        Settings {
            name: "new",
            activation: 2,
            phase: Phase::Starting,
            ..Settings::default()
        },
    )
    .await;
    let host = Host::start(&authority, &[&old, &new]).await;
    host.wait_for(&format!("{PLUGIN}/dashboard"), |dashboard| {
        dashboard["pods"]
            .as_array()
            .is_some_and(|pods| pods.len() == 2)
    })
    .await;
    let link = old.links.recv().await.unwrap();
    emit(&link, 1).await;
    assert_eq!(heard(&mut old).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_events_than_may_wait_are_dropped_and_the_emitter_goes_on() {
    const QUEUE: usize = 1024;
    let (_ca, mut pod, _host) = ready(subscriber(Phase::Serving)).await;
    let link = pod.links.recv().await.unwrap();
    link.phase(Phase::Starting).await;
    for n in 0..QUEUE + 4 {
        emit(&link, n).await;
    }
    link.phase(Phase::Serving).await;
    for n in 0..QUEUE {
        assert_eq!(heard(&mut pod).await, n);
    }
    emit(&link, 9999).await;
    assert_eq!(heard(&mut pod).await, 9999);
}
