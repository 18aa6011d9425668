//! A worker on plain pipes: what the bridge is compared with.
//!
//! Everything here blocks and nothing is between us and the worker, so that the
//! comparison is with the best that its protocol allows.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use crate::{
    load::{Pace, Paced},
    statistics::Samples,
    workers::Worker,
};

/// A started worker, ended with this.
pub struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A started and initialised worker.
pub struct RawWorker {
    process: Process,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    line: String,
    next_id: u64,
}

#[derive(Deserialize)]
struct Line<'a> {
    id: Option<u64>,
    method: Option<String>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

impl RawWorker {
    /// Starts a worker and initialises it.
    pub fn start(worker: &Worker) -> Result<Self> {
        let mut child = Command::new(worker.node())
            .arg(worker.entry())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {}", worker.entry().display()))?;
        let stdin = child.stdin.take().context("standard input is piped")?;
        let stdout = child.stdout.take().context("standard output is piped")?;
        let mut raw = Self {
            process: Process(child),
            stdin,
            stdout: BufReader::new(stdout),
            line: String::new(),
            next_id: 1,
        };
        raw.send("initialize", &worker.initialize_params())?;
        raw.answer()?;
        Ok(raw)
    }

    /// Process id of the worker.
    pub fn pid(&self) -> u32 {
        self.process.0.id()
    }

    /// The worker with its pipes, and the first id that no call has had. No call may be open.
    pub fn into_parts(self) -> (Process, ChildStdin, ChildStdout, u64) {
        let stdout = self.stdout.into_inner();
        (self.process, self.stdin, stdout, self.next_id)
    }

    /// Makes one call and gives its result as JSON.
    pub fn call(&mut self, params: &Value) -> Result<Value> {
        self.send("getData", params)?;
        self.answer()?;
        let message: Value = serde_json::from_str(&self.line)?;
        Ok(message["result"].clone())
    }

    /// Calls one after the other.
    pub fn sequential(&mut self, calls: usize, params: &Value) -> Result<Samples> {
        let params = params.to_string();
        let mut durations = Vec::with_capacity(calls);
        for _ in 0..calls {
            let start = Instant::now();
            let id = self.send_text("getData", &params)?;
            ensure!(self.answer()? == id, "the worker answered another call");
            durations.push(start.elapsed());
        }
        Ok(Samples::new(durations))
    }

    /// Calls a second with so many open at any time.
    pub fn throughput(&mut self, calls: usize, in_flight: usize, params: &Value) -> Result<f64> {
        let params = params.to_string();
        let start = Instant::now();
        for sent in 0..calls + in_flight {
            if sent >= in_flight {
                self.answer()?;
            }
            if sent < calls {
                self.send_text("getData", &params)?;
            }
        }
        Ok(calls as f64 / start.elapsed().as_secs_f64())
    }

    /// Calls at a steady rate, whether answers come or not.
    pub fn paced(&mut self, pace: Pace, params: &Value) -> Result<Paced> {
        let params = params.to_string();
        let first = self.next_id;
        self.next_id += pace.calls() as u64;
        let Self {
            stdin,
            stdout,
            line,
            ..
        } = self;
        let (started, answered) = thread::scope(|scope| -> Result<_> {
            let writer = scope.spawn(move || -> Result<Vec<Instant>> {
                let mut started = Vec::with_capacity(pace.calls());
                pace.run(|index| {
                    let text = request(first + index as u64, "getData", &params);
                    started.push(Instant::now());
                    stdin
                        .write_all(text.as_bytes())
                        .context("write to the worker")
                })?;
                Ok(started)
            });
            let mut answered: Vec<Option<Instant>> = vec![None; pace.calls()];
            for _ in 0..pace.calls() {
                let id = read_answer(stdout, line)?;
                let now = Instant::now();
                let index = id
                    .checked_sub(first)
                    .context("an answer to an older call")?;
                *answered
                    .get_mut(index as usize)
                    .context("an answer to no call")? = Some(now);
            }
            let started = writer.join();
            Ok((
                started.map_err(|_| anyhow::anyhow!("the writer panicked"))??,
                answered,
            ))
        })?;
        let durations: Vec<Duration> = started
            .iter()
            .zip(&answered)
            .filter_map(|(start, end)| Some(end.as_ref()?.duration_since(*start)))
            .collect();
        Ok(Paced {
            errors: pace.calls() - durations.len(),
            samples: Samples::new(durations),
        })
    }

    fn send(&mut self, method: &str, params: &Value) -> Result<u64> {
        self.send_text(method, &params.to_string())
    }

    fn send_text(&mut self, method: &str, params: &str) -> Result<u64> {
        let id = self.next_id;
        self.next_id += 1;
        self.stdin
            .write_all(request(id, method, params).as_bytes())
            .context("write to the worker")?;
        Ok(id)
    }

    fn answer(&mut self) -> Result<u64> {
        read_answer(&mut self.stdout, &mut self.line)
    }
}

/// A call as a line with its end. `params` is JSON.
pub fn request(id: u64, method: &str, params: &str) -> String {
    let method = json!(method);
    format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":{method},\"params\":{params}}}\n")
}

/// Waits for the next answer, past what a worker tells or asks on its own.
fn read_answer(stdout: &mut impl BufRead, line: &mut String) -> Result<u64> {
    loop {
        line.clear();
        if stdout.read_line(line).context("read from the worker")? == 0 {
            bail!("the worker ended");
        }
        if let Some((id, _)) = answer(line)? {
            return Ok(id);
        }
    }
}

/// Id and result of an answer; none of what a worker tells or asks on its own.
pub fn answer(line: &str) -> Result<Option<(u64, &str)>> {
    let message: Line<'_> =
        serde_json::from_str(line).with_context(|| format!("parse {line:?}"))?;
    if let Some(error) = message.error {
        bail!("the worker answered {error}");
    }
    Ok(match (message.id, message.result, &message.method) {
        (Some(id), Some(result), None) => Some((id, result.get())),
        _ => None,
    })
}
