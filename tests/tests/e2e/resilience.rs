//! At 200 calls a second through the host: whatever is killed, moved or replaced, a call
//! that ended well was done once, and only calls that were under way in what was killed
//! fail, with an error that says so.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{
    load::{Load, Report},
    support::{
        COLD, HOST_NAMESPACE, Namespace, PLATFORM_NAMESPACE, WARM, cluster, condition, eventually,
        get, host_rows, kill_all, kubectl, pod_of, processes_in_pod, publish, upgrade_platform,
        worker_processes,
    },
};

/// One for all tests of the ledger: a host finds a tool by its plugin's key, so a second
/// ledger that is still going would answer too.
pub const NAMESPACE: &str = "e2e-ledger";
const PLUGIN: &str = "ledger";
const PLUGIN_KEY: &str = "test.ledger";
const PACKAGE: &str = "paperclip-plugin-test-ledger";
const RATE: u32 = 200;

/// Publishes a version of the ledger that behaves in this way.
pub fn publish_ledger(version: &str, behaviour: &str) -> Result<()> {
    let replacements = [
        ("\"1.0.0\"", format!("\"{version}\"")),
        (
            "BEHAVIOUR = \"serve\"",
            format!("BEHAVIOUR = \"{behaviour}\""),
        ),
    ];
    let files = ["package.json", "manifest.js", "worker.js"];
    publish("tests/plugins/ledger", version, &files, &replacements)
}

fn plugin_yaml(version: &str, deadline: u32) -> String {
    format!(
        "apiVersion: plugins.paperclip.ing/v1alpha1
kind: PaperclipPlugin
metadata:
  name: {PLUGIN}
spec:
  source:
    npm:
      package: {PACKAGE}
      version: {version}
  host:
    name: main
    namespace: {HOST_NAMESPACE}
  upgrade:
    progressDeadlineSeconds: {deadline}
"
    )
}

fn plugin(namespace: &Namespace) -> Result<Value> {
    get(&["paperclipplugin", PLUGIN, "-n", namespace.name()])
}

/// What the worker wrote down, read from the host's database.
fn ledger(namespace: &Namespace) -> Result<BTreeMap<String, u64>> {
    let uid = plugin(namespace)?["metadata"]["uid"].clone();
    let rows = host_rows(
        "select plugin_id, state_key, value_json from plugin_state where state_key like 'call-%'",
    )?;
    let mut entries = BTreeMap::new();
    for row in rows.iter().filter(|row| row["plugin_id"] == uid) {
        let name = row["state_key"].as_str().context("a key")?;
        let value: Value = serde_json::from_str(row["value_json"].as_str().context("a value")?)?;
        let count = value["count"].as_u64().context("a count")?;
        entries.insert(name.trim_start_matches("call-").to_owned(), count);
    }
    Ok(entries)
}

/// Does something under load, and gives what became of the calls once it is done.
fn under_load(
    namespace: &Namespace,
    name: &str,
    fault: impl FnOnce() -> Result<()>,
) -> Result<Report> {
    let load = Load::start(PLUGIN_KEY, name, RATE)?;
    let before = entries_of(namespace, name);
    eventually("the load to arrive", WARM, || {
        ensure!(entries_of(namespace, name)? > before.as_ref().copied().unwrap_or(0) + 100);
        Ok(())
    })?;
    let outcome = fault();
    let reached = entries_of(namespace, name)?;
    let after = eventually("the load to go on", WARM, || {
        ensure!(entries_of(namespace, name)? > reached + 100);
        Ok(())
    });
    let report = load.stop()?;
    report.print(name);
    outcome?;
    after?;
    report.check_ledger(&ledger(namespace)?)?;
    Ok(report)
}

/// How many calls of this load the worker wrote down.
fn entries_of(namespace: &Namespace, name: &str) -> Result<usize> {
    let prefix = format!("{name}-");
    let entries = ledger(namespace)?;
    Ok(entries
        .keys()
        .filter(|key| key.starts_with(&prefix))
        .count())
}

fn restarts(pod: &Value) -> Vec<i64> {
    ["initContainerStatuses", "containerStatuses"]
        .iter()
        .filter_map(|kind| pod["status"][kind].as_array())
        .flatten()
        .filter_map(|status| status["restartCount"].as_i64())
        .collect()
}

fn wait_for_another_worker(namespace: &Namespace, before: &[i32]) -> Result<()> {
    eventually("another worker", WARM, || {
        let now = worker_processes(namespace.name(), PLUGIN)?;
        ensure!(
            !now.is_empty() && now.iter().all(|pid| !before.contains(pid)),
            "{before:?} {now:?}"
        );
        Ok(())
    })
}

fn pods_with_label(namespace: &str, selector: &str) -> Result<Vec<Value>> {
    let list = get(&["pods", "-n", namespace, "-l", selector])?;
    Ok(list["items"].as_array().cloned().unwrap_or_default())
}

/// Uncordons every node, whatever happened in between.
struct Uncordon;

impl Drop for Uncordon {
    fn drop(&mut self) {
        for node in cluster().node_names() {
            let _ = kubectl(&["uncordon", &node]);
        }
    }
}

/// Puts the platform's sidecar image back, whatever happened in between.
struct OtherSidecar;

impl Drop for OtherSidecar {
    fn drop(&mut self) {
        let _ = upgrade_platform(&["--set=images.sidecar.digest="]);
    }
}

/// Something of the sidecar: a field of its entry in this list of the pod.
fn sidecar(pod: &Value, list: &str, field: &str) -> Result<String> {
    let mut entries = pod
        .pointer(list)
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let sidecar = entries.find(|entry| entry["name"] == "sidecar");
    let text = sidecar.and_then(|sidecar| sidecar[field].as_str());
    Ok(text
        .with_context(|| format!("{list} of the sidecar"))?
        .to_owned())
}

fn installed() -> Result<Namespace> {
    publish_ledger("1.0.0", "serve")?;
    let namespace = Namespace::create(NAMESPACE)?;
    namespace.apply(&plugin_yaml("1.0.0", 60))?;
    namespace.wait_ready(PLUGIN, COLD)?;
    Ok(namespace)
}

#[test]
fn killed_processes_fail_only_calls_under_way_and_no_call_is_done_twice() -> Result<()> {
    let namespace = installed()?;
    let ns = namespace.name();
    let pod = || pod_of(ns, PLUGIN);
    let uid = pod()?["metadata"]["uid"].clone();

    let before = worker_processes(ns, PLUGIN)?;
    let report = under_load(&namespace, "worker", || {
        kill_all(&before)?;
        wait_for_another_worker(&namespace, &before)
    })?;
    report.check_only_calls_under_way_failed(RATE)?;
    ensure!(
        restarts(&pod()?).iter().all(|count| *count == 0),
        "no container restarted: {}",
        pod()?["status"]
    );

    let before = worker_processes(ns, PLUGIN)?;
    let report = under_load(&namespace, "sidecar", || {
        kill_all(&processes_in_pod(&pod()?, "paperclip-sidecar")?)
    })?;
    report.check_only_calls_under_way_failed(RATE)?;
    ensure!(
        worker_processes(ns, PLUGIN)? == before,
        "the worker outlives its sidecar"
    );

    let report = under_load(&namespace, "shim", || {
        kill_all(&processes_in_pod(&pod()?, "paperclip-shim")?)?;
        wait_for_another_worker(&namespace, &before)
    })?;
    report.check_only_calls_under_way_failed(RATE)?;

    let report = under_load(&namespace, "operator", || {
        let operators =
            pods_with_label(PLATFORM_NAMESPACE, "app.kubernetes.io/component=operator")?;
        for operator in &operators {
            kill_all(&processes_in_pod(operator, "paperclip-operator")?)?;
        }
        Ok(())
    })?;
    report.check_unbroken()?;
    ensure!(pod()?["metadata"]["uid"] == uid, "the pod stayed");

    // One process with one database: its callers lose their connections, and nothing stored.
    under_load(&namespace, "host", || {
        let hosts = pods_with_label(HOST_NAMESPACE, "app.kubernetes.io/name=paperclip-host")?;
        for host in &hosts {
            kill_all(&processes_in_pod(host, "paperclip-host")?)?;
        }
        Ok(())
    })?;
    ensure!(pod()?["metadata"]["uid"] == uid, "the pod stayed");
    Ok(())
}

#[test]
fn an_upgrade_a_restart_and_a_drained_node_fail_no_call() -> Result<()> {
    let _uncordon = Uncordon;
    let namespace = installed()?;
    let ns = namespace.name();
    publish_ledger("1.1.0", "serve")?;

    under_load(&namespace, "upgrade", || {
        namespace.apply(&plugin_yaml("1.1.0", 60))?;
        eventually("the new version to serve alone", WARM, || {
            let plugin = plugin(&namespace)?;
            ensure!(
                plugin["status"]["activeRevision"]["number"] == 2,
                "{plugin}"
            );
            pod_of(ns, PLUGIN).map(drop)
        })
    })?
    .check_unbroken()?;

    let image = sidecar(
        &pod_of(ns, PLUGIN)?,
        "/status/initContainerStatuses",
        "imageID",
    )?;
    let (_, digest) = image.split_once('@').context("an image by its digest")?;
    let _sidecar = OtherSidecar;
    under_load(&namespace, "sidecar-upgrade", || {
        let before = pod_of(ns, PLUGIN)?["metadata"]["uid"].clone();
        upgrade_platform(&[&format!("--set=images.sidecar.digest={digest}")])?;
        namespace.wait_ready(PLUGIN, WARM)?;
        ensure!(
            pod_of(ns, PLUGIN)?["metadata"]["uid"] == before,
            "an upgrade of the platform leaves pods alone"
        );
        kubectl(&[
            "annotate",
            "paperclipplugin",
            PLUGIN,
            "-n",
            ns,
            "plugins.paperclip.ing/restarted-at=now",
        ])?;
        eventually("another revision to serve alone", WARM, || {
            let plugin = plugin(&namespace)?;
            ensure!(
                plugin["status"]["activeRevision"]["number"] == 3,
                "{plugin}"
            );
            let image = sidecar(&pod_of(ns, PLUGIN)?, "/spec/initContainers", "image")?;
            ensure!(image.ends_with(digest), "{image}");
            Ok(())
        })
    })?
    .check_unbroken()?;

    let node = pod_of(ns, PLUGIN)?["spec"]["nodeName"]
        .as_str()
        .context("the pod has a node")?
        .to_owned();
    under_load(&namespace, "drain", || {
        // The host and the store are one process each, so they stay.
        kubectl(&[
            "drain",
            &node,
            "--delete-emptydir-data",
            "--ignore-daemonsets",
            &format!("--pod-selector=plugins.paperclip.ing/plugin={PLUGIN}"),
            "--timeout=120s",
        ])?;
        eventually("the plugin on the other node", WARM, || {
            let pod = pod_of(ns, PLUGIN)?;
            ensure!(pod["spec"]["nodeName"] != node.as_str(), "{}", pod["spec"]);
            Ok(())
        })
    })?
    .check_unbroken()
}

/// Upgrades to a version that behaves in this way, under load, and expects it to be taken
/// back for this reason.
fn bad_upgrade(namespace: &Namespace, version: &str, behaviour: &str, says: &str) -> Result<()> {
    let ns = namespace.name();
    publish_ledger(version, behaviour)?;
    let before = pod_of(ns, PLUGIN)?["metadata"]["uid"].clone();
    under_load(namespace, behaviour, || {
        namespace.apply(&plugin_yaml(version, 10))?;
        eventually("the old version to be alone again", WARM, || {
            let plugin = plugin(namespace)?;
            let ready = condition(&plugin, "Ready");
            ensure!(ready["reason"] == "RolledBack", "{ready}");
            let message = ready["message"].as_str().context("a message")?;
            ensure!(message.contains(says), "{says:?} is not in {message:?}");
            let stalled = condition(&plugin, "Stalled");
            ensure!(stalled["status"] == "True", "{stalled}");
            pod_of(ns, PLUGIN).map(drop)
        })
    })?
    .check_unbroken()?;
    ensure!(
        pod_of(ns, PLUGIN)?["metadata"]["uid"] == before,
        "the pod that served all the time still does"
    );
    Ok(())
}

#[test]
fn an_upgrade_to_a_version_that_crashes_is_taken_back_and_fails_no_call() -> Result<()> {
    let namespace = installed()?;
    bad_upgrade(&namespace, "2.0.0", "exit", "the ink has run dry")?;
    // The way out is another version, or the old one again.
    namespace.apply(&plugin_yaml("1.0.0", 60))?;
    namespace.wait_ready(PLUGIN, Duration::from_secs(30))
}

/// In the long run only.
#[test]
fn long_upgrades_to_versions_that_hang_or_answer_wrongly_are_taken_back() -> Result<()> {
    let namespace = installed()?;
    bad_upgrade(&namespace, "2.1.0", "hang", "initialize")?;
    bad_upgrade(&namespace, "2.2.0", "error", "bound the wrong way round")?;
    bad_upgrade(&namespace, "2.3.0", "nonsense", "initialize")
}
