//! Config and secrets reach a running worker without a restart, and what is refused
//! changes nothing.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::{
    canaries,
    support::{
        COLD, HOST_NAMESPACE, Namespace, WARM, condition, eventually, get, kubectl, paperclip_json,
        pod_of, publish, worker_processes,
    },
};

const PLUGIN: &str = "settings";
const PACKAGE: &str = "paperclip-plugin-test-settings";
/// Failures show in status within this time.
const SOON: Duration = Duration::from_secs(30);

fn installed(name: &str, settings: &str) -> Result<Namespace> {
    let files = ["package.json", "manifest.js", "worker.js"];
    publish("tests/plugins/settings", "1.0.0", &files, &[])?;
    let namespace = Namespace::create(name)?;
    apply(&namespace, settings)?;
    Ok(namespace)
}

/// Applies the plugin with this piece of spec.
fn apply(namespace: &Namespace, settings: &str) -> Result<()> {
    let yaml = format!(
        "apiVersion: plugins.paperclip.ing/v1alpha1
kind: PaperclipPlugin
metadata:
  name: {PLUGIN}
spec:
  source:
    npm:
      package: {PACKAGE}
      version: 1.0.0
  host:
    name: main
    namespace: {HOST_NAMESPACE}
  revisionHistoryLimit: 1
{settings}"
    );
    namespace.apply(&yaml).map(drop)
}

/// What the worker shows: its config, the secret it resolved, what was announced.
fn shown(namespace: &Namespace) -> Result<Value> {
    let arguments = ["-o", "json", "call", PLUGIN, "show"];
    let answer = paperclip_json(namespace.name(), &arguments)?;
    Ok(answer["result"]["data"].clone())
}

fn plugin(namespace: &Namespace) -> Result<Value> {
    get(&["paperclipplugin", PLUGIN, "-n", namespace.name()])
}

/// What must not change when only config does.
#[derive(Debug, PartialEq)]
struct Untouched {
    pod: Value,
    worker: Vec<i32>,
    deployment: Value,
}

fn untouched(namespace: &Namespace) -> Result<Untouched> {
    let name = format!("pcp-{PLUGIN}");
    let deployment = get(&["deployment", &name, "-n", namespace.name()])?;
    Ok(Untouched {
        pod: pod_of(namespace.name(), PLUGIN)?["metadata"]["uid"].clone(),
        worker: worker_processes(namespace.name(), PLUGIN)?,
        deployment: deployment["metadata"]["generation"].clone(),
    })
}

/// Asks the operator to look again at once, for what it would see within half a minute.
fn reconcile_now(namespace: &Namespace, request: &str) -> Result<()> {
    let annotation = format!("plugins.paperclip.ing/reconcile-requested-at={request}");
    let arguments = [
        "annotate",
        "--overwrite",
        "paperclipplugin",
        PLUGIN,
        &annotation,
    ];
    kubectl(&[&arguments[..], &["-n", namespace.name()]].concat()).map(drop)
}

fn wait_refused(namespace: &Namespace, reason: &str, says: &[&str]) -> Result<()> {
    eventually(&format!("the reason {reason}"), SOON, || {
        let plugin = plugin(namespace)?;
        let valid = condition(&plugin, "ConfigValid");
        ensure!(
            valid["status"] == "False" && valid["reason"] == reason,
            "{valid}"
        );
        let ready = condition(&plugin, "Ready");
        ensure!(
            ready["status"] == "False" && ready["reason"] == reason,
            "{ready}"
        );
        let message = ready["message"].as_str().context("a message")?;
        for words in says {
            ensure!(message.contains(words), "{words:?} is not in {message:?}");
        }
        Ok(())
    })
}

#[test]
fn a_config_reaches_the_running_worker_and_a_refused_one_changes_nothing() -> Result<()> {
    let namespace = installed(
        "e2e-config",
        "  config: {default: {colour: red, size: 1}}\n",
    )?;
    namespace.wait_ready(PLUGIN, COLD)?;
    ensure!(shown(&namespace)?["config"] == json!({"colour": "red", "size": 1}));
    let before = untouched(&namespace)?;

    // Inline, over a ConfigMap.
    namespace.apply(
        "apiVersion: v1
kind: ConfigMap
metadata: {name: shared}
data: {settings.yaml: \"colour: green\\nsize: 7\\n\"}
",
    )?;
    let from =
        "  config: {default: {colour: blue}, defaultFrom: [{name: shared, key: settings.yaml}]}\n";
    apply(&namespace, from)?;
    eventually("the new config", SOON, || {
        let shown = shown(&namespace)?;
        ensure!(
            shown["config"] == json!({"colour": "blue", "size": 7}),
            "{shown}"
        );
        let announced = shown["announced"].as_array().context("announced")?;
        ensure!(announced.last() == Some(&shown["config"]), "{shown}");
        let times = announced
            .iter()
            .filter(|one| **one == shown["config"])
            .count();
        ensure!(times == 1, "announced {times} times");
        Ok(())
    })?;
    namespace.wait_ready(PLUGIN, SOON)?;
    ensure!(
        untouched(&namespace)? == before,
        "{before:?} {:?}",
        untouched(&namespace)?
    );
    ensure!(plugin(&namespace)?["status"]["activeRevision"]["number"] == 2);

    // The ConfigMap alone.
    kubectl(&[
        "patch",
        "configmap",
        "shared",
        "-n",
        namespace.name(),
        "-p",
        r#"{"data":{"settings.yaml":"{\"size\": 8}"}}"#,
    ])?;
    reconcile_now(&namespace, "1")?;
    eventually("the ConfigMap's change", SOON, || {
        let shown = shown(&namespace)?;
        ensure!(
            shown["config"] == json!({"colour": "blue", "size": 8}),
            "{shown}"
        );
        Ok(())
    })?;

    // Refused by the schema, then by the worker, each with its words; the worker goes on.
    apply(
        &namespace,
        "  config: {default: {colour: blue, size: many}}\n",
    )?;
    wait_refused(&namespace, "ConfigInvalid", &["size", "many", "integer"])?;
    apply(&namespace, "  config: {default: {colour: invisible}}\n")?;
    wait_refused(&namespace, "ConfigRejected", &["nobody can see invisible"])?;
    ensure!(shown(&namespace)?["config"] == json!({"colour": "blue", "size": 8}));
    ensure!(untouched(&namespace)? == before);

    // A new pod starts with what was accepted last.
    kubectl(&[
        "delete",
        "pod",
        "-n",
        namespace.name(),
        "-l",
        "plugins.paperclip.ing/plugin=settings",
    ])?;
    eventually("the accepted config in a new pod", WARM, || {
        let shown = shown(&namespace)?;
        ensure!(
            shown["config"] == json!({"colour": "blue", "size": 8}),
            "{shown}"
        );
        Ok(())
    })?;
    apply(&namespace, "  config: {default: {colour: red}}\n")?;
    namespace.wait_ready(PLUGIN, SOON)?;
    eventually(
        "history to keep one beside the active revision",
        SOON,
        || {
            let revisions = get(&["paperclippluginrevisions", "-n", namespace.name()])?;
            let kept = revisions["items"].as_array().map(Vec::len);
            ensure!(kept == Some(2), "{kept:?} revisions");
            Ok(())
        },
    )
}

const TOKEN: &str = "tok-7d1f0c55e6";
const ROTATED: &str = "tok-93b2a8c4d1";
const PASSWORD: &str = "pw-51c0ffee77";

fn secret(token: &str) -> String {
    format!(
        "apiVersion: v1
kind: Secret
metadata: {{name: access, labels: {{plugins.paperclip.ing/allow-plugins: \"true\"}}}}
stringData: {{token: {token}, password: {PASSWORD}}}
"
    )
}

#[test]
fn a_secret_is_resolved_filled_in_and_rotated_without_a_restart_and_never_leaves_the_pod()
-> Result<()> {
    let settings = "  config: {default: {colour: red}}
  secrets:
    - {name: token, secretRef: {name: access, key: token}, configPath: /token}
    - {name: password, secretRef: {name: access, key: password}, configPath: /smtp/password, use: Value}
";
    let namespace = installed("e2e-secrets", settings)?;
    let ns = namespace.name();
    wait_refused(&namespace, "SecretUnavailable", &["access"])?;
    // There, but not opened to plugins.
    namespace.apply(&secret(TOKEN).replace("\"true\"", "\"false\""))?;
    reconcile_now(&namespace, "1")?;
    wait_refused(
        &namespace,
        "SecretUnavailable",
        &["access", "plugins.paperclip.ing/allow-plugins"],
    )?;
    namespace.apply(&secret(TOKEN))?;
    reconcile_now(&namespace, "2")?;
    namespace.wait_ready(PLUGIN, COLD)?;

    let first = shown(&namespace)?;
    ensure!(first["secret"] == TOKEN, "resolved: {first}");
    ensure!(first["config"]["token"]["type"] == "secret_ref", "{first}");
    ensure!(first["config"]["smtp"]["password"] == PASSWORD, "{first}");
    let before = untouched(&namespace)?;

    // Nobody is asked to look again.
    namespace.apply(&secret(ROTATED))?;
    eventually("the rotated secret", WARM, || {
        let shown = shown(&namespace)?;
        ensure!(shown["secret"] == ROTATED, "{shown}");
        Ok(())
    })?;
    ensure!(untouched(&namespace)? == before);

    let name = pod_of(ns, PLUGIN)?["metadata"]["name"].clone();
    let log = kubectl(&[
        "logs",
        "-n",
        ns,
        name.as_str().context("name")?,
        "-c",
        "sidecar",
    ])?;
    ensure!(log.contains("the token is"), "the worker said it: {log}");
    // The plugin's own Secret is what its sidecar reads.
    let belongs = ["access", "pcp-settings-config"];
    canaries::are_nowhere_else(&[TOKEN, ROTATED, PASSWORD], ns, &belongs)
}
