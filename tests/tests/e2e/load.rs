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

use crate::support::{HOST, HOST_NAMESPACE, get, kubectl};

/// Longer than the host may hold a call and the worker may take over it.
const GIVE_UP: Duration = Duration::from_secs(60);
/// What takes longer than this was held.
pub const HELD: Duration = Duration::from_millis(500);

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
    /// How long that took.
    pub took: Duration,
}

/// Calls at a steady rate, made by a thread until told to stop.
pub struct Load {
    stop: Arc<AtomicBool>,
    calls: JoinHandle<Result<Vec<Call>>>,
}

impl Load {
    /// Begins to call the tool `record` of this plugin so often a second. The rate does not
    /// fall when answers are slow. Names of calls begin with `prefix`.
    pub fn start(plugin_key: &str, prefix: &str, rate: u32) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let client = format!("{HOST}-client");
        let token = kubectl(&["create", "token", &client, "-n", HOST_NAMESPACE])?;
        let target = Target {
            tool: format!("{plugin_key}:record"),
            token: token.trim().to_owned(),
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
        let calls = self
            .calls
            .join()
            .ok()
            .context("the load ends by itself")??;
        Ok(Report { calls })
    }
}

struct Target {
    tool: String,
    token: String,
    prefix: String,
}

impl Target {
    async fn run(self, rate: u32, stop: &AtomicBool) -> Result<Vec<Call>> {
        let client = reqwest::Client::builder().timeout(GIVE_UP).build()?;
        let target = Arc::new(self);
        let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate);
        let mut calls = tokio::task::JoinSet::new();
        let url: Arc<str> = format!("{}/api/plugins/tools/execute", host_address()?).into();
        let mut number = 0_u32;
        while !stop.load(Ordering::Relaxed) {
            ticks.tick().await;
            number += 1;
            let name = format!("{}-{number}", target.prefix);
            let (client, target, url) = (client.clone(), target.clone(), url.clone());
            calls.spawn(async move { target.call(&client, &url, name).await });
        }
        Ok(calls.join_all().await)
    }

    async fn call(&self, client: &reqwest::Client, url: &str, name: String) -> Call {
        let started = Instant::now();
        let request = client
            .post(url)
            .bearer_auth(&self.token)
            .json(&json!({"tool": self.tool, "parameters": {"call": name}}));
        let answered = async {
            let response = request.send().await?;
            Ok::<_, reqwest::Error>((response.status().as_u16(), response.text().await?))
        };
        let outcome = match answered.await {
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
        ensure!(
            longest < Some(Duration::from_secs(11)),
            "a call took {longest:?}"
        );
        Ok(())
    }

    /// The only calls that failed were under way, and each failure says so in Paperclip's words.
    /// More than begin at this rate in the time of the longest call cannot be under way.
    pub fn check_only_calls_under_way_failed(&self, rate: u32) -> Result<()> {
        let bad = self.bad();
        let longest = self.calls.iter().map(|call| call.took).max();
        let at_most = longest.unwrap_or_default().as_secs_f64() * f64::from(rate);
        let at_most = at_most.ceil() as usize + 1;
        ensure!(
            bad.len() <= at_most,
            "{} of {} calls failed, the first: {:?}",
            bad.len(),
            self.calls.len(),
            bad[0]
        );
        for call in bad {
            let is_typed = matches!(&call.outcome, Outcome::Failed { status: 502, body }
                if body.contains("\"code\":\"WORKER_UNAVAILABLE\"") && body.contains("\"message\":\""));
            ensure!(is_typed, "{call:?}");
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
