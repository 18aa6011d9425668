//! kill -9 of what stands between a caller and a worker.

use anyhow::{Context, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::support::{
    Namespace, WARM, eventually, inventory, paperclip_json, pod_of, worker_processes,
};

const PLUGIN: &str = "inventory";

/// Processes of this program in the plugin's pod, found by the pod's control group.
fn processes_in_pod(namespace: &str, program: &str) -> Result<Vec<i32>> {
    let pod = pod_of(namespace, PLUGIN)?;
    let uid = pod["metadata"]["uid"].as_str().context("uid")?.to_owned();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        // A process may end between the listing and the reads.
        let read =
            |file: &str| std::fs::read_to_string(entry.path().join(file)).unwrap_or_default();
        if read("cgroup").contains(&uid)
            && read("cmdline")
                .split('\0')
                .next()
                .is_some_and(|path| path.ends_with(program))
        {
            found.push(pid);
        }
    }
    ensure!(
        !found.is_empty(),
        "no {program} runs in the pod of {namespace}/{PLUGIN}"
    );
    Ok(found)
}

fn kill_all(processes: &[i32]) -> Result<()> {
    for pid in processes {
        kill(Pid::from_raw(*pid), Signal::SIGKILL).with_context(|| format!("kill {pid}"))?;
    }
    Ok(())
}

/// Adds one to the stock, in one call that is not repeated, and says how much there is.
fn add_one(namespace: &Namespace) -> Result<i64> {
    let parameters = r#"{"sku":"tea","quantity":1}"#;
    let arguments = [
        "-o",
        "json",
        "call",
        PLUGIN,
        "add_stock",
        "--params",
        parameters,
    ];
    let answer = paperclip_json(namespace.name(), &arguments)?;
    let quantity = answer["result"]["data"]["quantity"].as_i64();
    quantity.with_context(|| format!("no quantity in {answer}"))
}

#[test]
fn a_killed_sidecar_leaves_the_worker_running_and_a_killed_shim_brings_another() -> Result<()> {
    let namespace = inventory("e2e-faults")?;
    let ns = namespace.name();
    ensure!(add_one(&namespace)? == 1);
    let worker = worker_processes(ns, PLUGIN)?;

    kill_all(&processes_in_pod(ns, "paperclip-sidecar")?)?;
    // Held by the host until a session serves again, then sent once.
    ensure!(add_one(&namespace)? == 2, "done once");
    ensure!(
        worker_processes(ns, PLUGIN)? == worker,
        "the same worker, not a new one"
    );

    kill_all(&processes_in_pod(ns, "paperclip-shim")?)?;
    eventually("another worker", WARM, || {
        let now = worker_processes(ns, PLUGIN)?;
        ensure!(
            !now.is_empty() && now.iter().all(|pid| !worker.contains(pid)),
            "{worker:?} {now:?}"
        );
        Ok(())
    })?;
    let quantity = eventually("an answer of the new worker", WARM, || add_one(&namespace))?;
    ensure!(
        quantity == 3,
        "the stock went on from what was stored, not from {quantity}"
    );
    Ok(())
}
