//! What the host counts, in the OpenMetrics format.

use std::{fmt, sync::Arc, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

/// Upper bounds of the buckets, in seconds: from a local answer to the longest hold and call.
const BUCKETS: [f64; 12] = [
    0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0,
];

/// The metrics of the host.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Registry>,
    calls: Family<CallLabels, Counter>,
    call_seconds: Family<MethodLabels, Histogram, fn() -> Histogram>,
    worker_calls: Family<CallLabels, Counter>,
    /// Waits for a pod that serves.
    pub holds: Holds,
    /// Log entries of workers that were too many to keep.
    pub logs_dropped: Counter,
    /// Readers of streams that were too slow.
    pub stream_readers_dropped: Counter,
    /// Sessions with pods.
    pub sessions: Gauge,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CallLabels {
    method: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct MethodLabels {
    method: &'static str,
}

/// Upper bounds of the buckets of holds, in seconds; a hold lasts ten at most.
const HOLD_BUCKETS: [f64; 10] = [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 7.5, 10.0];

/// Waits of calls for a pod that serves.
#[derive(Clone, Debug)]
pub struct Holds {
    calls: Family<HoldLabels, Counter>,
    seconds: Histogram,
}

/// How the wait of a call ended.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub enum HoldOutcome {
    /// A pod got it.
    Sent,
    /// No pod served in time.
    NotServing,
    /// Too many waited before it.
    QueueFull,
    /// The caller went away.
    GivenUp,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct HoldLabels {
    outcome: &'static str,
}

impl Default for Holds {
    fn default() -> Self {
        Self {
            calls: Family::default(),
            seconds: Histogram::new(HOLD_BUCKETS),
        }
    }
}

impl Holds {
    /// Counts a wait that ended.
    pub fn ended(&self, outcome: HoldOutcome, time: Duration) {
        let outcome = match outcome {
            HoldOutcome::Sent => "sent",
            HoldOutcome::NotServing => "not_serving",
            HoldOutcome::QueueFull => "queue_full",
            HoldOutcome::GivenUp => "given_up",
        };
        self.calls.get_or_create(&HoldLabels { outcome }).inc();
        self.seconds.observe(time.as_secs_f64());
    }

    fn register(&self, registry: &mut Registry) {
        registry.register(
            "held_calls",
            "Calls that waited for a pod that serves",
            self.calls.clone(),
        );
        registry.register(
            "hold_duration_seconds",
            "Time that held calls waited for a pod that serves",
            self.seconds.clone(),
        );
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("paperclip_host");
        let calls = Family::<CallLabels, Counter>::default();
        let call_seconds =
            Family::<MethodLabels, Histogram, fn() -> Histogram>::new_with_constructor(|| {
                Histogram::new(BUCKETS)
            });
        let worker_calls = Family::<CallLabels, Counter>::default();
        let sessions = Gauge::default();
        registry.register("calls", "Calls to workers", calls.clone());
        registry.register(
            "call_duration_seconds",
            "Time of calls to workers, waiting included",
            call_seconds.clone(),
        );
        registry.register(
            "worker_calls",
            "Calls of workers to the host",
            worker_calls.clone(),
        );
        let logs_dropped = Counter::default();
        registry.register(
            "logs_dropped",
            "Log entries of workers that were too many to keep",
            logs_dropped.clone(),
        );
        let stream_readers_dropped = Counter::default();
        registry.register(
            "stream_readers_dropped",
            "Readers of streams that were too slow",
            stream_readers_dropped.clone(),
        );
        let holds = Holds::default();
        holds.register(&mut registry);
        registry.register("sessions", "Sessions with plugin pods", sessions.clone());
        Self {
            registry: Arc::new(registry),
            calls,
            call_seconds,
            worker_calls,
            holds,
            logs_dropped,
            stream_readers_dropped,
            sessions,
        }
    }
}

impl Metrics {
    /// Counts a call to a worker. `method` is one of the host's own names.
    pub fn called(&self, method: &'static str, code: Option<i32>, time: Duration) {
        let labels = CallLabels {
            method: method.to_owned(),
            outcome: outcome(code),
        };
        self.calls.get_or_create(&labels).inc();
        self.call_seconds
            .get_or_create(&MethodLabels { method })
            .observe(time.as_secs_f64());
    }

    /// Counts a call of a worker. Names that the protocol does not have share one label.
    pub fn answered(&self, method: &str, code: Option<i32>) {
        let known = code != Some(crate::rpc::METHOD_NOT_FOUND);
        let labels = CallLabels {
            method: if known { method } else { "unknown" }.to_owned(),
            outcome: outcome(code),
        };
        self.worker_calls.get_or_create(&labels).inc();
    }

    /// All metrics as text.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

fn outcome(code: Option<i32>) -> &'static str {
    match code {
        None => "ok",
        Some(crate::rpc::WORKER_UNAVAILABLE) => "unavailable",
        Some(crate::rpc::CAPABILITY_DENIED) => "capability_denied",
        Some(crate::rpc::SCOPE_DENIED) => "scope_denied",
        Some(crate::rpc::TIMEOUT) => "timeout",
        Some(_) => "error",
    }
}
