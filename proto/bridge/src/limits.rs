//! Limits of a plugin's calls as hosts hear of them.

use paperclip_protocol::limits::Limits;

use crate::v1;

impl From<Limits> for v1::Limits {
    fn from(limits: Limits) -> Self {
        let stated = Option::unwrap_or_default;
        Self {
            call_timeout_seconds: stated(limits.call_timeout_seconds),
            job_timeout_seconds: stated(limits.job_timeout_seconds),
            concurrency: stated(limits.concurrency),
            calls_per_second: stated(limits.calls_per_second),
            burst: stated(limits.burst),
            payload_bytes: stated(limits.payload_bytes),
        }
    }
}

impl From<v1::Limits> for Limits {
    fn from(limits: v1::Limits) -> Self {
        let stated = |limit: u32| (limit > 0).then_some(limit);
        Self {
            call_timeout_seconds: stated(limits.call_timeout_seconds),
            job_timeout_seconds: stated(limits.job_timeout_seconds),
            concurrency: stated(limits.concurrency),
            queue: None,
            calls_per_second: stated(limits.calls_per_second),
            burst: stated(limits.burst),
            payload_bytes: stated(limits.payload_bytes),
            longest_pause_seconds: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hosts_hear_is_what_was_handed_over() {
        let limits = Limits {
            concurrency: Some(3),
            calls_per_second: Some(10),
            ..Limits::default()
        };
        assert_eq!(Limits::from(v1::Limits::from(limits)), limits);
    }
}
