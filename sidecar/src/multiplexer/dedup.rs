//! Deduplication: events by id and jobs by slot reach the worker once, however many hosts send them.
//!
//! Both are kept past the end of a worker: its predecessor may have acted on what was delivered.
//! The keys are bounded in number; the oldest goes first.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fmt,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use paperclip_bridge::v1::RpcError;
use paperclip_shim::delivered;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::{
    Call, MAX_TIMEOUT, Multiplexer,
    approach::Approach,
    errors::{timed_out, unavailable, worker_exited},
};
use crate::watch;

/// Events whose keys are kept.
const EVENTS: usize = 8192;
/// Slots whose runs ended.
const SLOTS: usize = 1024;
/// Larger results of jobs are kept as null: hosts look at errors alone.
const LARGE: usize = 64 * 1024;

/// A hash of what something is called; whoever makes the name may make it long.
type Key = [u8; 32];
type Outcome = Result<Bytes, RpcError>;

fn key(parts: &[&str]) -> Key {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

#[derive(Deserialize)]
struct EventParams {
    event: Event,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    event_id: String,
}

/// Names the event of `onEvent`. None for one without an id.
pub(super) fn event(params: &[u8]) -> Option<EventKey> {
    let EventParams { event } = serde_json::from_slice(params).ok()?;
    Some(EventKey::of(&event.event_id))
}

#[derive(Deserialize)]
struct JobParams {
    job: Job,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Job {
    job_key: String,
    scheduled_at: String,
}

/// Names the slot of `runJob`. None for one without.
fn slot(params: &[u8]) -> Option<Key> {
    let JobParams { job } = serde_json::from_slice(params).ok()?;
    Some(key(&[&job.job_key, &job.scheduled_at]))
}

/// Names an event: the beginning of the hash of its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct EventKey(ShortKey);

impl EventKey {
    fn of(id: &str) -> Self {
        Self(short(&key(&[id])))
    }
}

/// The part of a key that is kept for the next sidecar.
type ShortKey = [u8; delivered::KEY];

fn short(key: &Key) -> ShortKey {
    let mut short = [0; delivered::KEY];
    short.copy_from_slice(&key[..delivered::KEY]);
    short
}

type Keep = Box<dyn Fn(&[u8]) -> bool + Send + Sync>;

/// Where the keys of events and slots are kept for a sidecar to come. Without a place they are not.
#[derive(Default)]
pub(super) struct Journal(OnceLock<Keep>);

impl fmt::Debug for Journal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Journal")
    }
}

impl Journal {
    /// Keeps a key. False when its place does not take it.
    pub(super) fn keep_event(&self, event: EventKey) -> bool {
        self.keep(event.0)
    }

    fn keep(&self, key: ShortKey) -> bool {
        self.0.get().is_none_or(|keep| keep(&key))
    }
}

/// The events that were delivered to the worker.
#[derive(Debug, Default)]
pub(super) struct Events {
    seen: HashSet<EventKey>,
    order: VecDeque<EventKey>,
}

impl Events {
    /// Notes an event. False when it was noted before.
    pub(super) fn note(&mut self, event: EventKey) -> bool {
        if !self.seen.insert(event) {
            return false;
        }
        self.order.push_back(event);
        if self.order.len() > EVENTS
            && let Some(oldest) = self.order.pop_front()
        {
            self.seen.remove(&oldest);
        }
        true
    }

    /// Takes over the keys of an earlier sidecar. Gives the last of its own that were not
    /// among it.
    fn restore(&mut self, keys: &[u8]) -> Vec<u8> {
        let theirs: HashSet<EventKey> = events_of(keys).collect();
        let surplus = self.order.len().saturating_sub(delivered::CAPACITY);
        let missing = self.order.iter().skip(surplus);
        let missing = missing.filter(|event| !theirs.contains(event));
        let missing: Vec<u8> = missing.flat_map(|event| event.0).collect();
        for event in events_of(keys) {
            self.note(event);
        }
        missing
    }

    /// Forgets an event that did not reach the worker.
    pub(super) fn forget(&mut self, event: EventKey) {
        if self.seen.remove(&event) {
            self.order.retain(|noted| *noted != event);
        }
    }
}

/// The runs of slots: None until one ended.
#[derive(Debug, Default)]
pub(super) struct Slots {
    runs: HashMap<Key, watch::Receiver<Option<Outcome>>>,
    ended: VecDeque<Key>,
    /// Slots whose runs an earlier sidecar began, among other keys.
    earlier: HashSet<ShortKey>,
}

enum Place {
    First(watch::Sender<Option<Outcome>>),
    Joined,
}

impl Slots {
    fn join(&mut self, slot: Key) -> (Place, watch::Receiver<Option<Outcome>>) {
        if let Some(run) = self.runs.get(&slot) {
            return (Place::Joined, run.clone());
        }
        if self.earlier.contains(&short(&slot)) {
            let lost = worker_exited("an earlier sidecar began this run; it may be done");
            return (Place::Joined, watch::Receiver::constant(Some(Err(lost))));
        }
        let sender = watch::Sender::new(None);
        let receiver = sender.subscribe();
        self.runs.insert(slot, receiver.clone());
        (Place::First(sender), receiver)
    }

    /// Takes over slots whose runs an earlier sidecar began. How they ended is not known.
    fn restore(&mut self, keys: &[u8]) {
        self.earlier = keys.as_chunks().0.iter().copied().collect();
    }

    /// Keeps the slot of a run that ended, unless the worker never saw it.
    fn end(&mut self, slot: Key, outcome: &Outcome) {
        if outcome.as_ref().is_err_and(|error| error.was_unseen()) {
            self.runs.remove(&slot);
            return;
        }
        if outcome.as_ref().is_ok_and(|result| result.len() > LARGE) {
            let null = Some(Ok(Bytes::from_static(b"null")));
            self.runs.insert(slot, watch::Receiver::constant(null));
        }
        self.ended.push_back(slot);
        if self.ended.len() > SLOTS
            && let Some(oldest) = self.ended.pop_front()
        {
            self.runs.remove(&oldest);
        }
    }
}

fn events_of(keys: &[u8]) -> impl Iterator<Item = EventKey> {
    keys.as_chunks().0.iter().copied().map(EventKey)
}

impl Multiplexer {
    /// Has the keys of events and slots kept by `keep`, before the worker hears of each; a place
    /// that does not take one says false. Only the first place counts.
    pub fn keep_delivered(&self, keep: impl Fn(&[u8]) -> bool + Send + Sync + 'static) {
        let _ = self.journal.0.set(Box::new(keep));
    }

    /// Takes over the keys that were kept. Gives those of events that are known here and were not.
    pub fn restore_delivered(&self, keys: &[u8]) -> Vec<u8> {
        let mut inner = self.lock();
        inner.slots.restore(keys);
        inner.events.restore(keys)
    }

    /// Runs a job in its slot, or joins the run that the slot has. The run goes on when the host
    /// that began it leaves: another may ask for the same slot.
    pub(super) async fn run_job(self: &Arc<Self>, call: Call, approach: Approach) -> Outcome {
        let Some(slot) = slot(&call.params) else {
            return self.checked_call(call, approach).await;
        };
        let timeout = self.gate.limits().timeout(true, call.timeout);
        let deadline = Instant::now() + timeout.min(MAX_TIMEOUT);
        let (place, mut run) = self.lock().slots.join(slot);
        match place {
            Place::First(sender) => {
                let begun = self
                    .clone()
                    .run_slot(slot, call, approach, deadline, sender);
                tokio::spawn(begun);
            }
            Place::Joined => {
                drop(approach);
                self.metrics.joined_runs.inc();
            }
        }
        let ended = run.wait_for(Option::is_some);
        match tokio::time::timeout_at(deadline, ended).await {
            Ok(Ok(outcome)) => outcome
                .clone()
                .unwrap_or_else(|| Err(worker_exited("the run ended without an outcome"))),
            Ok(Err(_)) => Err(worker_exited("the sidecar ended")),
            Err(_) => Err(timed_out("runJob", timeout)),
        }
    }

    async fn run_slot(
        self: Arc<Self>,
        slot: Key,
        call: Call,
        approach: Approach,
        deadline: Instant,
        sender: watch::Sender<Option<Outcome>>,
    ) {
        let outcome = match self.wait_for_worker(deadline).await {
            // ShortKey first: a sidecar that ends between the two has run too little, never twice.
            Ok(()) if self.journal.keep(short(&slot)) => self.checked_call(call, approach).await,
            Ok(()) => Err(unavailable()),
            Err(refusal) => Err(refusal),
        };
        self.lock().slots.end(slot, &outcome);
        sender.send_replace(Some(outcome));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_noted_once_and_forgotten_when_it_is_old() {
        let mut events = Events::default();
        let name = |number: usize| EventKey::of(&number.to_string());
        assert!(events.note(name(0)));
        assert!(!events.note(name(0)));
        for number in 1..=EVENTS {
            assert!(events.note(name(number)));
        }
        assert!(events.note(name(0)), "the oldest was forgotten");
        assert_eq!(events.seen.len(), EVENTS);
    }

    #[test]
    fn an_event_that_did_not_reach_the_worker_may_come_again() {
        let mut events = Events::default();
        let event = event(br#"{"event":{"eventId":"e","more":1}}"#).unwrap();
        assert!(events.note(event));
        events.forget(event);
        assert!(events.note(event));
        assert_eq!(events.order.len(), 1);
    }

    #[test]
    fn a_successor_knows_the_events_that_were_kept_and_says_which_were_not() {
        let (old, new) = (EventKey::of("old"), EventKey::of("new"));
        let mut events = Events::default();
        assert_eq!(events.restore(&old.0), [0_u8; 0]);
        assert!(!events.note(old));
        assert!(events.note(new));
        // The shim began anew and keeps nothing yet.
        assert_eq!(events.restore(&[]), [old.0, new.0].concat());
        assert_eq!(events.restore(&old.0), new.0);
        assert_eq!(events.order.len(), 2);
    }

    #[test]
    fn slots_are_told_apart_by_both_names() {
        let of = |key: &str, at: &str| {
            slot(format!(r#"{{"job":{{"jobKey":"{key}","scheduledAt":"{at}"}}}}"#).as_bytes())
        };
        assert_eq!(of("a", "1"), of("a", "1"));
        assert_ne!(of("a", "1"), of("a", "2"));
        assert_ne!(of("ab", "1"), of("a", "b1"));
        assert_eq!(slot(b"{}"), None);
    }

    #[test]
    fn a_slot_that_the_worker_never_saw_is_free_again() {
        let mut slots = Slots::default();
        let slot = key(&["a"]);
        assert!(matches!(slots.join(slot).0, Place::First(_)));
        assert!(matches!(slots.join(slot).0, Place::Joined));
        slots.end(slot, &Err(RpcError::not_sent("draining")));
        assert!(matches!(slots.join(slot).0, Place::First(_)));
        slots.end(slot, &Err(worker_exited("it crashed")));
        assert!(matches!(slots.join(slot).0, Place::Joined));
    }

    #[test]
    fn a_successor_does_not_run_a_slot_again() {
        let (begun, unsent) = (key(&["a"]), key(&["b"]));
        let mut successor = Slots::default();
        successor.restore(&short(&begun));
        let (place, run) = successor.join(begun);
        assert!(matches!(place, Place::Joined));
        assert!(run.borrow().as_ref().is_some_and(Result::is_err));
        assert!(matches!(successor.join(unsent).0, Place::First(_)));
    }
}
