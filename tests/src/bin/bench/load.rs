//! A steady rate of calls, the same for both sides of a comparison.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;

use crate::statistics::Samples;

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
