//! The bridge by the number of hosts that share one worker.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::{
    load,
    pod::{Pod, Programs},
    report::{Better, Printed, Row, Section},
    statistics::{Samples, median},
    usage,
    workers::{self, Worker},
};

/// Heading of the section.
pub const TITLE: &str = "Bridge by number of hosts";
const HOSTS: [usize; 3] = [1, 8, 32];
/// Calls open at once, of all hosts together.
const IN_FLIGHT: usize = 64;
const TIME: Duration = Duration::from_secs(5);
const WARM_UP: Duration = Duration::from_millis(500);
const BODY: usize = 1_000;

/// One number of hosts in one run.
struct Run {
    latency: Samples,
    throughput: f64,
    /// Calls of the slowest host, as a share of those of the fastest.
    fairness: f64,
    /// Memory of the sidecar, in megabytes.
    memory: f64,
}

/// Measures every number, so many times.
pub async fn measure(programs: &Programs, rounds: usize) -> Result<Section> {
    ensure!(rounds > 0, "nothing to measure");
    let worker = Worker::echo()?;
    let mut runs = [const { Vec::new() }; HOSTS.len()];
    for round in 1..=rounds {
        for (hosts, runs) in HOSTS.iter().zip(&mut runs) {
            eprintln!("bridge by number of hosts, run {round} of {rounds}: {hosts}");
            runs.push(run(programs, &worker, *hosts).await?);
        }
    }
    let alone = &runs[0];
    let rows = HOSTS.iter().zip(&runs);
    let rows = rows.flat_map(|(hosts, runs)| rows_of(*hosts, runs, alone));
    Ok(Section {
        rows: rows.collect(),
        ..Section::new(
            TITLE,
            format!(
                "Sessions of so many replicas of a host with one pod, {IN_FLIGHT} calls of 1 KB open at once, \
                 shared by the sessions evenly, for {} s; the echo worker, release builds as processes of one \
                 machine, {rounds} interleaved runs, medians over them. Ratios are to one host in the same run. \
                 Fairness is what the slowest host got, as a share of what the fastest got. The sessions' own \
                 ends run on the same machine.",
                TIME.as_secs()
            ),
        )?
    })
}

async fn run(programs: &Programs, worker: &Worker, hosts: usize) -> Result<Run> {
    let pod = Pod::start(programs, worker).await?;
    let mut sessions = Vec::new();
    for number in 1..=hosts {
        sessions.push(pod.attach(&format!("host-{number}")).await?);
    }
    let params = workers::params(BODY);
    let lanes = IN_FLIGHT / hosts;
    load::for_a_while(&sessions, lanes, WARM_UP, &params).await?;
    let durations = load::for_a_while(&sessions, lanes, TIME, &params).await?;
    let memory = usage::resident_megabytes(pod.sidecar())?;
    let calls = durations.iter().map(|durations| durations.len() as f64);
    let slowest = calls.clone().fold(f64::INFINITY, f64::min);
    let fastest = calls.clone().fold(0.0, f64::max);
    Ok(Run {
        throughput: calls.sum::<f64>() / TIME.as_secs_f64(),
        latency: Samples::new(durations.into_iter().flatten()),
        fairness: slowest / fastest,
        memory,
    })
}

fn rows_of(hosts: usize, runs: &[Run], alone: &[Run]) -> Vec<Row> {
    let name = match hosts {
        1 => "1 host".to_owned(),
        _ => format!("{hosts} hosts"),
    };
    let of = |value: fn(&Run) -> f64| median(runs.iter().map(value));
    let ratio = |value: fn(&Run) -> f64| {
        let pairs = runs.iter().zip(alone);
        median(pairs.map(|(run, alone)| value(run) / value(alone)))
    };
    let share = Printed::new(ratio(|run| run.throughput), 2);
    let fairness = Printed::new(of(|run| run.fairness), 2);
    vec![
        Row::plain(
            format!("{name}, calls"),
            format!(
                "{share} of one host's ({:.0} calls/s)",
                of(|run| run.throughput)
            ),
        )
        .ratio(share, Better::Higher),
        Row::plain(
            format!("{name}, latency"),
            format!(
                "p50 {:.2} times one host's ({:.2} ms), p99 {:.2} times ({:.2} ms)",
                ratio(|run| run.latency.p50()),
                of(|run| run.latency.p50()),
                ratio(|run| run.latency.p99()),
                of(|run| run.latency.p99())
            ),
        ),
        Row::plain(
            format!("{name}, fairness and memory"),
            format!(
                "slowest host {fairness} of the fastest; sidecar {:.1} MB",
                of(|run| run.memory)
            ),
        )
        .ratio(fairness, Better::Higher),
    ]
}
