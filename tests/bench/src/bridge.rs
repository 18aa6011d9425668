//! The bridge against raw stdio to the same worker.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{
    load::{self, Caller as _, Pace, Paced},
    pod::{Pod, Programs},
    raw::RawWorker,
    report::{Better, Printed, Row, Section},
    statistics::{Samples, median},
    stdio::Stdio,
    usage::{self, Activity, MachineTime},
    workers::{self, Worker},
};

/// Heading of the section.
pub const TITLE: &str = "Bridge";
const SEQUENTIAL_CALLS: usize = 3_000;
const THROUGHPUT_CALLS: usize = 100_000;
const IN_FLIGHT: usize = 64;
/// Calls before a measurement, so that no side pays for a cold start.
const WARM_UP: usize = 500;
const PACE: Pace = Pace {
    rate: 1_000,
    seconds: 20,
};
const SMALL: usize = 16;
const BODY: usize = 1_000;

/// What one run measured on both sides.
struct Both<T> {
    raw: T,
    bridge: T,
}

/// One run with one worker.
struct Run {
    sequential: Both<Samples>,
    throughput: Both<f64>,
    /// Calls a second that a thread gets from the worker which keeps no account of them.
    alone: f64,
    /// Processor time of shim and sidecar a call, in milliseconds, sequential and in flight.
    cost: [f64; 2],
    idle: Memory,
}

#[derive(Clone, Copy)]
struct Memory {
    shim: f64,
    sidecar: f64,
}

/// Measures both workers in turn, so many times.
pub async fn measure(programs: &Programs, rounds: usize) -> Result<Section> {
    let load = std::fs::read_to_string("/proc/loadavg")?;
    let load = load.split(' ').next().unwrap_or_default();
    let before = MachineTime::now()?;
    let workers = [Worker::echo()?, Worker::sdk()?];
    let mut runs = [const { Vec::new() }; 2];
    let mut steady = Vec::new();
    for round in 1..=rounds {
        for (worker, runs) in workers.iter().zip(&mut runs) {
            eprintln!("bridge, run {round} of {rounds}: {}", worker.name);
            runs.push(run(programs, worker).await?);
        }
        eprintln!("bridge, run {round} of {rounds}: 1,000 calls/s for 20 s, raw and bridged");
        steady.push(steady_rate(programs, &workers[0]).await?);
    }
    let stolen = MachineTime::stolen_percent(before)?;
    let mut rows = Vec::new();
    for (worker, runs) in workers.iter().zip(&runs) {
        rows.extend(rows_of(worker.name, runs));
    }
    rows.extend(steady_rows(&steady));
    rows.extend(memory_rows(&runs[0], &steady));
    Ok(Section {
        rows,
        ..Section::new(
            TITLE,
            format!(
                "The same worker on plain pipes, and behind shim, sidecar and a mutual-TLS session; release builds \
             as processes of one machine, {rounds} interleaved runs, each with a new worker and pod. Figures are \
             medians over the runs; *added* is the difference of both sides' percentiles in one run. The echo \
             worker is 20 lines without dependencies, the SDK worker the same on the plugin SDK. With many \
             calls in flight, the load is the same on both sides: {IN_FLIGHT} tasks that each call, are woken \
             by their own answer and call again. The most that the pipes carry stands beside it: one thread \
             writes and reads lines and does not look whose answer it has. \
             Load of the machine before it began: {load}; its hypervisor took {stolen:.1} % of its time meanwhile."
            ),
        )?
    })
}

async fn run(programs: &Programs, worker: &Worker) -> Result<Run> {
    let small = workers::params(SMALL);
    let mut raw = RawWorker::start(worker)?;
    check(worker, &raw.call(&small)?)?;
    raw.sequential(WARM_UP, &small)?;
    let raw_sequential = raw.sequential(SEQUENTIAL_CALLS, &small)?;
    raw.throughput(WARM_UP, IN_FLIGHT, &small)?;
    let alone = raw.throughput(THROUGHPUT_CALLS, IN_FLIGHT, &small)?;
    let raw = Stdio::new(raw)?;
    raw.throughput(WARM_UP, IN_FLIGHT, &small).await?;
    let raw_throughput = raw.throughput(THROUGHPUT_CALLS, IN_FLIGHT, &small).await?;
    drop(raw);

    let pod = Pod::start(programs, worker).await?;
    let idle = Memory::of(&pod)?;
    let session = pod.attach("one").await?;
    check(worker, &session.call(&small).await?)?;
    session.sequential(WARM_UP, &small).await?;
    let before = spent(&pod)?;
    let sequential = session.sequential(SEQUENTIAL_CALLS, &small).await?;
    let sequential_cost = (spent(&pod)? - before) / SEQUENTIAL_CALLS as f64;
    session.throughput(WARM_UP, IN_FLIGHT, &small).await?;
    let before = spent(&pod)?;
    let throughput = session
        .throughput(THROUGHPUT_CALLS, IN_FLIGHT, &small)
        .await?;
    let throughput_cost = (spent(&pod)? - before) / THROUGHPUT_CALLS as f64;
    Ok(Run {
        sequential: Both {
            raw: raw_sequential,
            bridge: sequential,
        },
        throughput: Both {
            raw: raw_throughput,
            bridge: throughput,
        },
        alone,
        cost: [sequential_cost, throughput_cost],
        idle,
    })
}

/// Prints the costs of a call, run by run: for work on the bridge, where a whole measurement
/// takes too long. Processor time is that of the sidecar and the shim, and of the client.
pub async fn quick(programs: &Programs, rounds: usize, calls: usize) -> Result<()> {
    let workers = [Worker::echo()?, Worker::sdk()?];
    let small = workers::params(SMALL);
    for round in 1..=rounds {
        for worker in &workers {
            let (raw, raw_worker) = {
                let mut raw = RawWorker::start(worker)?;
                raw.throughput(WARM_UP, IN_FLIGHT, &small)?;
                let before = Activity::of(raw.pid())?;
                let rate = raw.throughput(calls, IN_FLIGHT, &small)?;
                (rate, Activity::of(raw.pid())?.since(before))
            };
            let same = {
                let raw = Stdio::new(RawWorker::start(worker)?)?;
                raw.throughput(WARM_UP, IN_FLIGHT, &small).await?;
                raw.throughput(calls, IN_FLIGHT, &small).await?
            };
            let pod = Pod::start(programs, worker).await?;
            let session = pod.attach("one").await?;
            session.sequential(WARM_UP, &small).await?;
            let p50 = session.sequential(SEQUENTIAL_CALLS, &small).await?.p50();
            session.throughput(WARM_UP, IN_FLIGHT, &small).await?;
            let behind = *usage::children(pod.shim())?
                .first()
                .context("the shim has no worker")?;
            let all = [pod.sidecar(), std::process::id(), behind];
            let before = all.map(Activity::of);
            let bridge = session.throughput(calls, IN_FLIGHT, &small).await?;
            let mut spent = Vec::new();
            for (pid, before) in all.into_iter().zip(before) {
                spent.push(Activity::of(pid)?.since(before?));
            }
            let cost = |activity: &Activity| {
                let calls = calls as f64;
                let micros = activity.milliseconds * 1e3 / calls;
                format!("{micros:.1} µs and {:.3} waits", activity.wakeups / calls)
            };
            println!(
                "run {round}, {}: {:.2} of raw ({bridge:.0} against {same:.0} calls/s; {raw:.0} alone); a call: \
                 sidecar {}, client {}, worker {}, raw worker {}; sequential p50 {p50:.3} ms",
                worker.name,
                bridge / same,
                cost(&spent[0]),
                cost(&spent[1]),
                cost(&spent[2]),
                cost(&raw_worker),
            );
        }
    }
    Ok(())
}

/// Both sides are compared at the same work: answering with what was asked.
fn check(worker: &Worker, answer: &Value) -> Result<()> {
    let wanted = &workers::params(SMALL)["params"];
    ensure!(answer == wanted, "the {} answered {answer}", worker.name);
    Ok(())
}

/// One run at a steady rate.
struct Steady {
    latency: Both<Paced>,
    cost: f64,
    busy: Memory,
}

async fn steady_rate(programs: &Programs, worker: &Worker) -> Result<Steady> {
    let (small, body) = (workers::params(SMALL), workers::params(BODY));
    let raw = {
        let mut raw = RawWorker::start(worker)?;
        raw.sequential(WARM_UP, &small)?;
        // Its threads block, so they are kept from those of the runtime.
        tokio::task::block_in_place(|| raw.paced(PACE, &body))?
    };
    let pod = Pod::start(programs, worker).await?;
    let sessions = [pod.attach("one").await?, pod.attach("two").await?];
    for session in &sessions {
        session.sequential(WARM_UP, &small).await?;
    }
    let before = spent(&pod)?;
    let bridge = load::paced(&sessions, PACE, &body).await?;
    let cost = (spent(&pod)? - before) / PACE.calls() as f64;
    Ok(Steady {
        latency: Both { raw, bridge },
        cost,
        busy: Memory::of(&pod)?,
    })
}

impl Memory {
    fn of(pod: &Pod) -> Result<Self> {
        Ok(Self {
            shim: usage::resident_megabytes(pod.shim())?,
            sidecar: usage::resident_megabytes(pod.sidecar())?,
        })
    }
}

/// Processor time of shim and sidecar so far, in milliseconds.
fn spent(pod: &Pod) -> Result<f64> {
    let both = usage::processor_time(pod.shim())? + usage::processor_time(pod.sidecar())?;
    Ok(crate::statistics::milliseconds(both))
}

/// Medians over runs of a value on each side and of their difference.
struct Compared {
    raw: f64,
    bridge: f64,
    added: f64,
}

fn compared<'a>(
    runs: impl Iterator<Item = &'a Both<Samples>> + Clone,
    value: fn(&Samples) -> f64,
) -> Compared {
    Compared {
        raw: median(runs.clone().map(|run| value(&run.raw))),
        bridge: median(runs.clone().map(|run| value(&run.bridge))),
        added: median(runs.map(|run| value(&run.bridge) - value(&run.raw))),
    }
}

impl Compared {
    fn added(&self) -> Printed {
        Printed::new(self.added, 3)
    }

    fn times(&self) -> Printed {
        Printed::new(self.bridge / self.raw, 1)
    }

    fn row(&self, what: String) -> Row {
        let figure = format!(
            "{} ms added (raw {:.3}, bridge {:.3}; {} times)",
            self.added(),
            self.raw,
            self.bridge,
            self.times()
        );
        Row::plain(what, figure)
    }

    /// A row whose difference has a limit, in milliseconds.
    fn limited(&self, what: String, limit: f64) -> Row {
        self.row(what).at_most(self.added(), limit, "ms added")
    }
}

fn rows_of(worker: &str, runs: &[Run]) -> Vec<Row> {
    let sequential = || runs.iter().map(|run| &run.sequential);
    let p50 = compared(sequential(), Samples::p50);
    let p99 = compared(sequential(), Samples::p99);
    let raw = median(runs.iter().map(|run| run.throughput.raw));
    let bridge = median(runs.iter().map(|run| run.throughput.bridge));
    let ratio = |raw: fn(&Run) -> f64| {
        let of = |run: &Run| run.throughput.bridge / raw(run);
        median(runs.iter().map(of))
    };
    let (same, alone) = (ratio(|run| run.throughput.raw), ratio(|run| run.alone));
    let most = median(runs.iter().map(|run| run.alone));
    let cost = |index: usize| median(runs.iter().map(|run| run.cost[index] * 1e3));
    let [same, alone] = [same, alone].map(|ratio| Printed::new(ratio, 2));
    vec![
        p50.limited(format!("sequential, {worker}, p50"), 0.15)
            .ratio(p50.times(), Better::Lower),
        // What else the machine does shows here first, so no ratio is kept.
        p99.row(format!("sequential, {worker}, p99")),
        Row::plain(
            format!("{IN_FLIGHT} in flight, {worker}"),
            format!("{same} of raw ({bridge:.0} against {raw:.0} calls/s)"),
        )
        .at_least(same, 0.5)
        .ratio(same, Better::Higher),
        Row::plain(
            format!("{IN_FLIGHT} in flight, {worker}, against a thread that keeps no account"),
            format!("{alone} of what it gets ({bridge:.0} against {most:.0} calls/s)"),
        )
        .ratio(alone, Better::Higher),
        Row::plain(
            format!("CPU of shim and sidecar a call, {worker}"),
            format!("{:.0} µs sequential, {:.0} µs in flight", cost(0), cost(1)),
        ),
    ]
}

fn steady_rows(runs: &[Steady]) -> Vec<Row> {
    let p50 = steady_compared(runs, Samples::p50);
    let p99 = steady_compared(runs, Samples::p99);
    let errors: usize = runs.iter().map(|run| run.latency.bridge.errors).sum();
    let calls: usize = runs
        .iter()
        .map(|run| run.latency.bridge.errors + run.latency.bridge.samples.len())
        .sum();
    let name = "1,000 calls/s, 1 KB, two replicas of a host";
    vec![
        p50.limited(format!("{name}, p50"), 0.25)
            .ratio(p50.times(), Better::Lower),
        p99.limited(format!("{name}, p99"), 0.6),
        Row::plain(
            format!("{name}, errors"),
            format!("{errors} in {calls} calls"),
        )
        .at_most(Printed::new(errors as f64, 0), 0.0, ""),
        Row::plain(
            format!("{name}, CPU of shim and sidecar"),
            format!(
                "{:.0} µs a call",
                median(runs.iter().map(|run| run.cost * 1e3))
            ),
        ),
    ]
}

fn steady_compared(runs: &[Steady], value: fn(&Samples) -> f64) -> Compared {
    let (raw, bridge) = (
        |run: &Steady| value(&run.latency.raw.samples),
        |run: &Steady| value(&run.latency.bridge.samples),
    );
    Compared {
        raw: median(runs.iter().map(raw)),
        bridge: median(runs.iter().map(bridge)),
        added: median(runs.iter().map(|run| bridge(run) - raw(run))),
    }
}

fn memory_rows(runs: &[Run], steady: &[Steady]) -> Vec<Row> {
    let idle = |part: fn(&Memory) -> f64| median(runs.iter().map(|run| part(&run.idle)));
    let busy = |part: fn(&Memory) -> f64| median(steady.iter().map(|run| part(&run.busy)));
    let row = |what: &str, value: f64, limit: f64| {
        let value = Printed::new(value, 1);
        Row::plain(format!("resident memory, {what}"), format!("{value} MB"))
            .at_most(value, limit, "MB")
    };
    vec![
        row("shim, idle", idle(|memory| memory.shim), 1.5),
        row("sidecar, idle", idle(|memory| memory.sidecar), 12.0),
        row(
            "sidecar, 1,000 calls/s",
            busy(|memory| memory.sidecar),
            25.0,
        ),
    ]
}
