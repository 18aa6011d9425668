//! Later and later after failures, counted for each object.

use std::{collections::HashMap, sync::Mutex, time::Duration};

const FIRST: Duration = Duration::from_millis(500);
const LAST: Duration = Duration::from_secs(60);

/// Failures in a row, by object.
#[derive(Debug, Default)]
pub struct Backoff(Mutex<HashMap<String, u32>>);

impl Backoff {
    /// The wait after one more failure.
    #[must_use]
    pub fn failed(&self, object: &str) -> Duration {
        let Ok(mut all) = self.0.lock() else {
            return LAST;
        };
        let failures = all.entry(object.to_owned()).or_default();
        let wait = FIRST
            .saturating_mul(2_u32.saturating_pow(*failures))
            .min(LAST);
        *failures = failures.saturating_add(1);
        jittered(wait, object)
    }

    /// Forgets an object's failures.
    pub fn succeeded(&self, object: &str) {
        if let Ok(mut all) = self.0.lock() {
            all.remove(object);
        }
    }
}

/// Up to a fifth longer, by name, so that objects that failed together do not return together.
fn jittered(wait: Duration, object: &str) -> Duration {
    let spread = object.bytes().fold(0_u32, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(byte.into())
    });
    wait + wait.mul_f64(f64::from(spread % 100) / 500.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_cap_and_start_again_after_success() {
        let backoff = Backoff::default();
        let waits: Vec<_> = (0..10).map(|_| backoff.failed("a")).collect();
        assert!(waits.is_sorted());
        assert!(waits[9] >= LAST && waits[9] <= LAST.mul_f64(1.2));
        backoff.succeeded("a");
        assert_eq!(backoff.failed("a"), waits[0]);
    }
}
