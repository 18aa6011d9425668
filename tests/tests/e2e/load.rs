//! A steady load of calls through the host, and what became of each.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::support::{HOST, HOST_NAMESPACE, get, kill_all, kubectl};

/// Longer than the host may hold a call and the worker may take over it.
const GIVE_UP: Duration = Duration::from_secs(60);
/// What takes longer than this was held.
pub const HELD: Duration = Duration::from_millis(500);
/// How long hosts hold a call at most.
const HELD_AT_MOST: Duration = Duration::from_secs(10);
/// Until a busy machine has noticed that a process was killed. A call of this time may have been
/// sent to it.
const NOTICED: Duration = Duration::from_millis(250);
/// The part of the rate that must have been reached.
const REACHED: f64 = 0.95;

/// What became of a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The worker answered.
    Done,
    /// The host answered with an error that says what happened.
    Failed {
        /// HTTP status.
        status: u16,
        /// Body.
        body: String,
    },
    /// There was no answer of the host.
    Unreachable(String),
}

/// A call and what became of it.
#[derive(Clone, Debug)]
pub struct Call {
    /// Its name in the ledger.
    pub name: String,
    /// What became of it.
    pub outcome: Outcome,
    /// When it began.
    pub started: Instant,
    /// How long it took.
    pub took: Duration,
}

impl Call {
    fn ended(&self) -> Instant {
        self.started + self.took
    }
}

/// When processes were killed.
pub struct Kill {
    begun: Instant,
    done: Instant,
}

impl Kill {
    /// kill -9 of each.
    pub fn all(processes: &[i32]) -> Result<Self> {
        let begun = Instant::now();
        kill_all(processes)?;
        Ok(Self {
            begun,
            done: Instant::now(),
        })
    }
}

/// Somebody who may use the host's API, from this machine.
pub struct Caller {
    client: reqwest::Client,
    execute: String,
    token: String,
}

impl Caller {
    /// Speaks as the account that the host's chart makes for clients.
    pub fn new() -> Result<Self> {
        let client = format!("{HOST}-client");
        let token = kubectl(&["create", "token", &client, "-n", HOST_NAMESPACE])?;
        Ok(Self {
            client: reqwest::Client::builder().timeout(GIVE_UP).build()?,
            execute: format!("{}/api/plugins/tools/execute", host_address()?),
            token: token.trim().to_owned(),
        })
    }

    /// Calls a tool, by its full name. Gives the status and the body of the answer.
    pub async fn execute(&self, tool: &str, parameters: &Value) -> reqwest::Result<(u16, String)> {
        let request = self.client.post(&self.execute).bearer_auth(&self.token);
        let body = json!({"tool": tool, "parameters": parameters});
        let response = request.json(&body).send().await?;
        Ok((response.status().as_u16(), response.text().await?))
    }
}

/// Calls at a steady rate, made by a thread until told to stop.
pub struct Load {
    stop: Arc<AtomicBool>,
    calls: JoinHandle<Result<Report>>,
}

impl Load {
    /// Begins to call the tool `record` of this plugin so often a second. The rate does not
    /// fall when answers are slow. Names of calls begin with `prefix`.
    pub fn start(plugin_key: &str, prefix: &str, rate: u32) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let target = Target {
            caller: Caller::new()?,
            tool: format!("{plugin_key}:record"),
            prefix: prefix.to_owned(),
        };
        let stopped = stop.clone();
        let calls = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(target.run(rate, &stopped))
        });
        Ok(Self { stop, calls })
    }

    /// Makes no new calls, and gives all of them once each has ended.
    pub fn stop(self) -> Result<Report> {
        self.stop.store(true, Ordering::Relaxed);
        self.calls.join().ok().context("the load ends by itself")?
    }
}

struct Target {
    caller: Caller,
    tool: String,
    prefix: String,
}

impl Target {
    async fn run(self, rate: u32, stop: &AtomicBool) -> Result<Report> {
        let target = Arc::new(self);
        let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate);
        let mut calls = tokio::task::JoinSet::new();
        let (mut number, started) = (0_u32, Instant::now());
        while !stop.load(Ordering::Relaxed) {
            ticks.tick().await;
            number += 1;
            let name = format!("{}-{number}", target.prefix);
            let target = target.clone();
            calls.spawn(async move { target.call(name).await });
        }
        let took = started.elapsed();
        Ok(Report {
            calls: calls.join_all().await,
            wanted: took.as_secs_f64() * f64::from(rate),
        })
    }

    async fn call(&self, name: String) -> Call {
        let started = Instant::now();
        let parameters = json!({"call": name});
        let outcome = match self.caller.execute(&self.tool, &parameters).await {
            Ok((200, body)) => match serde_json::from_str::<Value>(&body) {
                Ok(answer) if answer["result"]["data"]["count"].is_u64() => Outcome::Done,
                _ => Outcome::Failed { status: 200, body },
            },
            Ok((status, body)) => Outcome::Failed { status, body },
            Err(error) => Outcome::Unreachable(format!("{error:?}")),
        };
        Call {
            name,
            outcome,
            started,
            took: started.elapsed(),
        }
    }
}

/// URL of the host's pod, which this machine reaches as the nodes do.
pub fn host_address() -> Result<String> {
    let host = get(&["papercliphost", HOST, "-n", HOST_NAMESPACE])?;
    let service = host["spec"]["service"]["name"]
        .as_str()
        .context("the host names its Service")?;
    let endpoints = get(&[
        "endpointslices",
        "-n",
        HOST_NAMESPACE,
        "-l",
        &format!("kubernetes.io/service-name={service}"),
    ])?;
    let address = endpoints["items"][0]["endpoints"][0]["addresses"][0]
        .as_str()
        .context("the host has an address")?;
    Ok(format!("http://{address}:3100"))
}

/// What became of all calls.
pub struct Report {
    /// The calls.
    pub calls: Vec<Call>,
    /// How many there should be at the rate that was asked for.
    wanted: f64,
}

impl Report {
    /// Calls that did not end well.
    pub fn bad(&self) -> Vec<&Call> {
        let is_bad = |call: &&Call| call.outcome != Outcome::Done;
        self.calls.iter().filter(is_bad).collect()
    }

    /// One line of figures.
    pub fn print(&self, what: &str) {
        let mut tooks: Vec<Duration> = self.calls.iter().map(|call| call.took).collect();
        tooks.sort();
        let at = |share: f64| {
            let index = (tooks.len() as f64 * share) as usize;
            tooks.get(index.min(tooks.len().saturating_sub(1))).copied()
        };
        let held = tooks.iter().filter(|took| **took > HELD).count();
        println!(
            "load, {what}: {} calls, {} failed, {held} held over {} ms; p50 {:?}, p99 {:?}, longest {:?}",
            tooks.len(),
            self.bad().len(),
            HELD.as_millis(),
            at(0.5).unwrap_or_default(),
            at(0.99).unwrap_or_default(),
            at(1.0).unwrap_or_default(),
        );
    }

    /// As many calls began as the rate asks for.
    pub fn check_rate(&self) -> Result<()> {
        let (begun, wanted) = (self.calls.len(), self.wanted);
        ensure!(
            begun as f64 >= wanted * REACHED,
            "{begun} calls began where {wanted:.0} should have"
        );
        Ok(())
    }

    /// Every call ended well, and none was held for longer than hosts may.
    pub fn check_unbroken(&self) -> Result<()> {
        let bad = self.bad();
        ensure!(
            bad.is_empty(),
            "{} of {} calls failed, the first: {:?}",
            bad.len(),
            self.calls.len(),
            bad[0]
        );
        let longest = self.calls.iter().map(|call| call.took).max();
        ensure!(longest <= Some(HELD_AT_MOST), "a call took {longest:?}");
        Ok(())
    }

    /// The only calls that failed were under way when something was killed, and each failure
    /// says so in Paperclip's words.
    pub fn check_only_calls_under_way_failed(&self, kill: &Kill) -> Result<()> {
        for call in self.bad() {
            let was_under_way = call.started <= kill.done + NOTICED && call.ended() >= kill.begun;
            ensure!(
                was_under_way,
                "began {:?} after the kill: {call:?}",
                call.started.saturating_duration_since(kill.done)
            );
            let is_typed = matches!(&call.outcome, Outcome::Failed { status: 502, body }
                if body.contains("\"code\":\"WORKER_UNAVAILABLE\"") && body.contains("\"message\":\""));
            ensure!(is_typed, "{call:?}");
        }
        Ok(())
    }

    /// After the host itself was killed: callers lost their connections until it served again,
    /// and no call failed in any other way, or before, or afterwards.
    pub fn check_lost_only_connections(&self, kill: &Kill) -> Result<()> {
        let done = self
            .calls
            .iter()
            .filter(|call| call.outcome == Outcome::Done);
        // A call that begins before the host is back may wait for its connection until it is, so
        // an end is what shows it.
        let begun = done.filter(|call| call.started > kill.done);
        let back = begun
            .map(Call::ended)
            .min()
            .context("the host serves again")?;
        println!("load: the host served again after {:?}", back - kill.done);
        for call in self.bad() {
            let is_lost = matches!(call.outcome, Outcome::Unreachable(_));
            let was_away = call.started <= back + NOTICED && call.ended() >= kill.begun;
            ensure!(
                is_lost && was_away,
                "back after {:?}: {call:?}",
                back - kill.done
            );
        }
        Ok(())
    }

    /// Compares with what the worker wrote down: a call that ended well was done once, and
    /// no other more than once.
    pub fn check_ledger(&self, ledger: &BTreeMap<String, u64>) -> Result<()> {
        for call in &self.calls {
            let times = ledger.get(&call.name).copied().unwrap_or_default();
            let is_right = match call.outcome {
                Outcome::Done => times == 1,
                Outcome::Failed { .. } | Outcome::Unreachable(_) => times <= 1,
            };
            ensure!(is_right, "done {times} times: {call:?}");
        }
        Ok(())
    }
}
