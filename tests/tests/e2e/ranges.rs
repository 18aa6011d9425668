//! A version range: what it stands for is looked up, written down, and moves only when asked.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::support::{
    COLD, HOST_NAMESPACE, Namespace, WARM, eventually, get, paperclip, pod_of, publish_settings,
};

const PLUGIN: &str = "settings";
const PACKAGE: &str = "paperclip-plugin-test-settings";

fn apply(namespace: &Namespace, npm: &Value) -> Result<()> {
    let mut source = json!({"package": PACKAGE});
    let fields = source.as_object_mut().context("an object")?;
    fields.extend(npm.as_object().cloned().unwrap_or_default());
    let plugin = json!({
        "apiVersion": "plugins.paperclip.ing/v1alpha1", "kind": "PaperclipPlugin",
        "metadata": {"name": PLUGIN},
        "spec": {
            "source": {"npm": source},
            "config": {"default": {"colour": "red"}},
            "host": {"name": "main", "namespace": HOST_NAMESPACE},
        },
    });
    namespace.apply(&plugin.to_string()).map(drop)
}

fn status(namespace: &Namespace) -> Result<Value> {
    let plugin = get(&["paperclipplugin", PLUGIN, "-n", namespace.name()])?;
    Ok(plugin["status"].clone())
}

fn wait_version(namespace: &Namespace, version: &str) -> Result<Value> {
    eventually(&format!("version {version} to serve"), COLD, || {
        namespace.wait_ready(PLUGIN, WARM)?;
        let status = status(namespace)?;
        ensure!(status["artifact"]["version"] == version, "{status}");
        Ok(status)
    })
}

#[test]
fn a_range_moves_when_asked_and_a_lock_holds_it() -> Result<()> {
    publish_settings("3.0.0")?;
    let namespace = Namespace::create("e2e-ranges")?;
    let ns = namespace.name();
    apply(&namespace, &json!({"range": "^3.0.0"}))?;
    let first = wait_version(&namespace, "3.0.0")?;
    let resolution = &first["resolution"];
    ensure!(
        resolution["source"] == format!("{PACKAGE}@^3.0.0"),
        "{resolution}"
    );
    let integrity = resolution["integrity"].as_str().context("integrity")?;
    ensure!(integrity.starts_with("sha512-"), "{integrity}");
    // It stood in the status before it was packed.
    let times = [&resolution["resolvedAt"], &first["artifact"]["observedAt"]];
    ensure!(times[0].as_str() <= times[1].as_str(), "{times:?}");

    publish_settings("3.1.0")?;
    paperclip(ns, &["reconcile", PLUGIN])?;
    let second = wait_version(&namespace, "3.1.0")?;
    ensure!(second["activeRevision"]["number"] == 2, "{second}");
    let uid = || Ok(pod_of(ns, PLUGIN)?["metadata"]["uid"].clone());
    let pod = eventually("the pod of the version before to be gone", WARM, uid)?;

    // Nothing is within: said by name, and what serves goes on.
    apply(&namespace, &json!({"range": "^99.0.0"}))?;
    eventually("the reason", WARM, || {
        let status = status(&namespace)?;
        let conditions = status["conditions"].as_array().context("conditions")?;
        let ready = conditions.iter().find(|one| one["type"] == "Ready");
        let ready = ready.context("Ready")?;
        ensure!(ready["reason"] == "VersionNotFound", "{ready}");
        let says = ready["message"].as_str().unwrap_or_default();
        ensure!(says.contains(&format!("{PACKAGE}@^99.0.0")), "{says}");
        Ok(())
    })?;
    ensure!(uid()? == pod);

    // The lock of the first version holds the range where it was.
    let lock = json!({
        "name": "root", "lockfileVersion": 3, "requires": true,
        "packages": {
            "": {"dependencies": {PACKAGE: "3.0.0"}},
            format!("node_modules/{PACKAGE}"): {"version": "3.0.0", "integrity": integrity},
        },
    });
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "lock"},
        "data": {"package-lock.json": lock.to_string()},
    });
    namespace.apply(&map.to_string())?;
    let locked = json!({"name": "lock", "key": "package-lock.json"});
    apply(&namespace, &json!({"range": "^3.0.0", "lock": locked}))?;
    wait_version(&namespace, "3.0.0").map(drop)
}
