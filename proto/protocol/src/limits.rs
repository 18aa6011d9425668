//! Limits of a plugin's calls: as the operator hands them to sidecars, and as hosts hear of them.
//!
//! An absent limit is the platform's default, which stands here and nowhere else.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Timeout of a call that names none.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Calls that a worker has before it at once.
pub const CONCURRENCY: usize = 4096;
/// Calls that wait while a limit is reached.
pub const QUEUE: usize = 1024;
/// The longest pause before a worker that crashes is started again, before jitter.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// Limits of a plugin, of each of its pods.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct Limits {
    /// Seconds after which a call has failed, also where its host would wait longer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call_timeout_seconds: Option<u32>,
    /// The same for runs of jobs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_timeout_seconds: Option<u32>,
    /// Calls that a worker has before it at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// Calls that wait while a limit is reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<u32>,
    /// Calls that begin in a second, over time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calls_per_second: Option<u32>,
    /// Calls that may begin together; as many as in a second where this is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
    /// Bytes that params and a result may have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload_bytes: Option<u32>,
    /// Seconds of the longest pause before a worker that crashes is started again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub longest_pause_seconds: Option<u32>,
}

impl Limits {
    /// How long a call may take whose host would wait `asked`; zero for a host that does not say.
    #[must_use]
    pub fn timeout(&self, is_job: bool, asked: Duration) -> Duration {
        let limit = self.longest(is_job);
        match asked {
            Duration::ZERO => limit.unwrap_or(CALL_TIMEOUT),
            asked => limit.map_or(asked, |limit| limit.min(asked)),
        }
    }

    /// How long a call may take at most, where the plugin says.
    #[must_use]
    pub fn longest(&self, is_job: bool) -> Option<Duration> {
        let limit = match is_job {
            true => self.job_timeout_seconds,
            false => self.call_timeout_seconds,
        };
        limit.map(|seconds| Duration::from_secs(seconds.into()))
    }

    /// Calls that a worker has before it at once.
    #[must_use]
    pub fn concurrency(&self) -> usize {
        self.concurrency.map_or(CONCURRENCY, |limit| limit as usize)
    }

    /// Calls that wait while a limit is reached.
    #[must_use]
    pub fn queue(&self) -> usize {
        self.queue.map_or(QUEUE, |limit| limit as usize)
    }

    /// True when a payload of so many bytes may pass.
    #[must_use]
    pub fn admits(&self, bytes: usize) -> bool {
        self.payload_bytes
            .is_none_or(|limit| bytes <= limit as usize)
    }

    /// The longest pause before a worker that crashes is started again.
    #[must_use]
    pub fn longest_pause(&self) -> Duration {
        let stated = self.longest_pause_seconds.map(u64::from);
        stated.map_or(LONGEST_PAUSE, Duration::from_secs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_limit_cuts_what_a_host_asks_for_and_stands_in_where_it_asks_for_nothing() {
        let seconds = Duration::from_secs;
        let none = Limits::default();
        assert_eq!(none.timeout(false, Duration::ZERO), CALL_TIMEOUT);
        assert_eq!(none.timeout(false, seconds(600)), seconds(600));
        let limits = Limits {
            call_timeout_seconds: Some(5),
            job_timeout_seconds: Some(50),
            ..none
        };
        assert_eq!(limits.timeout(false, Duration::ZERO), seconds(5));
        assert_eq!(limits.timeout(false, seconds(600)), seconds(5));
        assert_eq!(limits.timeout(false, seconds(2)), seconds(2));
        assert_eq!(limits.timeout(true, seconds(600)), seconds(50));
    }
}
