//! Three pods of one plugin on two nodes: calls are spread, a job tick and an event have one
//! place, and the next pod takes over when that goes.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::{
    load::host_address,
    support::{
        COLD, HOST_NAMESPACE, Namespace, WARM, eventually, get, host_rows, kubectl, pods_of,
    },
};

/// Name of the plugin of these tests.
pub const PLUGIN: &str = "relay";
const WORKER: &str = include_str!("../../plugins/relay/worker.js");
/// A job ticks once a minute.
const TICK: Duration = Duration::from_secs(150);

/// Applies the plugin with these fields of its spec.
pub fn apply(namespace: &Namespace, more: &Value) -> Result<()> {
    let file = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": PLUGIN},
        "data": {"worker.js": WORKER},
    });
    let mut plugin = json!({
        "apiVersion": "plugins.paperclip.ing/v1alpha1", "kind": "PaperclipPlugin",
        "metadata": {"name": PLUGIN},
        "spec": {
            "source": {"configMap": {"name": PLUGIN, "key": "worker.js"}},
            "host": {"name": "main", "namespace": HOST_NAMESPACE},
            "manifest": {
                "id": "test.relay", "apiVersion": 1, "version": "1.0.0", "displayName": "Relay",
                "description": "Writes down which pod did what.",
                "author": "Paperclip plugin platform for Kubernetes", "categories": ["automation"],
                "capabilities": ["events.emit", "events.subscribe", "jobs.schedule",
                    "plugin.state.read", "plugin.state.write", "webhooks.receive"],
                "entrypoints": {"worker": "./worker.js"},
                "jobs": [{"jobKey": "tick", "displayName": "Tick", "schedule": "* * * * *"}],
                "webhooks": [{"endpointKey": "in", "displayName": "In"}],
            },
        },
    });
    let fields = more.as_object().context("fields")?.clone();
    plugin["spec"]
        .as_object_mut()
        .context("a spec")?
        .extend(fields);
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [file, plugin]});
    namespace.apply(&list.to_string()).map(drop)
}

/// Posts webhooks at the same time; gives status and body of each.
pub fn post(bodies: Vec<Value>) -> Result<Vec<(StatusCode, Value)>> {
    let url = format!("{}/api/plugins/test.relay/webhooks/in", host_address()?);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let client = reqwest::Client::builder()
            .timeout(Duration::from_secs(60))
            .build()?;
        let posts = bodies.into_iter().map(|body| {
            let request = client.post(&url).json(&body);
            tokio::spawn(async move {
                let answer = request.send().await?;
                let status = answer.status();
                Ok::<_, reqwest::Error>((status, answer.json().await?))
            })
        });
        let mut answers = Vec::new();
        for post in posts.collect::<Vec<_>>() {
            answers.push(post.await??);
        }
        Ok(answers)
    })
}

/// What was done, by what it is called, with the pods that did it; from the host's database.
fn done(namespace: &Namespace, kind: &str) -> Result<BTreeMap<String, Vec<String>>> {
    let plugin = get(&["paperclipplugin", PLUGIN, "-n", namespace.name()])?;
    let uid = &plugin["metadata"]["uid"];
    let rows = host_rows(
        "select plugin_id, state_key, value_json from plugin_state where state_key like 'relay-%'",
    )?;
    let mut all = BTreeMap::new();
    for row in rows.iter().filter(|row| row["plugin_id"] == *uid) {
        let key = row["state_key"].as_str().context("a key")?;
        let Some(name) = key.strip_prefix(&format!("relay-{kind}-")) else {
            continue;
        };
        let value: Value = serde_json::from_str(row["value_json"].as_str().context("a value")?)?;
        all.insert(
            name.to_owned(),
            serde_json::from_value(value["pods"].clone())?,
        );
    }
    Ok(all)
}

/// Names of the pods once so many are ready.
fn ready_pods(namespace: &Namespace, count: usize) -> Result<BTreeSet<String>> {
    eventually(&format!("{count} ready pods"), WARM, || {
        let pods = pods_of(namespace.name(), PLUGIN)?;
        let is_ready = |pod: &&Value| {
            let conditions = pod["status"]["conditions"].as_array();
            let mut conditions = conditions.into_iter().flatten();
            conditions.any(|found| found["type"] == "Ready" && found["status"] == "True")
        };
        let name = |pod: &Value| pod["metadata"]["name"].as_str().map(str::to_owned);
        let ready: BTreeSet<String> = pods.iter().filter(is_ready).filter_map(name).collect();
        ensure!(ready.len() == count && pods.len() == count, "{ready:?}");
        Ok(ready)
    })
}

/// Emits an event through a webhook, and gives the pods that heard it.
fn heard(namespace: &Namespace, name: &str) -> Result<Vec<String>> {
    let answers = post(vec![json!({ "emit": name })])?;
    ensure!(answers[0].0 == StatusCode::OK, "{answers:?}");
    eventually(&format!("the event {name}"), WARM, || {
        let mut events = done(namespace, "event")?;
        events.remove(name).context("nobody heard it yet")
    })
}

/// The pods that ran a tick of the job that nobody had run before.
fn ticked(namespace: &Namespace) -> Result<Vec<String>> {
    let before = done(namespace, "job")?;
    eventually("a tick of the job", TICK, || {
        let now = done(namespace, "job")?;
        let mut new = now
            .into_iter()
            .filter(|(tick, _)| !before.contains_key(tick));
        let (_, pods) = new.next().context("no new tick yet")?;
        Ok(pods)
    })
}

#[test]
fn three_pods_share_the_calls_and_one_has_jobs_and_events() -> Result<()> {
    let namespace = Namespace::create("e2e-replicas")?;
    apply(&namespace, &json!({}))?;
    namespace.wait_ready(PLUGIN, COLD)?;
    apply(&namespace, &json!({"worker": {"replicas": 3}}))?;
    let names = ready_pods(&namespace, 3)?;
    namespace.wait_ready(PLUGIN, WARM)?;
    let revisions = get(&["paperclippluginrevisions", "-n", namespace.name()])?;
    let revisions = revisions["items"].as_array().map(Vec::len);
    ensure!(revisions == Some(1), "{revisions:?} revisions");
    let pods = pods_of(namespace.name(), PLUGIN)?;
    let nodes: BTreeSet<_> = pods
        .iter()
        .map(|pod| pod["spec"]["nodeName"].to_string())
        .collect();
    ensure!(nodes.len() == 2, "pods on {nodes:?}");

    // A pod is ready before the host has its session, so the first few may miss the last one.
    eventually("calls at all three pods", WARM, || {
        let stamp = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
        let prefix = format!("{}", stamp.as_millis());
        let bodies = (0..200).map(|number| json!({"name": format!("{prefix}-{number}")}));
        let answers = post(bodies.collect())?;
        let bad = answers.iter().find(|(status, _)| *status != StatusCode::OK);
        ensure!(bad.is_none(), "{bad:?}");
        let calls = done(&namespace, "webhook")?;
        let calls = calls.iter().filter(|(name, _)| name.starts_with(&prefix));
        let mut shares: BTreeMap<&str, usize> = BTreeMap::new();
        for (name, pods) in calls {
            ensure!(pods.len() == 1, "{name} was done by {pods:?}");
            *shares.entry(pods[0].as_str()).or_default() += 1;
        }
        ensure!(shares.values().sum::<usize>() == 200, "{shares:?}");
        let is_share = |(name, calls): (&&str, &usize)| names.contains(*name) && *calls >= 60;
        ensure!(
            shares.len() == 3 && shares.iter().all(is_share),
            "{shares:?}"
        );
        Ok(())
    })?;

    let first = names.first().context("a first pod")?;
    ensure!(heard(&namespace, "one")? == [first.as_str()]);
    ensure!(ticked(&namespace)? == [first.as_str()]);

    kubectl(&[
        "delete",
        "pod",
        first,
        "-n",
        namespace.name(),
        "--grace-period=1",
    ])?;
    let left = ready_pods(&namespace, 3)?;
    ensure!(!left.contains(first));
    let next = left.first().context("a next pod")?;
    // The new pod may be the first by name, and the host find it a moment after it is ready.
    let mut number = 1;
    eventually("events at the next pod", WARM, || {
        number += 1;
        let pods = heard(&namespace, &number.to_string())?;
        ensure!(pods == [next.as_str()], "{pods:?}");
        Ok(())
    })?;
    ensure!(ticked(&namespace)? == [next.as_str()]);
    for (event, pods) in done(&namespace, "event")? {
        ensure!(pods.len() == 1, "{event} was heard by {pods:?}");
    }
    for (tick, pods) in done(&namespace, "job")? {
        ensure!(pods.len() == 1, "tick {tick} was run by {pods:?}");
    }
    Ok(())
}
