//! A plugin from the npm registry, unmodified, that no code of ours knows.

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use crate::support::{
    COLD, HOST, HOST_NAMESPACE, Namespace, WARM, eventually, host_rows, kubectl, paperclip,
    paperclip_command, paperclip_json, pod_of, worker_processes,
};

const PLUGIN: &str = "commerce";
const PRICE: i64 = 420;

/// The plugin of `examples/commerce.yaml`, Ready, in a namespace of its own.
fn commerce(namespace: &str) -> Result<Namespace> {
    let namespace = Namespace::create(namespace)?;
    // The example's price is not the test's: a price that could not come from elsewhere.
    let example = include_str!("../../../examples/commerce.yaml");
    let yaml = example.replace("basePrice: 500", &format!("basePrice: {PRICE}"));
    ensure!(yaml != example, "the example names a price of 500");
    namespace.apply(&yaml)?;
    namespace.wait_ready(PLUGIN, COLD)?;
    Ok(namespace)
}

/// Sends an intent through the plugin's webhook, as another company would.
fn send_intent(namespace: &str, session: &str) -> Result<()> {
    let message = json!({"type": "intent", "sessionId": session,
        "payload": {"service": "a logo design", "budget": 900}});
    let answer = paperclip_json(
        namespace,
        &[
            "-o",
            "json",
            "webhook",
            PLUGIN,
            "bcp-incoming",
            "--data",
            &message.to_string(),
        ],
    )?;
    ensure!(answer["status"] == "success", "webhook answered {answer}");
    Ok(())
}

/// Whether the plugin's own tool lists the deal of this session.
fn tool_lists(namespace: &str, session: &str) -> Result<()> {
    let answer = paperclip(
        namespace,
        &[
            "-o",
            "json",
            "call",
            PLUGIN,
            "bcp_list_deals",
            "--undeclared",
        ],
    )?;
    ensure!(answer.contains(session), "no deal {session} in {answer}");
    Ok(())
}

/// The stored deal of a session, from the host's database.
fn stored_deal(session: &str) -> Result<Value> {
    let rows = host_rows("select state_key, value_json from plugin_state")?;
    let key = format!("deal:{session}");
    let row = rows
        .iter()
        .find(|row| row["state_key"] == key.as_str())
        .with_context(|| format!("no state {key}"))?;
    match &row["value_json"] {
        Value::String(text) => Ok(serde_json::from_str(text)?),
        value => Ok(value.clone()),
    }
}

#[test]
fn an_intent_leaves_a_priced_deal_in_the_host_database() -> Result<()> {
    let namespace = commerce("e2e-commerce")?;
    send_intent(namespace.name(), "s-price")?;
    let deal = stored_deal("s-price")?;
    ensure!(deal["price"] == PRICE, "stored {deal}");
    ensure!(deal["status"] == "quoted", "stored {deal}");

    // The manifest declares no tool: none is listed, and an undeclared one needs the switch.
    let plugin = paperclip_json(namespace.name(), &["-o", "json", "get", PLUGIN])?;
    let summary = &plugin["status"]["plugin"];
    ensure!(
        summary["id"].is_string() && summary["webhooks"][0]["key"] == "bcp-incoming",
        "{summary}"
    );
    ensure!(summary.get("tools").is_none(), "{summary}");
    let refused =
        paperclip_command(namespace.name(), &["call", PLUGIN, "bcp_list_deals"])?.output()?;
    ensure!(!refused.status.success());
    ensure!(
        String::from_utf8_lossy(&refused.stderr).contains("404"),
        "{refused:?}"
    );
    tool_lists(namespace.name(), "s-price")?;

    // kill -9 of the worker: another process, the same container, the same answer.
    let before = worker_processes(namespace.name(), PLUGIN)?;
    ensure!(!before.is_empty(), "the worker runs on this machine");
    for pid in &before {
        kill(Pid::from_raw(*pid), Signal::SIGKILL)?;
    }
    eventually("the deal after the worker was killed", WARM, || {
        tool_lists(namespace.name(), "s-price")
    })?;
    let after = worker_processes(namespace.name(), PLUGIN)?;
    ensure!(
        !after.is_empty() && after.iter().all(|pid| !before.contains(pid)),
        "{before:?} {after:?}"
    );
    let pod = pod_of(namespace.name(), PLUGIN)?;
    for status in pod["status"]["containerStatuses"]
        .as_array()
        .context("statuses")?
    {
        ensure!(
            status["restartCount"] == 0,
            "a container restarted: {status}"
        );
    }

    // Deletion of the plugin pod.
    let name = pod["metadata"]["name"].as_str().context("name")?.to_owned();
    kubectl(&[
        "delete",
        "pod",
        "-n",
        namespace.name(),
        &name,
        "--wait=false",
    ])?;
    eventually("the deal from another pod", COLD, || {
        let pod = pod_of(namespace.name(), PLUGIN)?;
        ensure!(pod["metadata"]["name"] != name.as_str());
        tool_lists(namespace.name(), "s-price")
    })?;

    // Deletion of the host pod: the database is on a volume.
    kubectl(&[
        "delete",
        "pod",
        "-n",
        HOST_NAMESPACE,
        "-l",
        &format!("app.kubernetes.io/instance={HOST}"),
        "--wait",
    ])?;
    eventually("the deal from another host pod", COLD, || {
        tool_lists(namespace.name(), "s-price")
    })?;
    namespace.wait_ready(PLUGIN, WARM)
}

#[test]
fn a_plugin_pod_holds_no_npm() -> Result<()> {
    let namespace = commerce("e2e-no-npm")?;
    let workers = worker_processes(namespace.name(), PLUGIN)?;
    let worker = workers.first().context("the worker runs on this machine")?;
    let root = std::path::PathBuf::from(format!("/proc/{worker}/root"));
    let mut seen = BTreeSet::new();
    for entry in walkdir::WalkDir::new(&root)
        .same_file_system(false)
        .into_iter()
        .filter_entry(|entry| {
            // What the kernel shows is not what the pod holds.
            !["proc", "sys", "dev"]
                .iter()
                .any(|kernel| entry.path() == root.join(kernel))
        })
    {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy();
        ensure!(
            !["npm", "npx", "npm-cli.js", "corepack", "yarn", "pnpm"].contains(&name.as_ref()),
            "found {}",
            entry.path().display()
        );
        seen.insert(entry.path().strip_prefix(&root)?.to_owned());
    }
    // A search that does not see the program and the package finds nothing.
    for there in [
        "usr/local/bin/node",
        "paperclip/artifact/package.json",
        "etc/passwd",
    ] {
        ensure!(seen.contains(Path::new(there)), "{there} was not looked at");
    }
    Ok(())
}
