//! Loads of calls, the same for all sides of a comparison.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use bytes::Bytes;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::statistics::Samples;

/// A way to call the worker.
pub trait Caller: Clone + Send + Sync + 'static {
    /// Makes one call and gives its result as JSON.
    fn answer(&self, params: Bytes) -> impl Future<Output = Result<Bytes>> + Send;

    /// Makes one call and gives its result.
    async fn call(&self, params: &Value) -> Result<Value> {
        let answer = self.answer(Bytes::from(params.to_string())).await?;
        Ok(serde_json::from_slice(&answer)?)
    }

    /// How long one call takes.
    fn timed(&self, params: Bytes) -> impl Future<Output = Result<Duration>> + Send {
        async {
            let start = Instant::now();
            self.answer(params).await?;
            Ok(start.elapsed())
        }
    }

    /// Calls one after the other.
    async fn sequential(&self, calls: usize, params: &Value) -> Result<Samples> {
        let params = Bytes::from(params.to_string());
        let mut durations = Vec::with_capacity(calls);
        for _ in 0..calls {
            durations.push(self.timed(params.clone()).await?);
        }
        Ok(Samples::new(durations))
    }

    /// Calls a second with so many open at any time.
    async fn throughput(&self, calls: usize, in_flight: usize, params: &Value) -> Result<f64> {
        let params = Bytes::from(params.to_string());
        let start = Instant::now();
        let mut lanes = JoinSet::new();
        for lane in 0..in_flight {
            let (caller, params) = (self.clone(), params.clone());
            let share = calls / in_flight + usize::from(lane < calls % in_flight);
            lanes.spawn(async move {
                for _ in 0..share {
                    caller.answer(params.clone()).await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(lane) = lanes.join_next().await {
            lane??;
        }
        Ok(calls as f64 / start.elapsed().as_secs_f64())
    }
}

/// Durations of the calls that each caller makes in some time, with so many open at once.
pub async fn for_a_while<C: Caller>(
    callers: &[C],
    in_flight: usize,
    time: Duration,
    params: &Value,
) -> Result<Vec<Vec<Duration>>> {
    let params = Bytes::from(params.to_string());
    let end = Instant::now() + time;
    let mut lanes = JoinSet::new();
    for (number, caller) in callers.iter().enumerate() {
        for _ in 0..in_flight {
            let (caller, params) = (caller.clone(), params.clone());
            lanes.spawn(async move {
                let mut durations = Vec::new();
                while Instant::now() < end {
                    durations.push(caller.timed(params.clone()).await?);
                }
                anyhow::Ok((number, durations))
            });
        }
    }
    let mut all = vec![Vec::new(); callers.len()];
    while let Some(lane) = lanes.join_next().await {
        let (number, durations) = lane??;
        all[number].extend(durations);
    }
    Ok(all)
}

/// So many calls a second, for so long.
#[derive(Clone, Copy)]
pub struct Pace {
    /// Calls a second.
    pub rate: u32,
    /// For how many seconds.
    pub seconds: u32,
}

/// What came of calls at a steady rate.
pub struct Paced {
    /// Durations of the calls that were answered.
    pub samples: Samples,
    /// Calls that were not.
    pub errors: usize,
}

impl Pace {
    /// Number of calls.
    pub fn calls(self) -> usize {
        self.rate as usize * self.seconds as usize
    }

    /// Does something for each call when it is due. Blocks. What is late is made up for,
    /// so a slow answer does not lower the rate.
    pub fn run(self, mut call: impl FnMut(usize) -> Result<()>) -> Result<()> {
        let start = Instant::now();
        for index in 0..self.calls() {
            let due = start + Duration::from_secs(1) * index as u32 / self.rate;
            // The clock is the condition that a load generator waits for.
            thread::sleep(due.saturating_duration_since(Instant::now()));
            call(index)?;
        }
        Ok(())
    }
}

/// Calls at a steady rate, by each caller in turn, whether answers come or not.
pub async fn paced<C: Caller>(callers: &[C], pace: Pace, params: &Value) -> Result<Paced> {
    let params = Bytes::from(params.to_string());
    let callers = callers.to_vec();
    let runtime = tokio::runtime::Handle::current();
    let calls = tokio::task::spawn_blocking(move || -> Result<_> {
        let mut calls = Vec::with_capacity(pace.calls());
        pace.run(|index| {
            let caller = callers[index % callers.len()].clone();
            let params = params.clone();
            calls.push(runtime.spawn(async move { caller.timed(params).await }));
            Ok(())
        })?;
        Ok(calls)
    });
    let mut durations = Vec::with_capacity(pace.calls());
    for call in calls.await?? {
        durations.extend(call.await?.ok());
    }
    Ok(Paced {
        errors: pace.calls() - durations.len(),
        samples: Samples::new(durations),
    })
}
