//! What a plugin notices of another that misbehaves, and what is said of that one.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use bytes::Bytes;
use paperclip_tests::Cluster;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    load::{self, Caller as _, Pace, Paced},
    plugins::{self, Host, Plugins, Tool},
    report::{Printed, Row, Section},
    statistics::median,
    usage::MachineTime,
};

/// Heading of the section.
pub const TITLE: &str = "Neighbours of a hostile worker";
const NAMESPACE: &str = "bench-neighbours";
const NEIGHBOUR: &str = "neighbour";
const HOSTILE: &str = "hostile";
const BODY: usize = 1_000;
const PACE: Pace = Pace {
    rate: 100,
    seconds: 20,
};
/// How often the hostile worker is told again, since it may have been restarted.
const REMINDER: Duration = Duration::from_secs(1);
/// How long the operator may take to name what is wrong.
const NAMED_WITHIN: Duration = Duration::from_secs(30);

/// Characters of a message that are shown.
const LONGEST_MESSAGE: usize = 120;

struct Behaviour {
    name: &'static str,
    /// What the worker is told.
    how: &'static str,
}

const QUIET: &str = "not";
/// What the hostile ones are compared with: a worker that does nothing wrong and uses the
/// processor as far as its limit lets it.
const BUSY: Behaviour = Behaviour {
    name: "busy, within its limits",
    how: "busy",
};
const BEHAVIOURS: [Behaviour; 4] = [
    Behaviour {
        name: "fork bomb",
        how: "fork",
    },
    Behaviour {
        name: "memory hog",
        how: "memory",
    },
    Behaviour {
        name: "flood on stdout",
        how: "stdout",
    },
    Behaviour {
        name: "flood of callbacks",
        how: "callbacks",
    },
];

/// A quiet window and a hostile one.
struct Run {
    quiet: Paced,
    hostile: Paced,
    /// What the hostile plugin's conditions said in the hostile window alone.
    named: Reasons,
}

/// Reasons of conditions, each with its message.
type Reasons = BTreeMap<String, String>;

/// What is in some reasons and not in others.
fn without(mut reasons: Reasons, others: &Reasons) -> Reasons {
    reasons.retain(|reason, _| !others.contains_key(reason));
    reasons
}

/// Measures every behaviour, so many times.
pub async fn measure(cluster: &Cluster, rounds: usize) -> Result<Section> {
    ensure!(rounds > 0, "nothing to measure");
    let namespace = Plugins::new(cluster, NAMESPACE).await?;
    for name in [NEIGHBOUR, HOSTILE] {
        namespace.start(name).await?;
    }
    let host = Host::of(cluster)?;
    let bench = Bench {
        neighbour: namespace.tool(&host, NEIGHBOUR, "echo"),
        calm: namespace.tool(&host, HOSTILE, "echo"),
        told: namespace.tool(&host, HOSTILE, "misbehave"),
        namespace,
    };
    plugins::answers(&bench.neighbour).await?;
    let before = MachineTime::now()?;
    let mut busy = Vec::new();
    let mut runs = [const { Vec::new() }; BEHAVIOURS.len()];
    for round in 1..=rounds {
        let hostile = BEHAVIOURS.iter().zip(&mut runs);
        for (behaviour, runs) in [(&BUSY, &mut busy)].into_iter().chain(hostile) {
            let name = behaviour.name;
            eprintln!("neighbours, run {round} of {rounds}: {name}");
            runs.push(bench.run(behaviour).await?);
        }
    }
    let mut rows = busy_rows(&busy, runs.iter().flatten());
    let beside_busy = p99_of(&busy, |run| &run.hostile);
    for (behaviour, runs) in BEHAVIOURS.iter().zip(&runs) {
        rows.extend(rows_of(behaviour.name, runs, beside_busy));
    }
    Ok(Section {
        rows,
        ..Section::new(
            TITLE,
            format!(
                "Two plugins with default limits, each in its own pod, served by one host. One is called {} \
                 times a second through the host's HTTP API, in windows of {} s; the other's worker is quiet in \
                 one window and misbehaves in the next, and is told again each second in case it was restarted; \
                 {rounds} interleaved runs, medians over them. The cluster's nodes, its control plane and the \
                 load share the machine's cores, and a worker may use one of them: the first rows are of a \
                 worker that does nothing else, which no platform could refuse, and of the quiet windows \
                 among themselves. The machine's hypervisor took {:.1} % of its time meanwhile.",
                PACE.rate,
                PACE.seconds,
                MachineTime::stolen_percent(before)?
            ),
        )?
    })
}

struct Bench<'a> {
    namespace: Plugins<'a>,
    neighbour: Tool,
    calm: Tool,
    told: Tool,
}

impl Bench<'_> {
    async fn run(&self, behaviour: &Behaviour) -> Result<Run> {
        // A new pod, which no back-off of an earlier run holds up.
        self.namespace.delete_pods(HOSTILE)?;
        plugins::answers(&self.calm).await?;
        self.namespace.ready(HOSTILE).await?;
        let (quiet, usual) = self.window(QUIET).await?;
        let (hostile, seen) = self.window(behaviour.how).await?;
        let mut named = without(seen, &usual);
        if named.is_empty() && behaviour.how != BUSY.how {
            named = self.named_later(&usual).await?;
        }
        Ok(Run {
            quiet,
            hostile,
            named,
        })
    }

    /// Calls the neighbour while the hostile worker does as it is told. Gives the reasons that
    /// were seen meanwhile.
    async fn window(&self, how: &str) -> Result<(Paced, Reasons)> {
        let params = json!({"text": "x".repeat(BODY)});
        let over = CancellationToken::new();
        let calls = async {
            let called = load::paced(std::slice::from_ref(&self.neighbour), PACE, &params).await;
            over.cancel();
            called
        };
        let (called, seen) = tokio::join!(calls, self.remind(how, &over));
        Ok((called?, seen?))
    }

    /// Tells the hostile worker what to do until the window is over, and looks at what is said
    /// of it. Whether it answers does not matter.
    async fn remind(&self, how: &str, over: &CancellationToken) -> Result<Reasons> {
        let end = Instant::now() + Duration::from_secs(PACE.seconds.into());
        let mut ticks = tokio::time::interval(REMINDER);
        let mut seen = Reasons::new();
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = over.cancelled() => return Ok(seen),
            }
            let left = end.saturating_duration_since(Instant::now()).as_secs_f64();
            let order = Bytes::from(json!({"how": how, "seconds": left}).to_string());
            let _ = tokio::time::timeout(REMINDER / 2, self.told.answer(order)).await;
            seen.extend(self.reasons().await?);
        }
    }

    /// Reasons that come after the window, as long as the operator may take.
    async fn named_later(&self, usual: &Reasons) -> Result<Reasons> {
        let deadline = Instant::now() + NAMED_WITHIN;
        loop {
            let found = without(self.reasons().await?, usual);
            if !found.is_empty() || Instant::now() > deadline {
                return Ok(found);
            }
            tokio::time::sleep(REMINDER).await;
        }
    }

    /// The reasons of the hostile plugin's conditions now.
    async fn reasons(&self) -> Result<Reasons> {
        let plugin = self.namespace.get(HOSTILE).await?;
        let text = |found: &Value, field: &str| found[field].as_str().map(str::to_owned);
        let reasons = plugins::conditions(&plugin)
            .filter_map(|found| Some((text(found, "reason")?, text(found, "message")?)));
        Ok(reasons.collect())
    }
}

/// Median of the 99th percentiles of some windows, in milliseconds.
fn p99_of<'a>(runs: impl IntoIterator<Item = &'a Run>, window: fn(&Run) -> &Paced) -> f64 {
    median(runs.into_iter().map(|run| window(run).samples.p99()))
}

/// How much later the neighbour's answers are beside something than beside nothing.
fn times_quiet(runs: &[Run]) -> f64 {
    let ratio = |run: &Run| run.hostile.samples.p99() / run.quiet.samples.p99();
    median(runs.iter().map(ratio))
}

/// What the others are to be seen against.
fn busy_rows<'a>(busy: &'a [Run], others: impl Iterator<Item = &'a Run>) -> Vec<Row> {
    let quiet = busy.iter().chain(others).map(|run| run.quiet.samples.p99());
    let (least, most) = quiet.fold((f64::MAX, f64::MIN), |(least, most), one| {
        (least.min(one), most.max(one))
    });
    vec![
        Row::plain(
            "quiet windows among themselves, p99 of the neighbour",
            format!(
                "{:.2} from the best to the worst ({least:.1} to {most:.1} ms)",
                most / least
            ),
        ),
        Row::plain(
            format!("{}, p99 of the neighbour", BUSY.name),
            format!(
                "{:.2} of the quiet window's ({:.1} ms against {:.1})",
                times_quiet(busy),
                p99_of(busy, |run| &run.hostile),
                p99_of(busy, |run| &run.quiet),
            ),
        ),
    ]
}

fn rows_of(name: &str, runs: &[Run], beside_busy: f64) -> Vec<Row> {
    let ratio = Printed::new(times_quiet(runs), 2);
    let hostile = p99_of(runs, |run| &run.hostile);
    let errors: usize = runs.iter().map(|run| run.hostile.errors).sum();
    let named = runs.iter().filter(|run| !run.named.is_empty()).count();
    let reasons: BTreeMap<_, _> = runs.iter().flat_map(|run| &run.named).collect();
    let reasons: Vec<String> = reasons
        .into_iter()
        .map(|(reason, message)| format!("{reason} ({})", cell(message)))
        .collect();
    let reasons = match reasons.is_empty() {
        true => "nothing".to_owned(),
        false => reasons.join(", "),
    };
    vec![
        // Quiet windows differ among themselves by more than any tolerance, so no ratio is kept.
        Row::plain(
            format!("{name}, p99 of the neighbour"),
            format!(
                "{ratio} of the quiet window's ({hostile:.1} ms against {:.1}); {:.2} of that beside a busy one",
                p99_of(runs, |run| &run.quiet),
                hostile / beside_busy,
            ),
        )
        .at_most(ratio, 1.1, ""),
        Row::plain(
            format!("{name}, errors of the neighbour"),
            format!("{errors} in {} calls", runs.len() * PACE.calls()),
        )
        .at_most(Printed::new(errors as f64, 0), 0.0, ""),
        Row::plain(
            format!("{name}, reasons in the hostile plugin's status"),
            format!("{reasons}; in {named} of {} runs", runs.len()),
        )
        .judged("named in status", named == runs.len()),
    ]
}

/// The beginning of a message, as a cell of a table takes it.
fn cell(message: &str) -> String {
    let plain = message.replace(['|', '\n', '\r'], " ");
    match plain.char_indices().nth(LONGEST_MESSAGE) {
        Some((end, _)) => format!("{}…", &plain[..end]),
        None => plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_does_not_break_the_table() {
        assert_eq!(cell("a | b\nc"), "a   b c");
        let long = cell(&"é".repeat(LONGEST_MESSAGE + 1));
        assert_eq!(long, "é".repeat(LONGEST_MESSAGE) + "…");
    }
}
