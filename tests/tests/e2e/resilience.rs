//! At 200 calls a second through the host: whatever is killed, moved or replaced, a call
//! that ended well was done once, and only calls that were under way in what was killed
//! fail, with an error that says so.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{
    load::{Kill, Load, Report},
    other_image::another_image,
    support::{
        COLD, HOST_NAMESPACE, Namespace, PLATFORM_NAMESPACE, WARM, cluster, condition, eventually,
        get, host_rows, kubectl, pod_of, processes_in_pod, publish, upgrade_platform,
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
fn under_load<T>(
    namespace: &Namespace,
    name: &str,
    fault: impl FnOnce() -> Result<T>,
) -> Result<(Report, T)> {
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
    let outcome = outcome?;
    after?;
    report.check_rate()?;
    report.check_ledger(&ledger(namespace)?)?;
    Ok((report, outcome))
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
    let (report, kill) = under_load(&namespace, "worker", || {
        let kill = Kill::all(&before)?;
        wait_for_another_worker(&namespace, &before)?;
        Ok(kill)
    })?;
    report.check_only_calls_under_way_failed(&kill)?;
    ensure!(
        restarts(&pod()?).iter().all(|count| *count == 0),
        "no container restarted: {}",
        pod()?["status"]
    );

    let before = worker_processes(ns, PLUGIN)?;
    let (report, kill) = under_load(&namespace, "sidecar", || {
        Kill::all(&processes_in_pod(&pod()?, "paperclip-sidecar")?)
    })?;
    report.check_only_calls_under_way_failed(&kill)?;
    ensure!(
        worker_processes(ns, PLUGIN)? == before,
        "the worker outlives its sidecar"
    );

    let (report, kill) = under_load(&namespace, "shim", || {
        let kill = Kill::all(&processes_in_pod(&pod()?, "paperclip-shim")?)?;
        wait_for_another_worker(&namespace, &before)?;
        Ok(kill)
    })?;
    report.check_only_calls_under_way_failed(&kill)?;

    let (report, _) = under_load(&namespace, "operator", || {
        kill_program(
            PLATFORM_NAMESPACE,
            "app.kubernetes.io/component=operator",
            "paperclip-operator",
        )
    })?;
    report.check_unbroken()?;
    ensure!(pod()?["metadata"]["uid"] == uid, "the pod stayed");

    // One process with one database: its callers lose their connections, and nothing stored.
    let (report, kill) = under_load(&namespace, "host", || {
        kill_program(
            HOST_NAMESPACE,
            "app.kubernetes.io/name=paperclip-host",
            "paperclip-host",
        )
    })?;
    report.check_lost_only_connections(&kill)?;
    ensure!(pod()?["metadata"]["uid"] == uid, "the pod stayed");
    Ok(())
}

/// kill -9 of a program in all pods with this label.
fn kill_program(namespace: &str, selector: &str, program: &str) -> Result<Kill> {
    let pods = pods_with_label(namespace, selector)?;
    let processes = pods.iter().map(|pod| processes_in_pod(pod, program));
    Kill::all(&processes.collect::<Result<Vec<_>>>()?.concat())
}

#[test]
fn an_upgrade_a_rollback_a_restart_and_a_drained_node_fail_no_call() -> Result<()> {
    let _uncordon = Uncordon;
    let namespace = installed()?;
    let ns = namespace.name();
    publish_ledger("1.1.0", "serve")?;

    unbroken(&namespace, "upgrade", || {
        namespace.apply(&plugin_yaml("1.1.0", 60))?;
        wait_for_revision(&namespace, 2)
    })?;
    // Back to what served before, though nothing is wrong with what serves now.
    unbroken(&namespace, "rollback", || {
        namespace.apply(&plugin_yaml("1.0.0", 60))?;
        let rolled_back = wait_for_revision(&namespace, 3)?;
        ensure!(
            rolled_back["status"]["artifact"]["version"] == "1.0.0",
            "{rolled_back}"
        );
        Ok(rolled_back)
    })?;

    let running = running_sidecar(ns)?;
    let digest = another_image("paperclip-sidecar")?;
    ensure!(!running.ends_with(&digest), "{running} runs already");
    let _sidecar = OtherSidecar;
    unbroken(&namespace, "sidecar-upgrade", || {
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
        wait_for_revision(&namespace, 4)
    })?;
    let running = running_sidecar(ns)?;
    ensure!(running.ends_with(&digest), "{running} runs, not {digest}");

    let node = pod_of(ns, PLUGIN)?["spec"]["nodeName"]
        .as_str()
        .context("the pod has a node")?
        .to_owned();
    unbroken(&namespace, "drain", || {
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
    })
}

/// Does something under load, during which no call may fail or be held for too long.
fn unbroken<T>(
    namespace: &Namespace,
    name: &str,
    change: impl FnOnce() -> Result<T>,
) -> Result<()> {
    under_load(namespace, name, change)?.0.check_unbroken()
}

/// Waits until a revision serves, with one pod alone.
fn wait_for_revision(namespace: &Namespace, number: u32) -> Result<Value> {
    eventually("the revision to serve alone", WARM, || {
        let plugin = plugin(namespace)?;
        let active = &plugin["status"]["activeRevision"]["number"];
        ensure!(*active == number, "{plugin}");
        pod_of(namespace.name(), PLUGIN)?;
        Ok(plugin)
    })
}

/// The image of the sidecar that runs, as the node names it: by its digest.
fn running_sidecar(namespace: &str) -> Result<String> {
    let statuses = "/status/initContainerStatuses";
    sidecar(&pod_of(namespace, PLUGIN)?, statuses, "imageID")
}

/// Upgrades to a version that behaves in this way, under load, and expects it to be taken
/// back for this reason.
fn bad_upgrade(namespace: &Namespace, version: &str, behaviour: &str, says: &str) -> Result<()> {
    let ns = namespace.name();
    publish_ledger(version, behaviour)?;
    let before = pod_of(ns, PLUGIN)?["metadata"]["uid"].clone();
    unbroken(namespace, behaviour, || {
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
    })?;
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
