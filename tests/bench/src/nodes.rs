//! The bridge across nodes: one host, a plugin on its own node and the same one on another.

use anyhow::{Result, ensure};
use paperclip_tests::Cluster;
use serde_json::json;

use crate::{
    load::{self, Caller as _, Pace, Paced},
    plugins::{self, Host, Plugins, Tool},
    report::{Better, Printed, Row, Section},
    statistics::{Samples, median},
};

/// Heading of the section.
pub const TITLE: &str = "Bridge across nodes";
const NAMESPACE: &str = "bench-nodes";
const NEAR: &str = "near";
const FAR: &str = "far";
const WARM_UP: usize = 2_000;
const IN_FLIGHT: usize = 16;
const BODY: usize = 1_000;
const PACE: Pace = Pace {
    rate: 1_000,
    seconds: 20,
};

/// One run of both.
struct Run {
    near: Paced,
    far: Paced,
}

/// Measures both in turn, so many times.
pub async fn measure(cluster: &Cluster, rounds: usize) -> Result<Section> {
    ensure!(rounds > 0, "nothing to measure");
    let node = Host::node(cluster)?;
    let others: Vec<String> = cluster.node_names();
    let others: Vec<&str> = others
        .iter()
        .map(String::as_str)
        .filter(|name| *name != node)
        .collect();
    ensure!(!others.is_empty(), "the cluster has one node, wanted two");
    let namespace = Plugins::new(cluster, NAMESPACE).await?;
    start_on(cluster, &namespace, NEAR, &others).await?;
    start_on(cluster, &namespace, FAR, &[&node]).await?;
    ensure!(is_on(&namespace, NEAR, &node)?, "{NEAR} is on another node");
    ensure!(
        !is_on(&namespace, FAR, &node)?,
        "{FAR} is on the host's node"
    );

    let host = Host::of(cluster)?;
    let tools = [NEAR, FAR].map(|name| namespace.tool(&host, name, "echo"));
    let params = json!({"text": "x".repeat(BODY)});
    for tool in &tools {
        plugins::answers(tool).await?;
        tool.throughput(WARM_UP, IN_FLIGHT, &params).await?;
    }
    let [near, far] = tools;
    let mut runs = Vec::new();
    for round in 1..=rounds {
        eprintln!("bridge across nodes, run {round} of {rounds}");
        runs.push(Run {
            near: load::paced::<Tool>(std::slice::from_ref(&near), PACE, &params).await?,
            far: load::paced::<Tool>(std::slice::from_ref(&far), PACE, &params).await?,
        });
    }
    Ok(Section {
        rows: rows(&runs),
        ..Section::new(
            TITLE,
            format!(
                "A tool called through the host's HTTP API, 1 KB, {} calls a second for {} s: of a plugin on \
                 the host's node and of the same plugin on the other; {rounds} interleaved runs, medians over \
                 them. Both nodes are network namespaces of one machine, so what is compared is the path, not \
                 a cable.",
                PACE.rate, PACE.seconds
            ),
        )?
    })
}

/// Starts a plugin while some nodes take no pods.
async fn start_on(
    cluster: &Cluster,
    namespace: &Plugins<'_>,
    name: &str,
    closed: &[&str],
) -> Result<()> {
    let _cordon = Cordon::of(cluster, closed)?;
    namespace.start(name).await
}

fn is_on(namespace: &Plugins<'_>, plugin: &str, node: &str) -> Result<bool> {
    let pods = namespace.pods(plugin)?;
    ensure!(
        pods.len() == 1,
        "{plugin} has {} pods, wanted 1",
        pods.len()
    );
    Ok(pods.iter().all(|(_, found)| found == node))
}

/// Nodes that take no new pods, until it is dropped.
struct Cordon<'a> {
    cluster: &'a Cluster,
    nodes: &'a [&'a str],
}

impl<'a> Cordon<'a> {
    fn of(cluster: &'a Cluster, nodes: &'a [&'a str]) -> Result<Self> {
        let cordon = Self { cluster, nodes };
        for node in nodes {
            cluster.kubectl(&["cordon", node])?;
        }
        Ok(cordon)
    }
}

impl Drop for Cordon<'_> {
    fn drop(&mut self) {
        for node in self.nodes {
            let _ = self.cluster.kubectl(&["uncordon", node]);
        }
    }
}

fn rows(runs: &[Run]) -> Vec<Row> {
    let row = |name: &str, value: fn(&Samples) -> f64| {
        let (near, far) = (
            |run: &Run| value(&run.near.samples),
            |run: &Run| value(&run.far.samples),
        );
        let times = Printed::new(median(runs.iter().map(|run| far(run) / near(run))), 2);
        let row = Row::plain(
            format!("{} calls/s, 1 KB, {name}", PACE.rate),
            format!(
                "{times} times as long on two nodes ({:.2} ms against {:.2})",
                median(runs.iter().map(far)),
                median(runs.iter().map(near)),
            ),
        );
        (row, times)
    };
    let errors: usize = runs
        .iter()
        .map(|run| run.near.errors + run.far.errors)
        .sum();
    let (p50, times) = row("p50", Samples::p50);
    vec![
        p50.ratio(times, Better::Lower),
        // What else the machine does shows here first, so no ratio is kept.
        row("p99", Samples::p99).0,
        Row::plain(
            format!("{} calls/s, 1 KB, errors", PACE.rate),
            format!("{errors} in {} calls", runs.len() * 2 * PACE.calls()),
        )
        .at_most(Printed::new(errors as f64, 0), 0.0, ""),
    ]
}
