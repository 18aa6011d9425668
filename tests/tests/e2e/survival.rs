//! What goes on without the operator and without the API server, and how a plugin goes.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    load::host_address,
    support::{
        HOST_NAMESPACE, PLATFORM_NAMESPACE, WARM, cluster, eventually, get, host_rows, inventory,
        kubectl, paperclip_json, pod_of, worker_processes,
    },
};

/// Brings the operator back, whatever happened in between.
pub struct Operator;

impl Operator {
    /// Scales the operator to nothing and waits until it is gone.
    pub fn sent_away() -> Result<Self> {
        let guard = Self;
        scale(0)?;
        let selector = "app.kubernetes.io/component=operator";
        let gone = ["wait", "pod", "-l", selector, "-n", PLATFORM_NAMESPACE];
        kubectl(&[&gone[..], &["--for=delete", "--timeout=60s"]].concat())?;
        Ok(guard)
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = scale(1);
        let rollout = ["rollout", "status", "deployment/paperclip-operator"];
        let _ = kubectl(&[&rollout[..], &["-n", PLATFORM_NAMESPACE, "--timeout=90s"]].concat());
    }
}

fn scale(replicas: u8) -> Result<()> {
    let replicas = format!("--replicas={replicas}");
    let scale = ["scale", "deployment/paperclip-operator", &replicas];
    kubectl(&[&scale[..], &["-n", PLATFORM_NAMESPACE]].concat()).map(drop)
}

/// In the long run only, since the operator is everybody's.
#[test]
fn long_a_deleted_pod_comes_back_and_serves_while_the_operator_is_away() -> Result<()> {
    let namespace = inventory("e2e-survival")?;
    let ns = namespace.name();
    let before = pod_of(ns, "inventory")?["metadata"]["uid"].clone();
    let _away = Operator::sent_away()?;
    kubectl(&[
        "delete",
        "pods",
        "-n",
        ns,
        "-l",
        "plugins.paperclip.ing/plugin=inventory",
    ])?;
    eventually("an answer of the new pod", WARM, || {
        ensure!(pod_of(ns, "inventory")?["metadata"]["uid"] != before);
        paperclip_json(ns, &["-o", "json", "data", "inventory", "counters"]).map(drop)
    })?;
    // What no controller has looked at is not taken for done: `helm --wait` asks this.
    let example = include_str!("../../../examples/inventory.yaml");
    namespace.apply(&example.replace("name: inventory", "name: unseen"))?;
    let unseen = get(&["paperclipplugin", "unseen", "-n", ns])?;
    ensure!(
        unseen["status"]["observedGeneration"] == -1,
        "{}",
        unseen["status"]
    );
    Ok(())
}

/// What must be the same before and after.
fn identity(namespace: &str) -> Result<Value> {
    let pod = pod_of(namespace, "inventory")?;
    let revisions = get(&["paperclippluginrevisions", "-n", namespace])?;
    Ok(json!({
        "pod": pod["metadata"]["uid"],
        "worker": worker_processes(namespace, "inventory")?,
        "revisions": revisions["items"].as_array().map(Vec::len),
    }))
}

/// How much of an article a plugin has in the host's database.
fn stock(plugin: &str, article: &str) -> Result<i64> {
    let rows = host_rows("select plugin_id, state_key, value_json from plugin_state")?;
    let row = rows
        .iter()
        .find(|row| row["plugin_id"] == plugin && row["state_key"] == "articles");
    let text = row.and_then(|row| row["value_json"].as_str());
    let articles: Value = serde_json::from_str(text.context("the stock")?)?;
    Ok(articles[article].as_i64().unwrap_or_default())
}

/// For how long nothing may restart once everybody has looked again: longer than a node may be
/// silent before its pods are moved (40 s), and than the operator's pause between two passes.
const QUIET: Duration = Duration::from_secs(45);

/// Restarts of every container in the namespaces of the plugin and the host, and the pods that
/// they are in.
fn restarts(namespace: &str) -> Result<BTreeMap<String, i64>> {
    let mut all = BTreeMap::new();
    for namespace in [namespace, HOST_NAMESPACE] {
        let pods = get(&["pods", "-n", namespace])?;
        for pod in pods["items"].as_array().context("items")? {
            let statuses = ["initContainerStatuses", "containerStatuses"]
                .iter()
                .filter_map(|list| pod["status"][list].as_array());
            for status in statuses.flatten() {
                let name = format!("{} {}", pod["metadata"]["uid"], status["name"]);
                let count = status["restartCount"].as_i64().context("a count")?;
                all.insert(name, count);
            }
        }
    }
    Ok(all)
}

/// Waits until kubelets and operator have spoken with the API server since this time, and the
/// operator has looked at the plugin.
fn wait_until_all_have_looked(namespace: &str, since: OffsetDateTime) -> Result<()> {
    kubectl(&[
        "annotate",
        "--overwrite",
        "paperclipplugin",
        "inventory",
        "-n",
        namespace,
        "plugins.paperclip.ing/reconcile-requested-at=after-the-silence",
    ])?;
    eventually("everybody to have looked again", WARM, || {
        for namespace in ["kube-node-lease", PLATFORM_NAMESPACE] {
            let leases = get(&["leases", "-n", namespace])?;
            let leases = leases["items"].as_array().context("items")?;
            ensure!(!leases.is_empty(), "no lease in {namespace}");
            for lease in leases {
                let renewed = lease["spec"]["renewTime"].as_str().context("a time")?;
                let renewed = OffsetDateTime::parse(renewed, &Rfc3339)?;
                ensure!(renewed > since, "{lease}");
            }
        }
        let plugin = get(&["paperclipplugin", "inventory", "-n", namespace])?;
        let handled = &plugin["status"]["lastHandledReconcileAt"];
        ensure!(*handled == "after-the-silence", "{plugin}");
        Ok(())
    })
}

/// In the long run only: a minute of silence is a minute.
#[tokio::test]
async fn long_plugins_serve_while_the_api_server_is_away_for_a_minute() -> Result<()> {
    let namespace = inventory("e2e-silence")?;
    let ns = namespace.name().to_owned();
    let plugin = get(&["paperclipplugin", "inventory", "-n", &ns])?;
    let uid = plugin["metadata"]["uid"]
        .as_str()
        .context("uid")?
        .to_owned();
    let before = (identity(&ns)?, restarts(&ns)?);
    let url = format!("{}/api/plugins/{uid}/webhooks/delivery", host_address()?);
    let client = reqwest::Client::builder()
        .timeout(Duration::from_secs(20))
        .build()?;

    let paused = cluster().pause_api_server()?;
    let started = Instant::now();
    let mut delivered = 0;
    while started.elapsed() < Duration::from_secs(60) {
        let answer = client
            .post(&url)
            .json(&json!({"sku": "silence", "quantity": 1}))
            .send()
            .await?;
        ensure!(answer.status().is_success(), "{}", answer.text().await?);
        delivered += 1;
        // The pace of the deliveries, not a wait for anything.
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    drop(paused);
    let back = OffsetDateTime::now_utc();
    ensure!(
        stock(&uid, "silence")? == delivered,
        "each delivery is in the stock once"
    );
    println!("silence: {delivered} deliveries in a minute without the API server");
    wait_until_all_have_looked(&ns, back)?;
    let quiet = Instant::now();
    while quiet.elapsed() < QUIET {
        let now = (identity(&ns)?, restarts(&ns)?);
        ensure!(
            now == before,
            "{:?} after the silence: {before:?} {now:?}",
            quiet.elapsed()
        );
        // The pace of the looks, not a wait for anything.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    namespace.wait_ready("inventory", Duration::from_secs(1))
}
