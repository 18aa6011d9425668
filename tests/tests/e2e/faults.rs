//! kill -9 of what stands between a caller and a worker.

use crate::support::{
    Namespace, WARM, eventually, inventory, kill_all, paperclip_json, pod_of, processes_in_pod,
    worker_processes,
};
use anyhow::{Context, Result, ensure};

const PLUGIN: &str = "inventory";

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

    kill_all(&processes_in_pod(
        &pod_of(ns, PLUGIN)?,
        "paperclip-sidecar",
    )?)?;
    // Held by the host until a session serves again, then sent once.
    ensure!(add_one(&namespace)? == 2, "done once");
    ensure!(
        worker_processes(ns, PLUGIN)? == worker,
        "the same worker, not a new one"
    );

    kill_all(&processes_in_pod(&pod_of(ns, PLUGIN)?, "paperclip-shim")?)?;
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
