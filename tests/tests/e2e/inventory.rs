//! A plugin of our own, written with the SDK as an author would, found in the
//! registry like any other. Each feature is called and its stored effect read from
//! the host's database.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::authentication::host_url;
use crate::isolation::node_in_pod;
use crate::support::{
    HOST, HOST_NAMESPACE, Namespace, WARM, eventually, get, host_rows, inventory, kubectl,
    paperclip, paperclip_json,
};

const PLUGIN: &str = "inventory";

/// A state value of the plugin of this uid in the host's database.
pub fn stored(uid: &str, key: &str) -> Result<Value> {
    let rows = host_rows("select plugin_id, state_key, value_json from plugin_state")?;
    let row = rows
        .iter()
        .find(|row| row["plugin_id"] == uid && row["state_key"] == key)
        .with_context(|| format!("no state {key} of {uid}"))?;
    Ok(serde_json::from_str(
        row["value_json"].as_str().context("text")?,
    )?)
}

/// UID of the plugin in this namespace.
pub fn uid(namespace: &Namespace) -> Result<String> {
    let plugin = get(&["paperclipplugin", PLUGIN, "-n", namespace.name()])?;
    Ok(plugin["metadata"]["uid"]
        .as_str()
        .context("uid")?
        .to_owned())
}

#[test]
fn tool_webhook_job_event_data_and_action_leave_their_effects() -> Result<()> {
    let namespace = inventory("e2e-inventory")?;
    let ns = namespace.name();
    let uid = uid(&namespace)?;

    // Tool: listed with its prefix, called, with config from the resource in its answer.
    check_listed(&namespace, &uid)?;
    let plugin = paperclip_json(ns, &["-o", "json", "get", PLUGIN])?;
    ensure!(plugin.to_string().contains("add_stock"), "{plugin}");
    let answer = paperclip_json(
        ns,
        &[
            "-o",
            "json",
            "call",
            PLUGIN,
            "add_stock",
            "--params",
            &json!({"sku": "tea", "quantity": 2}).to_string(),
        ],
    )?;
    ensure!(
        answer["toolName"] == "add_stock" || answer["toolName"] == "example.inventory:add_stock",
        "{answer}"
    );
    ensure!(answer["result"]["data"]["quantity"] == 2, "{answer}");
    ensure!(
        answer["result"]["data"]["unit"] == "box",
        "config of the resource: {answer}"
    );
    ensure!(stored(&uid, "articles")?["tea"] == 2);

    // Webhook.
    paperclip(
        ns,
        &[
            "webhook",
            PLUGIN,
            "delivery",
            "--data",
            r#"{"sku":"tea","quantity":4}"#,
        ],
    )?;
    ensure!(stored(&uid, "articles")?["tea"] == 6);

    // Action, which emits an event, which the plugin's own subscription handles.
    paperclip(
        ns,
        &[
            "action",
            PLUGIN,
            "restock",
            "--params",
            r#"{"sku":"salt","quantity":3}"#,
        ],
    )?;
    eventually("the event to be handled", WARM, || {
        let articles = stored(&uid, "articles")?;
        ensure!(articles["salt"] == 3, "{articles}");
        Ok(())
    })?;

    // Job.
    paperclip(ns, &["job", PLUGIN, "trigger", "recount", "--wait"])?;
    let counters = stored(&uid, "counters")?;
    ensure!(
        counters == json!({"tool": 1, "webhook": 1, "event": 1, "job": 1, "total": 9}),
        "{counters}"
    );

    // Data shows what is stored.
    let data = paperclip_json(ns, &["-o", "json", "data", PLUGIN, "counters"])?;
    ensure!(data.to_string().contains("\"total\":9"), "{data}");

    // Both logs, in one stream.
    eventually("the worker's words in the log", WARM, || {
        let logs = paperclip(ns, &["logs", PLUGIN])?;
        ensure!(logs.contains("stock recounted"), "{logs}");
        Ok(())
    })
}

/// The host, asked from a pod by its Service, lists the declared tool with its prefix.
fn check_listed(namespace: &Namespace, uid: &str) -> Result<()> {
    let token = kubectl(&[
        "create",
        "token",
        &format!("{HOST}-client"),
        "-n",
        HOST_NAMESPACE,
    ])?;
    let script = format!(
        "fetch('{}/api/plugins/tools',{{headers:{{authorization:'Bearer {}'}}}}).then(r=>r.text()).then(t=>console.log(t))",
        host_url()?,
        token.trim()
    );
    let listed: Value = serde_json::from_str(&node_in_pod(namespace, "tools", &script)?)?;
    let ours = listed
        .as_array()
        .and_then(|tools| tools.iter().find(|tool| tool["pluginId"] == uid))
        .with_context(|| format!("no tool of {uid} in {listed}"))?;
    ensure!(ours["name"] == "example.inventory:add_stock", "{ours}");
    ensure!(ours["parametersSchema"]["required"].is_array(), "{ours}");
    Ok(())
}

#[test]
fn a_manifest_that_is_not_the_reviewed_one_does_not_roll_out() -> Result<()> {
    let namespace = inventory("e2e-pin")?;
    let ns = namespace.name();
    let before = get(&["deployments", "-n", ns])?["items"][0]["metadata"]["generation"].clone();
    kubectl(&[
        "patch",
        "-n",
        ns,
        "paperclipplugin",
        PLUGIN,
        "--type=merge",
        "-p",
        r#"{"spec":{"manifest":{"capabilities":["plugin.state.read"]}}}"#,
    ])?;
    eventually("the mismatch in status", WARM, || {
        let plugin = get(&["paperclipplugin", PLUGIN, "-n", ns])?;
        let ready = plugin["status"]["conditions"]
            .as_array()
            .and_then(|all| all.iter().find(|one| one["type"] == "Ready"))
            .context("Ready")?;
        ensure!(ready["reason"] == "ManifestMismatch", "{ready}");
        ensure!(
            ready["message"]
                .as_str()
                .unwrap_or_default()
                .contains("capabilities"),
            "{ready}"
        );
        Ok(())
    })?;
    let after = get(&["deployments", "-n", ns])?["items"][0]["metadata"]["generation"].clone();
    ensure!(before == after, "the running Deployment was touched");
    // What runs goes on running.
    paperclip(ns, &["data", PLUGIN, "counters"]).map(drop)
}
