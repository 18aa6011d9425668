//! A plugin of one file in a ConfigMap, without a package and a registry.

use anyhow::{Context, Result, ensure};

use crate::support::{COLD, Namespace, WARM, eventually, get, kubectl, paperclip_json, pod_of};

const PLUGIN: &str = "greeter";
const EXAMPLE: &str = include_str!("../../../examples/greeter.yaml");

fn greet(namespace: &Namespace) -> Result<String> {
    let parameters = r#"{"name": "Ada"}"#;
    let arguments = [
        "-o", "json", "call", PLUGIN, "greet", "--params", parameters,
    ];
    let answer = paperclip_json(namespace.name(), &arguments)?;
    let greeting = answer["result"]["data"]["greeting"].as_str();
    Ok(greeting.context("a greeting")?.to_owned())
}

#[test]
fn a_worker_in_a_config_map_serves_and_a_new_version_of_it_too() -> Result<()> {
    let namespace = Namespace::create("e2e-one-file")?;
    let ns = namespace.name();
    namespace.apply(EXAMPLE)?;
    namespace.wait_ready(PLUGIN, COLD)?;
    ensure!(greet(&namespace)? == "Good day, Ada.");
    let first = pod_of(ns, PLUGIN)?["metadata"]["uid"].clone();

    let second = EXAMPLE
        .replace("Good day, ", "Good evening, ")
        .replace("version: 1.0.0", "version: 1.1.0");
    namespace.apply(&second)?;
    eventually("the new version to greet", COLD, || {
        ensure!(greet(&namespace)? == "Good evening, Ada.");
        Ok(())
    })?;
    ensure!(pod_of(ns, PLUGIN)?["metadata"]["uid"] != first);
    let plugin = get(&["paperclipplugin", PLUGIN, "-n", ns])?;
    let artifact = &plugin["status"]["artifact"];
    ensure!(
        artifact["source"] == "configMap:greeter/worker.js",
        "{artifact}"
    );

    // What is wrong with the file is told by field; what serves goes on.
    namespace.apply(&second.replace("worker: ./worker.js", "worker: ../worker.js"))?;
    eventually("the reason", WARM, || {
        let plugin = get(&["paperclipplugin", PLUGIN, "-n", ns])?;
        let conditions = plugin["status"]["conditions"].as_array();
        let conditions = conditions.context("conditions")?;
        let ready = conditions.iter().find(|one| one["type"] == "Ready");
        let ready = ready.context("Ready")?;
        ensure!(ready["reason"] == "ManifestInvalid", "{ready}");
        let says = ready["message"].as_str().unwrap_or_default();
        ensure!(
            says.contains("entrypoints.worker") && says.contains("../worker.js"),
            "{says}"
        );
        Ok(())
    })?;
    ensure!(greet(&namespace)? == "Good evening, Ada.");

    let without = kubectl(&[
        "patch",
        "paperclipplugin",
        PLUGIN,
        "-n",
        ns,
        "--type=merge",
        "-p",
        r#"{"spec": {"manifest": null}}"#,
    ]);
    let refusal = format!("{:#}", without.err().context("a manifest is required")?);
    ensure!(refusal.contains("spec.manifest is required"), "{refusal}");
    Ok(())
}
