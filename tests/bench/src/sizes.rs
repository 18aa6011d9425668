//! The bridge by the size of what it carries, against raw stdio.

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::{
    load::Caller as _,
    pod::{Pod, Programs, Setting},
    raw::RawWorker,
    report::{Better, Printed, Row, Section},
    statistics::{Samples, median},
    usage,
    workers::{self, Worker},
};

/// Heading of the section.
pub const TITLE: &str = "Bridge by size";
/// Room for a worker that holds the largest text several times over.
const WORKER_MEMORY: u64 = 2 * 1024 * 1024 * 1024;

struct Size {
    name: &'static str,
    bytes: usize,
    calls: usize,
}

const SIZES: [Size; 7] = [
    size("100 B", 100, 2_000),
    size("1 KB", 1_000, 2_000),
    size("10 KB", 10_000, 1_000),
    size("100 KB", 100_000, 300),
    size("1 MB", 1_000_000, 50),
    size("10 MB", 10_000_000, 8),
    size("100 MB", 100_000_000, 3),
];

const fn size(name: &'static str, bytes: usize, calls: usize) -> Size {
    Size { name, bytes, calls }
}

/// One size in one run.
struct Run {
    raw: Samples,
    bridge: Samples,
    /// Most memory of the sidecar meanwhile, and its memory afterwards, in megabytes.
    peak: f64,
    after: f64,
}

/// Measures every size, so many times.
pub async fn measure(programs: &Programs, rounds: usize) -> Result<Section> {
    ensure!(rounds > 0, "nothing to measure");
    let worker = Worker::echo()?;
    let mut runs = [const { Vec::new() }; SIZES.len()];
    for round in 1..=rounds {
        eprintln!("bridge by size, run {round} of {rounds}");
        for (runs, run) in runs.iter_mut().zip(run(programs, &worker).await?) {
            runs.push(run);
        }
    }
    let rows = SIZES.iter().zip(&runs).map(|(size, runs)| row(size, runs));
    Ok(Section {
        rows: rows.collect(),
        ..Section::new(
            TITLE,
            format!(
                "The echo worker on plain pipes and behind shim, sidecar and a mutual-TLS session, one call \
                 at a time with a text of that size in its params, which comes back in its result; release \
                 builds as processes of one machine, {rounds} interleaved runs, medians over them. MB/s counts \
                 the text once; the peak is the most that was resident in the sidecar while that size was \
                 measured."
            ),
        )?
    })
}

async fn run(programs: &Programs, worker: &Worker) -> Result<Vec<Run>> {
    let mut raw = RawWorker::start(worker)?;
    let setting = Setting {
        worker_memory: WORKER_MEMORY,
        ..Setting::default()
    };
    let pod = Pod::start_as(programs, worker, &setting).await?;
    let session = pod.attach("one").await?;
    let mut all = Vec::new();
    for size in &SIZES {
        let params = workers::params(size.bytes);
        check(size, &raw.call(&params)?)?;
        let raw = raw.sequential(size.calls, &params)?;
        check(size, &session.call(&params).await?)?;
        usage::forget_peak(pod.sidecar())?;
        let bridge = session.sequential(size.calls, &params).await?;
        let peak = usage::peak_megabytes(pod.sidecar())?;
        let after = usage::resident_megabytes(pod.sidecar())?;
        all.push(Run {
            raw,
            bridge,
            peak,
            after,
        });
    }
    Ok(all)
}

/// The whole text came back.
fn check(size: &Size, answer: &Value) -> Result<()> {
    let length = answer["text"].as_str().map(str::len);
    ensure!(
        length == Some(size.bytes),
        "a text of {} came back as {length:?}",
        size.name
    );
    Ok(())
}

/// Megabytes of text a second.
fn rate(size: &Size, samples: &Samples) -> f64 {
    (size.bytes * samples.len()) as f64 / 1e6 / (samples.sum() / 1e3)
}

fn row(size: &Size, runs: &[Run]) -> Row {
    let of = |value: &dyn Fn(&Run) -> f64| median(runs.iter().map(value));
    let p50 = Printed::new(of(&|run| run.bridge.p50() / run.raw.p50()), 1);
    let rates = of(&|run| rate(size, &run.bridge) / rate(size, &run.raw));
    Row::plain(
        size.name,
        format!(
            "p50 {p50} times raw ({:.3} ms against {:.3}); {rates:.2} of raw's MB/s ({:.1} against {:.1}); \
             peak {:.1} MB, {:.1} afterwards",
            of(&|run| run.bridge.p50()),
            of(&|run| run.raw.p50()),
            of(&|run| rate(size, &run.bridge)),
            of(&|run| rate(size, &run.raw)),
            of(&|run| run.peak),
            of(&|run| run.after),
        ),
    )
    .ratio(p50, Better::Lower)
}
