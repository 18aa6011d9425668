//! The config of a running plugin, and its changes.

use paperclip_host::COMPANY_ID;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::{
    PLUGIN, ready, serving,
    support::{
        Authority, Host,
        pod::{Pod, Settings},
        read,
    },
};

fn shown(config: &Value) -> impl Fn(&Value) -> bool {
    let config = config.clone();
    move |answer| answer["configJson"] == config
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_config_is_what_the_worker_and_the_api_see_and_is_kept() {
    let (authority, mut pod, host) = ready(Settings::default()).await;
    let link = pod.links.recv().await.unwrap();
    let path = format!("{PLUGIN}/config");
    let before = host
        .wait_for(&path, shown(&json!({"currency": "EUR"})))
        .await;
    let changed = json!({"currency": "CHF"});
    link.config(changed.clone()).await;
    let after = host.wait_for(&path, shown(&changed)).await;
    assert_eq!(before["id"], after["id"]);
    let own = json!({"companyId": COMPANY_ID});
    assert_eq!(link.call("config.get", own, "").await, Ok(changed.clone()));
    pod.stop.cancel();
    let folder = host.stop().await;
    let host = Host::start_with(&authority, &[&pod], folder, |_| {}).await;
    let (status, kept) = host.get(&path).await;
    assert_eq!(
        (status, &kept["configJson"]),
        (StatusCode::OK, &changed),
        "{kept}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_acts_on_its_own_from_its_first_config_on() {
    let authority = Authority::new();
    let mut pod = Pod::start(
        &authority,
        Settings {
            config: json!({}),
            ..Settings::default()
        },
    )
    .await;
    let folder = tempfile::tempdir().unwrap();
    let host = Host::start_with(&authority, &[&pod], folder, |args| {
        args.strict_scopes = true;
    })
    .await;
    serving(&host).await;
    let link = pod.links.recv().await.unwrap();
    let ask = || link.call("companies.get", json!({"companyId": COMPANY_ID}), "");
    assert_eq!(ask().await.unwrap_err().0, -32005);
    link.config(json!({"on": true})).await;
    // A session carries its messages in order, so the change comes before the question.
    assert_eq!(ask().await.unwrap()["id"], COMPANY_ID);
    // The company has to be named.
    let unnamed = link.call("config.get", json!({}), "").await;
    assert_eq!(unnamed.unwrap_err().0, -32005);
    link.config(json!({})).await;
    assert_eq!(ask().await.unwrap_err().0, -32005);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_activation_does_not_overwrite_the_config_of_a_newer_one() {
    let authority = Authority::new();
    let settings = |name, activation, config| Settings {
        name,
        activation,
        config,
        ..Settings::default()
    };
    let new = Pod::start(&authority, settings("new", 2, json!({"of": "new"}))).await;
    let mut old = Pod::start(&authority, settings("old", 1, json!({"of": "old"}))).await;
    let host = Host::start(&authority, &[&new, &old]).await;
    let path = format!("{PLUGIN}/config");
    host.wait_for(&path, shown(&json!({"of": "new"}))).await;
    let link = old.links.recv().await.unwrap();
    link.config(json!({"of": "old, changed"})).await;
    let own = json!({"companyId": COMPANY_ID});
    assert_eq!(
        link.call("config.get", own, "").await,
        Ok(json!({"of": "old, changed"}))
    );
    new.stop.cancel();
    old.stop.cancel();
    let folder = host.stop().await;
    let host = Host::start_with(&authority, &[&new, &old], folder, |_| {}).await;
    assert_eq!(host.get(&path).await.1["configJson"], json!({"of": "new"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_reference_is_shown_and_stored_as_the_reference() {
    let config = json!({"token": {"type": "secret_ref", "secretId": "crm-token"}});
    let (_ca, mut pod, host) = ready(Settings {
        config: config.clone(),
        ..Settings::default()
    })
    .await;
    let link = pod.links.recv().await.unwrap();
    let own = json!({"companyId": COMPANY_ID});
    assert_eq!(link.call("config.get", own, "").await, Ok(config.clone()));
    // Plugins of earlier SDKs name no company; there is one.
    let unnamed = link.call("config.get", json!({}), "").await;
    assert_eq!(unnamed, Ok(config.clone()));
    let (_, shown) = host.get(&format!("{PLUGIN}/config")).await;
    assert_eq!(shown["configJson"], config);
    let (status, plugin) = read(
        host.request(reqwest::Method::GET, PLUGIN)
            .send()
            .await
            .unwrap(),
    )
    .await;
    assert_eq!(status, StatusCode::OK);
    assert!(!plugin.to_string().contains("crm-token"), "{plugin}");
    let folder = host.stop().await;
    let database = std::fs::read(folder.path().join("host.db")).unwrap();
    let stored = config.to_string();
    assert!(
        database
            .windows(stored.len())
            .any(|bytes| bytes == stored.as_bytes()),
        "the row holds the reference as it came"
    );
}
