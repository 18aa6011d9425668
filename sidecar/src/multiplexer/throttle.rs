//! Throttling of a worker's output: requests, notifications and stray lines. Answers are free.
//!
//! All of it is work for the host, which other plugins share, and for the log of the node. A worker
//! that says too much is not read for a while: its own pipe fills, and its own words wait.

use std::{
    num::NonZeroU32,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

use crate::limits;

/// Requests and notifications of a worker in a second.
pub const MESSAGES_PER_SECOND: u32 = 2_000;
/// Lines on its stdout that are no messages: each becomes a line of the pod's log.
pub const NOISE_PER_SECOND: u32 = 1_000;
/// Parts of a second's worth that may come at once: what a host has before it from one worker is
/// what the calls of other plugins wait behind.
const BURSTS_PER_SECOND: u32 = 10;
/// How long it is remembered that a worker was held back.
const REMEMBERED: Duration = Duration::from_secs(10);

/// Output of a worker that is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// A request or a notification.
    Message,
    /// A line that is neither, nor an answer.
    Noise,
}

/// Holds a worker back that says too much.
#[derive(Debug)]
pub struct Throttle {
    messages: Option<DefaultDirectRateLimiter>,
    noise: Option<DefaultDirectRateLimiter>,
    held: Mutex<Option<Instant>>,
    is_released: AtomicBool,
}

impl Throttle {
    /// The limits of every pod.
    #[must_use]
    pub fn standard() -> Self {
        Self::of(
            NonZeroU32::new(MESSAGES_PER_SECOND),
            NonZeroU32::new(NOISE_PER_SECOND),
        )
    }

    /// No throttle: what is said passes as fast as it comes.
    #[must_use]
    pub fn unlimited() -> Self {
        Self::of(None, None)
    }

    fn of(messages: Option<NonZeroU32>, noise: Option<NonZeroU32>) -> Self {
        let limiter = |rate: NonZeroU32| {
            let burst = rate.get().div_ceil(BURSTS_PER_SECOND);
            let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
            RateLimiter::direct(Quota::per_second(rate).allow_burst(burst))
        };
        Self {
            messages: messages.map(limiter),
            noise: noise.map(limiter),
            held: Mutex::new(None),
            is_released: AtomicBool::new(false),
        }
    }

    /// Waits until one more may pass. True when it had to wait.
    pub(super) async fn next(&self, output: Output) -> bool {
        let limiter = match output {
            Output::Message => &self.messages,
            Output::Noise => &self.noise,
        };
        let Some(limiter) = limiter else {
            return false;
        };
        let mut is_held = false;
        while !self.is_released.load(Ordering::Relaxed)
            && let Err(wait) = limits::take(limiter)
        {
            is_held = true;
            *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
            tokio::time::sleep(wait).await;
        }
        is_held
    }

    /// Lets everything pass from now on.
    pub(super) fn release(&self) {
        self.is_released.store(true, Ordering::Relaxed);
    }

    /// True when the worker was held back a moment ago.
    #[must_use]
    pub fn is_throttling(&self) -> bool {
        let held = *self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.is_some_and(|held| held.elapsed() < REMEMBERED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn so_many_of_each_pass_at_once_and_the_next_waits() {
        let throttle = Throttle::of(NonZeroU32::new(30), NonZeroU32::new(10));
        for _ in 0..3 {
            assert!(!throttle.next(Output::Message).await);
        }
        assert!(!throttle.next(Output::Noise).await, "it has its own");
        assert!(!throttle.is_throttling());
        assert!(throttle.next(Output::Message).await);
        assert!(throttle.is_throttling());
    }

    #[tokio::test]
    async fn without_a_pace_nothing_waits() {
        let throttle = Throttle::unlimited();
        for _ in 0..100_000 {
            assert!(!throttle.next(Output::Message).await);
        }
        assert!(!throttle.is_throttling());
    }
}
