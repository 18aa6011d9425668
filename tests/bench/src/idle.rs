//! What a plugin costs that nobody calls.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::{
    pod::{Pod, Programs},
    report::{Better, Printed, Row, Section},
    statistics::median,
    usage::{self, Activity},
    workers::Worker,
};

/// Heading of the section.
pub const TITLE: &str = "An idle plugin";
/// Until a worker that just started has done what it does once.
const SETTLE: Duration = Duration::from_secs(5);

/// One process over one window.
struct Run {
    activity: Activity,
    memory: f64,
}

/// The processes of one pod over one window.
struct Pods {
    sidecar: Run,
    shim: Run,
    worker: Run,
}

/// Watches a pod with one session, so many times.
pub async fn measure(programs: &Programs, rounds: usize, seconds: u64) -> Result<Section> {
    ensure!(rounds > 0 && seconds > 0, "nothing to measure");
    let worker = Worker::sdk()?;
    let mut runs = Vec::new();
    for round in 1..=rounds {
        eprintln!("an idle plugin, run {round} of {rounds}: {seconds} s");
        runs.push(run(programs, &worker, Duration::from_secs(seconds)).await?);
    }
    let minutes = seconds as f64 / 60.0;
    let rows = vec![
        processor(&runs, minutes),
        wakeups(&runs, minutes),
        memory(&runs),
    ];
    Ok(Section {
        rows,
        ..Section::new(
            TITLE,
            format!(
                "Shim, sidecar and the SDK worker with one session, which pings every 5 s, and no call, for \
                 {seconds} s, beginning {} s after the session; release builds as processes of one machine, \
                 {rounds} runs, medians over them. Ratios are to the worker beside them in the same seconds.",
                SETTLE.as_secs()
            ),
        )?
    })
}

async fn run(programs: &Programs, worker: &Worker, time: Duration) -> Result<Pods> {
    let pod = Pod::start(programs, worker).await?;
    let _session = pod.attach("one").await?;
    tokio::time::sleep(SETTLE).await;
    let node = *usage::children(pod.shim())?
        .first()
        .context("the shim runs a worker")?;
    let pids = [pod.sidecar(), pod.shim(), node];
    let before = pids.map(Activity::of);
    tokio::time::sleep(time).await;
    let mut runs = Vec::new();
    for (pid, before) in pids.into_iter().zip(before) {
        runs.push(Run {
            activity: Activity::of(pid)?.since(before?),
            memory: usage::resident_megabytes(pid)?,
        });
    }
    let [sidecar, shim, worker] = runs
        .try_into()
        .ok()
        .context("three processes were watched")?;
    Ok(Pods {
        sidecar,
        shim,
        worker,
    })
}

fn processor(runs: &[Pods], minutes: f64) -> Row {
    let took = |run: &Run| run.activity.milliseconds / minutes;
    let ours = |pod: &Pods| (took(&pod.sidecar) + took(&pod.shim)) / took(&pod.worker);
    let share = Printed::new(median(runs.iter().map(ours)), 2);
    Row::plain(
        "CPU of sidecar and shim",
        format!(
            "{share} of the worker's ({:.1} and {:.1} ms a minute against {:.1})",
            median(runs.iter().map(|pod| took(&pod.sidecar))),
            median(runs.iter().map(|pod| took(&pod.shim))),
            median(runs.iter().map(|pod| took(&pod.worker))),
        ),
    )
    .ratio(share, Better::Lower)
}

fn wakeups(runs: &[Pods], minutes: f64) -> Row {
    let woken = |run: &Run| run.activity.wakeups / minutes;
    Row::plain(
        "wakeups of sidecar and shim",
        format!(
            "{:.0} and {:.0} a minute (worker {:.0})",
            median(runs.iter().map(|pod| woken(&pod.sidecar))),
            median(runs.iter().map(|pod| woken(&pod.shim))),
            median(runs.iter().map(|pod| woken(&pod.worker))),
        ),
    )
}

fn memory(runs: &[Pods]) -> Row {
    let ours = |pod: &Pods| (pod.sidecar.memory + pod.shim.memory) / pod.worker.memory;
    let share = Printed::new(median(runs.iter().map(ours)), 2);
    Row::plain(
        "resident memory of sidecar and shim",
        format!(
            "{share} of the worker's ({:.1} and {:.1} MB against {:.1})",
            median(runs.iter().map(|pod| pod.sidecar.memory)),
            median(runs.iter().map(|pod| pod.shim.memory)),
            median(runs.iter().map(|pod| pod.worker.memory)),
        ),
    )
    .ratio(share, Better::Lower)
}
