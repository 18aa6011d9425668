//! An upgrade that goes wrong: what the version before had is there again.

use serde_json::json;

use crate::{
    PLUGIN, serving,
    support::{
        Authority, Host,
        pod::{Pod, Settings, manifest},
    },
};

#[tokio::test(flavor = "multi_thread")]
async fn the_jobs_and_the_manifest_shown_are_those_of_the_version_that_serves() {
    let authority = Authority::new();
    let old = Pod::start(&authority, Settings::default()).await;
    let mut newer = manifest();
    newer["version"] = json!("2.0.0");
    newer["jobs"] = json!([{"jobKey": "other", "displayName": "Other"}]);
    let mut new = Pod::start(
        &authority,
        Settings {
            name: "new",
            activation: 2,
            manifest: newer,
            ..Settings::default()
        },
    )
    .await;
    let host = Host::start(&authority, &[&old, &new]).await;
    serving(&host).await;
    let active = |key: &'static str| {
        move |jobs: &serde_json::Value| {
            jobs.as_array()
                .is_some_and(|jobs| jobs.len() == 1 && jobs[0]["jobKey"] == key)
        }
    };
    let jobs = format!("{PLUGIN}/jobs?status=active");
    host.wait_for(&jobs, active("other")).await;
    host.wait_for(PLUGIN, |plugin| plugin["version"] == "2.0.0")
        .await;
    new.stop.cancel();
    new.links.recv().await.unwrap().end().await;
    host.wait_for(&jobs, active("sync")).await;
    let plugin = host
        .wait_for(PLUGIN, |plugin| plugin["version"] == "1.2.0")
        .await;
    assert_eq!(plugin["activation"], 1);
    // The row still knows the later activation; a host that starts again goes by the pods.
    let folder = host.stop().await;
    let host = Host::start_with(&authority, &[&old], folder, |_| {}).await;
    host.wait_for(PLUGIN, |plugin| plugin["version"] == "1.2.0")
        .await;
    assert!(active("sync")(&host.get(&jobs).await.1));
}
