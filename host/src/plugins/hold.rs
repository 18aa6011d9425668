//! The hold: how long, and how many, calls wait for a pod that serves; and the record of each wait.

use tokio::time::{Duration, Instant};

use crate::metrics::{HoldOutcome, Holds};

/// How long work waits for a pod that serves.
pub const HOLD: Duration = Duration::from_secs(10);
/// How many calls of a plugin wait at most, unless told otherwise: 400 a second for as long as they may. A call that
/// waits costs its HTTP request, a few tens of KiB.
pub const QUEUE: usize = 4096;

/// The wait of one call, counted when this is dropped. A call that never waited is not counted.
#[derive(Debug)]
pub struct Held<'a> {
    holds: &'a Holds,
    begun: Option<Instant>,
    ended: Option<Instant>,
    outcome: HoldOutcome,
}

impl<'a> Held<'a> {
    /// A call that does not wait yet.
    pub fn new(holds: &'a Holds) -> Self {
        Self {
            holds,
            begun: None,
            ended: None,
            outcome: HoldOutcome::GivenUp,
        }
    }

    /// The call waits: for the first time, or on, since a pod refused it unseen.
    pub fn wait(&mut self) {
        self.begun.get_or_insert_with(Instant::now);
        self.ended = None;
        self.outcome = HoldOutcome::GivenUp;
    }

    /// The wait is over.
    pub fn end(&mut self, outcome: HoldOutcome) {
        self.ended = Some(Instant::now());
        self.outcome = outcome;
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Some(begun) = self.begun {
            let ended = self.ended.unwrap_or_else(Instant::now);
            self.holds.ended(self.outcome, ended - begun);
        }
    }
}
