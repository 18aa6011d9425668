//! Logs of the worker, on their way to a host that keeps them: lines of stderr and of
//! stdout that are no message. Redacted before they come here.
//!
//! A host may be slow, or not there yet: so many records wait, so many pass in a second, and what
//! is beyond that is counted. The pod's own log has all that stdout says, which is read at a pace,
//! and as much of stderr, which the worker must never wait for.

use std::{
    collections::VecDeque,
    num::NonZeroU32,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use serde_json::json;

use super::{
    Multiplexer,
    session::{Session, notification},
    throttle::NOISE_PER_SECOND,
};
use crate::envelope::Message;

/// Records that wait for a first host.
const WAITING: usize = 256;
/// Records that pass in a second, over time and at once.
const PER_SECOND: NonZeroU32 = NonZeroU32::new(100).unwrap();
const BURST: NonZeroU32 = NonZeroU32::new(1000).unwrap();
/// Lines of stderr that the pod's log takes in a second.
const LOGGED_PER_SECOND: NonZeroU32 = NonZeroU32::new(NOISE_PER_SECOND).unwrap();
/// Longest text of a record, in characters.
const LONGEST: usize = 8192;

/// Records that wait, and how many more may pass.
#[derive(Debug)]
pub(super) struct LogForwarding {
    waiting: Mutex<VecDeque<Message>>,
    rate: DefaultDirectRateLimiter,
    logged: DefaultDirectRateLimiter,
}

impl Default for LogForwarding {
    fn default() -> Self {
        Self {
            waiting: Mutex::default(),
            rate: RateLimiter::direct(Quota::per_second(PER_SECOND).allow_burst(BURST)),
            logged: RateLimiter::direct(Quota::per_second(LOGGED_PER_SECOND)),
        }
    }
}

impl LogForwarding {
    /// True when the pod's log takes one more line of stderr now.
    pub(super) fn is_logged(&self) -> bool {
        self.logged.check().is_ok()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Message>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Multiplexer {
    /// Has a host keep a line of the worker's stderr or stdout, or keeps it for the first that comes.
    pub(super) fn forward_log(&self, stream: &str, text: &str) {
        if self.logs.rate.check().is_err() {
            self.metrics.dropped_records.inc();
            return;
        }
        let text: String = text.chars().take(LONGEST).collect();
        let params = json!({"level": "warn", "message": text, "meta": {"stream": stream}});
        let record = Message {
            method: "log".into(),
            params: Bytes::from(params.to_string()),
            ..Message::default()
        };
        let host = self.lock().sessions.values().next().cloned();
        match host {
            Some(host) => {
                self.flush_logs(&host);
                self.post_log(&host, record);
            }
            None => {
                let mut waiting = self.logs.lock();
                waiting.push_back(record);
                if waiting.len() > WAITING {
                    waiting.pop_front();
                    self.metrics.dropped_records.inc();
                }
            }
        }
    }

    /// Gives a host what waited for one.
    pub(super) fn flush_logs(&self, host: &Session) {
        let waiting = std::mem::take(&mut *self.logs.lock());
        for record in waiting {
            self.post_log(host, record);
        }
    }

    /// Nothing waits for a record: where the host is behind, it is dropped.
    fn post_log(&self, host: &Session, record: Message) {
        match host.keeps_up() {
            true => host.post(notification(record)),
            false => drop(self.metrics.dropped_records.inc()),
        }
    }
}
