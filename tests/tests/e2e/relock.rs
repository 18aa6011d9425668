//! A recorded lock stays what it is when a dependency moves upstream; asked for a new one,
//! the plugin gets it as a new revision, is told what moved, and nobody else moves.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::support::{
    COLD, HOST_NAMESPACE, Namespace, get, paperclip, paperclip_command, paperclip_json, publish,
};

const PLUGIN: &str = "relocked";
const PACKAGE: &str = "paperclip-plugin-test-relock";
const PART: &str = "paperclip-plugin-test-part";
const VERSION: &str = "6.0.0";

/// Publishes the settings plugin under another name.
fn release(name: &str, version: &str, dependencies: &Value) -> Result<()> {
    let edits = [
        ("paperclip-plugin-test-settings", name.to_owned()),
        ("\"1.0.0\"", format!("\"{version}\"")),
        (
            "\"type\": \"module\",",
            format!("\"type\": \"module\", \"dependencies\": {dependencies},"),
        ),
    ];
    let files = ["package.json", "manifest.js", "worker.js"];
    publish("tests/plugins/settings", version, &files, &edits)
}

fn plugin(name: &str, lock: Option<&str>) -> Value {
    let mut npm = json!({"package": PACKAGE, "version": VERSION});
    if let Some(map) = lock {
        npm["lock"] = json!({"name": map, "key": "package-lock.json"});
    }
    json!({
        "apiVersion": "plugins.paperclip.ing/v1alpha1", "kind": "PaperclipPlugin",
        "metadata": {"name": name},
        "spec": {
            "source": {"npm": npm},
            "config": {"default": {"colour": "red"}},
            "host": {"name": "main", "namespace": HOST_NAMESPACE},
        },
    })
}

fn status(ns: &str, name: &str) -> Result<Value> {
    Ok(get(&["paperclipplugin", name, "-n", ns])?["status"].clone())
}

#[test]
fn a_lock_moves_only_when_asked_and_for_who_asked() -> Result<()> {
    release(PART, "5.0.0", &json!({}))?;
    release(PACKAGE, VERSION, &json!({PART: "^5.0.0"}))?;
    let namespace = Namespace::create("e2e-relock")?;
    let ns = namespace.name();
    namespace.apply(&plugin(PLUGIN, None).to_string())?;
    namespace.wait_ready(PLUGIN, COLD)?;
    let first = status(ns, PLUGIN)?["artifact"].clone();

    // The dependency moves upstream, and nothing else does.
    release(PART, "5.1.0", &json!({}))?;
    paperclip(ns, &["reconcile", PLUGIN])?;
    namespace.wait_ready(PLUGIN, COLD)?;
    let same = status(ns, PLUGIN)?["artifact"].clone();
    ensure!(same["digest"] == first["digest"], "{same}");

    let moved = paperclip_json(ns, &["-o", "json", "relock", PLUGIN])?;
    let expected = json!([{"package": PART, "from": "5.0.0", "to": "5.1.0"}]);
    ensure!(moved["lockChanges"]["changes"] == expected, "{moved}");
    ensure!(moved["from"] == first["digest"], "{moved}");
    namespace.wait_ready(PLUGIN, COLD)?;
    let second = status(ns, PLUGIN)?;
    ensure!(second["artifact"]["digest"] == moved["to"], "{second}");
    ensure!(second["activeRevision"]["number"] == 2, "{second}");

    let again = paperclip(ns, &["relock", PLUGIN])?;
    ensure!(again.contains("Nothing moves"), "{again}");
    namespace.wait_ready(PLUGIN, COLD)?;
    ensure!(status(ns, PLUGIN)?["activeRevision"]["number"] == 2);

    // Who did not ask gets what was recorded first. Both have one id, so it goes without pods.
    namespace.apply(&plugin("other", None).to_string())?;
    let packed = [
        "wait",
        "-n",
        ns,
        "--for=condition=ArtifactReady",
        "paperclipplugin/other",
        "--timeout=90s",
    ];
    crate::support::kubectl(&packed)?;
    let other = status(ns, "other")?["artifact"].clone();
    ensure!(other["digest"] == first["digest"], "{other}");

    // A given lock is not resolved at all.
    namespace.apply(&plugin(PLUGIN, Some("lock")).to_string())?;
    let refused = paperclip_command(ns, &["relock", PLUGIN])?.output()?;
    let said = String::from_utf8(refused.stderr).context("UTF-8")?;
    ensure!(
        !refused.status.success() && said.contains("spec.source.npm.lock"),
        "{said}"
    );
    Ok(())
}
