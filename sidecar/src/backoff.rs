//! When a worker that ended starts again.

use std::time::{Duration, Instant};

/// A run, or a pause between crashes, after which the count begins anew.
const FORGIVEN: Duration = Duration::from_secs(600);

/// Counts consecutive crashes. It never gives up.
#[derive(Debug, Default)]
pub struct Backoff {
    crashes: u32,
    last: Option<Instant>,
}

impl Backoff {
    /// Notes a crash and gives the pause before the next start, at most `longest` before jitter.
    /// `jitter` is from 0 to 1.
    pub fn crashed(&mut self, now: Instant, jitter: f64, longest: Duration) -> Duration {
        let is_forgiven = self
            .last
            .is_some_and(|last| now.saturating_duration_since(last) > FORGIVEN);
        self.crashes = if is_forgiven { 1 } else { self.crashes + 1 };
        self.last = Some(now);
        pause(self.crashes, jitter, longest)
    }
}

/// No pause after the first crash, then 1 s doubled each time, ±25 %.
fn pause(crashes: u32, jitter: f64, longest: Duration) -> Duration {
    let Some(doublings) = crashes.checked_sub(2) else {
        return Duration::ZERO;
    };
    let base = Duration::from_secs(1 << doublings.min(12)).min(longest);
    base.mul_f64(0.75 + 0.5 * jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_restart_is_immediate_and_later_ones_double_up_to_five_minutes() {
        let pauses = |longest| -> Vec<u64> {
            let longest = Duration::from_secs(longest);
            (1..=12).map(|n| pause(n, 0.5, longest).as_secs()).collect()
        };
        assert_eq!(pauses(300), [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(pauses(2), [0, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2]);
    }

    #[test]
    fn a_quiet_ten_minutes_forgive() {
        let mut backoff = Backoff::default();
        let start = Instant::now();
        let longest = Duration::from_secs(300);
        let mut crashed = |at| backoff.crashed(at, 0.5, longest);
        assert_eq!(crashed(start), Duration::ZERO);
        assert_eq!(crashed(start), Duration::from_secs(1));
        let later = start + Duration::from_secs(601);
        assert_eq!(crashed(later), Duration::ZERO);
    }
}
