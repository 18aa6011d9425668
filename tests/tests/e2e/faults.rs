//! kill -9 of what stands between a caller and a worker.

use std::{collections::BTreeSet, fs, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, SysconfVar, sysconf},
};
use serde_json::{Value, json};

use crate::{
    inventory::{stored, uid},
    load::Caller,
    support::{
        Namespace, WARM, eventually, inventory, kill_all, pod_of, processes_in_pod,
        worker_processes,
    },
};

const PLUGIN: &str = "inventory";
const TOOL: &str = "example.inventory:add_stock";
/// Bytes by which the call that is sent to a stopped sidecar is known.
const LONG: usize = 16 * 1024;

/// Adds one to the stock of an article, in one call that is not repeated, and says how much there
/// is.
async fn add_one(caller: &Caller, article: &str) -> Result<i64> {
    let parameters = json!({"sku": article, "quantity": 1});
    let (status, answer) = caller.execute(TOOL, &parameters).await?;
    ensure!(status == 200, "{status} {answer}");
    let answer: Value = serde_json::from_str(&answer)?;
    let quantity = answer["result"]["data"]["quantity"].as_i64();
    quantity.with_context(|| format!("no quantity in {answer}"))
}

/// The one process of a program in the plugin's pod.
fn process(namespace: &Namespace, program: &str) -> Result<i32> {
    let found = processes_in_pod(&pod_of(namespace.name(), PLUGIN)?, program)?;
    match found[..] {
        [process] => Ok(process),
        _ => bail!("{program}: {found:?}"),
    }
}

/// Bytes that the kernel keeps for a process of the pod, which has not read them.
fn unread(process: i32) -> Result<u64> {
    let mut all = 0;
    for table in ["tcp", "tcp6"] {
        let sockets = fs::read_to_string(format!("/proc/{process}/net/{table}"))?;
        for socket in sockets.lines().skip(1) {
            let queues = socket.split_whitespace().nth(4).context("the queues")?;
            let (_, receive) = queues.split_once(':').context("two queues")?;
            all += u64::from_str_radix(receive, 16)?;
        }
    }
    Ok(all)
}

/// When a process began, in seconds since the machine did.
fn started_at(process: i32) -> Result<f64> {
    let line = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The second field is the name, in parentheses and with whatever is in a name.
    let (_, rest) = line.rsplit_once(')').context("a name")?;
    let ticks: f64 = rest.split_whitespace().nth(19).context("a time")?.parse()?;
    let a_second = sysconf(SysconfVar::CLK_TCK)?.context("ticks a second")?;
    Ok(ticks / a_second as f64)
}

/// Seconds since the machine began.
fn now() -> Result<f64> {
    let line = fs::read_to_string("/proc/uptime")?;
    Ok(line.split(' ').next().context("a time")?.parse()?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_sidecar_leaves_the_worker_running_and_repeats_no_call_and_a_killed_shim_brings_another()
-> Result<()> {
    let namespace = inventory("e2e-faults")?;
    let caller = Arc::new(Caller::new()?);
    ensure!(add_one(&caller, "tea").await? == 1);
    let workers = worker_processes(namespace.name(), PLUGIN)?;

    // A call that was sent to the sidecar, which dies before it reads it.
    let sidecar = process(&namespace, "paperclip-sidecar")?;
    kill(Pid::from_raw(sidecar), Signal::SIGSTOP)?;
    let sent = tokio::spawn({
        let (caller, article) = (caller.clone(), "x".repeat(LONG));
        async move {
            caller
                .execute(TOOL, &json!({"sku": article, "quantity": 1}))
                .await
        }
    });
    eventually("the call to lie before the sidecar", WARM, || {
        let unread = unread(sidecar)?;
        ensure!(unread >= LONG as u64, "{unread} bytes");
        Ok(())
    })?;
    ensure!(!sent.is_finished(), "{:?}", sent.await);
    kill_all(&[sidecar])?;
    let (status, body) = tokio::time::timeout(Duration::from_secs(5), sent).await???;
    ensure!(
        status == 502 && body.contains("WORKER_UNAVAILABLE"),
        "{status} {body}"
    );

    // One that begins while nobody serves is held until somebody does, then sent, once.
    let begun = now()?;
    ensure!(add_one(&caller, "tea").await? == 2, "done once");
    let served_since = started_at(process(&namespace, "paperclip-sidecar")?)?;
    ensure!(
        served_since > begun,
        "began at {begun} s, served by a sidecar of {served_since} s"
    );
    ensure!(
        worker_processes(namespace.name(), PLUGIN)? == workers,
        "the same worker, not a new one"
    );

    kill_all(&[process(&namespace, "paperclip-shim")?])?;
    eventually("another worker", WARM, || {
        let now = worker_processes(namespace.name(), PLUGIN)?;
        ensure!(
            !now.is_empty() && now.iter().all(|pid| !workers.contains(pid)),
            "{workers:?} {now:?}"
        );
        Ok(())
    })?;
    let quantity = add_one(&caller, "tea").await?;
    ensure!(
        quantity == 3,
        "the stock went on from what was stored, not from {quantity}"
    );
    let articles = stored(&uid(&namespace)?, "articles")?;
    let articles = articles.as_object().context("articles")?;
    let names: BTreeSet<&str> = articles.keys().map(String::as_str).collect();
    ensure!(
        names == BTreeSet::from(["tea"]),
        "the call that was lost was done: {} articles",
        names.len()
    );
    Ok(())
}
