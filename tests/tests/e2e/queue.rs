//! Fifty plugins at once: few Jobs, steady progress, and each says where it stands. Then they go
//! with their namespace, the operator first.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::{
    support::{COLD, HOST_NAMESPACE, Namespace, PLATFORM_NAMESPACE, get, kubectl, publish},
    survival::Operator,
};

const PLUGINS: usize = 50;
/// The chart's default.
const AT_ONCE: usize = 4;

fn running_jobs() -> Result<usize> {
    let jobs = get(&["jobs", "-n", PLATFORM_NAMESPACE])?;
    let jobs = jobs["items"].as_array().context("items")?;
    let runs = |job: &&Value| job["status"]["active"].as_i64() > Some(0);
    Ok(jobs.iter().filter(runs).count())
}

/// In the long run only: fifty packings take minutes on two cores.
#[test]
fn long_fifty_plugins_are_packed_in_turn_and_gone_in_under_a_minute_without_the_operator()
-> Result<()> {
    let files = ["package.json", "manifest.js", "worker.js"];
    let namespace = Namespace::create("e2e-queue")?;
    let mut plugins = Vec::new();
    for number in 1..=PLUGINS {
        let version = format!("7.{number}.0");
        let id = format!("queue{number}");
        // An id of its own for each, since a host has one plugin of an id.
        let changes = [
            ("\"1.0.0\"", format!("\"{version}\"")),
            ("id: \"test.settings\"", format!("id: \"test.{id}\"")),
        ];
        publish("tests/plugins/settings", &version, &files, &changes)?;
        plugins.push(
            json!({
                "apiVersion": "plugins.paperclip.ing/v1alpha1", "kind": "PaperclipPlugin",
                "metadata": {"name": id},
                "spec": {
                    "source": {"npm": {"package": "paperclip-plugin-test-settings", "version": version}},
                    "config": {"default": {"colour": "red"}},
                    "host": {"name": "main", "namespace": HOST_NAMESPACE},
                },
            })
            .to_string(),
        );
    }
    let started = Instant::now();
    namespace.apply(&plugins.join("\n---\n"))?;
    let (mut most, mut waited, mut ready) = (0, BTreeSet::new(), 0);
    while ready < PLUGINS {
        ensure!(started.elapsed() < 6 * COLD, "{ready} of {PLUGINS} Ready");
        let jobs = running_jobs()?;
        most = most.max(jobs);
        ensure!(jobs <= AT_ONCE, "{jobs} packing Jobs at once");
        let all = get(&["paperclipplugins", "-n", namespace.name()])?;
        ready = 0;
        for plugin in all["items"].as_array().context("items")? {
            let conditions = plugin["status"]["conditions"].as_array();
            let Some(condition) = conditions
                .and_then(|all| all.iter().find(|condition| condition["type"] == "Ready"))
            else {
                continue;
            };
            ready += usize::from(condition["status"] == "True");
            let says = condition["message"].as_str().unwrap_or_default();
            if says.contains("waits to be packed") {
                waited.insert(plugin["metadata"]["name"].to_string());
            }
        }
        // The pace of the looks, not a wait for anything.
        std::thread::sleep(Duration::from_millis(500));
    }
    println!(
        "queue: {PLUGINS} Ready after {:?}, at most {most} Jobs at once, {} said that they wait",
        started.elapsed(),
        waited.len()
    );
    ensure!(waited.len() >= PLUGINS / 2, "{waited:?}");

    let _away = Operator::sent_away()?;
    let started = Instant::now();
    let namespace = namespace.name();
    kubectl(&["delete", "namespace", namespace, "--wait", "--timeout=120s"])?;
    let took = started.elapsed();
    println!("queue: {PLUGINS} plugins and their namespace gone after {took:?}");
    ensure!(took < Duration::from_secs(60), "{took:?}");
    Ok(())
}
