//! The bridge beside the other ways to reach the same worker: none, a bridge in Node, and a
//! call at a time.

use anyhow::{Result, ensure};

use crate::{
    load::Caller,
    node_bridge::{Installed, NodeBridge},
    pod::{Pod, Programs},
    raw::RawWorker,
    report::{Better, Printed, Row, Section},
    statistics::{Samples, median, milliseconds},
    stdio::Stdio,
    usage,
    workers::{self, Worker},
};

/// Heading of the section.
pub const TITLE: &str = "Bridge against one in Node";
const SEQUENTIAL_CALLS: usize = 3_000;
const THROUGHPUT_CALLS: usize = 40_000;
const IN_FLIGHT: usize = 64;
const WARM_UP: usize = 2_000;
const BODY: usize = 1_000;

/// What one way took in one run.
struct Way {
    sequential: Samples,
    throughput: f64,
    /// Processor time of the bridge a call with many in flight, in microseconds, and its memory
    /// in megabytes after that.
    cost: Option<(f64, f64)>,
}

/// One run of all ways.
struct Run {
    raw: Way,
    node: Way,
    unary: Way,
    session: Way,
}

/// Measures all ways in turn, so many times.
pub async fn measure(programs: &Programs, rounds: usize) -> Result<Section> {
    ensure!(rounds > 0, "nothing to measure");
    let worker = Worker::echo()?;
    let node_bridge = Installed::new()?;
    let mut runs = Vec::new();
    for round in 1..=rounds {
        eprintln!("bridge against one in Node, run {round} of {rounds}");
        runs.push(run(programs, &node_bridge, &worker).await?);
    }
    let mut rows = sequential_rows(&runs);
    rows.extend(throughput_rows(&runs));
    rows.extend(cost_rows(&runs));
    Ok(Section {
        rows,
        ..Section::new(
            TITLE,
            format!(
                "The echo worker, 1 KB, {rounds} interleaved runs of each way, medians over them: raw stdio; 70 \
                 lines of Node that serve the contract's unary `Call` over mutual TLS (`@grpc/grpc-js`) and \
                 pass it to the worker; our sidecar by the same unary `Call`; and by a session, as hosts do. \
                 The client is the same program throughout."
            ),
        )?
    })
}

async fn run(programs: &Programs, installed: &Installed, worker: &Worker) -> Result<Run> {
    let params = workers::params(BODY);
    let raw = {
        let mut raw = RawWorker::start(worker)?;
        raw.throughput(WARM_UP, IN_FLIGHT, &params)?;
        let sequential = raw.sequential(SEQUENTIAL_CALLS, &params)?;
        let raw = Stdio::new(raw)?;
        raw.throughput(WARM_UP, IN_FLIGHT, &params).await?;
        Way {
            sequential,
            throughput: raw.throughput(THROUGHPUT_CALLS, IN_FLIGHT, &params).await?,
            cost: None,
        }
    };
    let node = {
        let bridge = NodeBridge::start(installed, worker)?;
        way(&bridge.unary().await?, bridge.pid()).await?
    };
    let pod = Pod::start(programs, worker).await?;
    let unary = way(&pod.unary().await?, pod.sidecar()).await?;
    let session = way(&pod.attach("one").await?, pod.sidecar()).await?;
    Ok(Run {
        raw,
        node,
        unary,
        session,
    })
}

async fn way(caller: &impl Caller, bridge: u32) -> Result<Way> {
    let params = workers::params(BODY);
    let answer = caller.call(&params).await?;
    ensure!(answer == params["params"], "a bridge answered {answer}");
    caller.throughput(WARM_UP, IN_FLIGHT, &params).await?;
    let sequential = caller.sequential(SEQUENTIAL_CALLS, &params).await?;
    let before = usage::processor_time(bridge)?;
    let throughput = caller
        .throughput(THROUGHPUT_CALLS, IN_FLIGHT, &params)
        .await?;
    let spent = milliseconds(usage::processor_time(bridge)? - before);
    Ok(Way {
        sequential,
        throughput,
        cost: Some((
            spent * 1e3 / THROUGHPUT_CALLS as f64,
            usage::resident_megabytes(bridge)?,
        )),
    })
}

type Of = fn(&Run) -> &Way;

const NODE: (&str, Of) = ("Node bridge", |run| &run.node);
const UNARY: (&str, Of) = ("sidecar, unary", |run| &run.unary);
const SESSION: (&str, Of) = ("sidecar, session", |run| &run.session);

fn sequential_rows(runs: &[Run]) -> Vec<Row> {
    let row = |(name, of): (&str, Of)| {
        let ratio = |run: &Run| of(run).sequential.p50() / run.raw.sequential.p50();
        let times = Printed::new(median(runs.iter().map(ratio)), 1);
        let row = Row::plain(
            format!("sequential, {name}"),
            format!(
                "p50 {times} times raw ({:.3} ms against {:.3}), p99 {:.3} ms",
                median(runs.iter().map(|run| of(run).sequential.p50())),
                median(runs.iter().map(|run| run.raw.sequential.p50())),
                median(runs.iter().map(|run| of(run).sequential.p99())),
            ),
        );
        match name == NODE.0 {
            true => row,
            false => row.ratio(times, Better::Lower),
        }
    };
    [NODE, UNARY, SESSION].map(row).into()
}

fn throughput_rows(runs: &[Run]) -> Vec<Row> {
    let row = |(name, of): (&str, Of)| {
        let raw = |run: &Run| of(run).throughput / run.raw.throughput;
        let node = |run: &Run| of(run).throughput / run.node.throughput;
        let share = Printed::new(median(runs.iter().map(raw)), 2);
        let row = Row::plain(
            format!("{IN_FLIGHT} in flight, {name}"),
            format!(
                "{share} of raw, {:.1} times the Node bridge ({:.0} calls/s)",
                median(runs.iter().map(node)),
                median(runs.iter().map(|run| of(run).throughput)),
            ),
        );
        match name == NODE.0 {
            true => row,
            false => row.ratio(share, Better::Higher),
        }
    };
    [NODE, UNARY, SESSION].map(row).into()
}

fn cost_rows(runs: &[Run]) -> Vec<Row> {
    let row = |(name, of): (&str, Of)| {
        let costs = || runs.iter().filter_map(|run| of(run).cost);
        Row::plain(
            format!("cost of a call and memory, {name}"),
            format!(
                "{:.1} µs with {IN_FLIGHT} in flight, {:.1} MB",
                median(costs().map(|(time, _)| time)),
                median(costs().map(|(_, memory)| memory)),
            ),
        )
    };
    [NODE, UNARY, SESSION].map(row).into()
}
