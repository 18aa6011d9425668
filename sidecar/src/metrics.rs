//! The metrics of /metrics.

use std::sync::Mutex;

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::{grants::Scraped, limits::Limit};

/// Which way a call goes.
#[derive(Clone, Copy, Debug, EncodeLabelValue, Hash, PartialEq, Eq)]
pub enum Direction {
    /// A host asks the worker.
    HostToWorker,
    /// The worker asks a host.
    WorkerToHost,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, EncodeLabelValue, Hash, PartialEq, Eq)]
pub enum Outcome {
    /// With a result.
    Ok,
    /// With an error of the other side.
    Error,
    /// With no answer in time.
    Timeout,
    /// Refused by the grant or the company rule.
    Denied,
    /// Nobody was there to answer.
    Unavailable,
    /// Refused by a limit.
    Refused,
}

/// Labels of a call.
#[derive(Clone, Debug, EncodeLabelSet, Hash, PartialEq, Eq)]
pub struct CallLabels {
    direction: Direction,
    outcome: Outcome,
}

/// Labels of a refusal.
#[derive(Clone, Debug, EncodeLabelSet, Hash, PartialEq, Eq)]
pub struct RefusalLabels {
    limit: Limit,
}

/// Labels of what a worker says of itself.
#[derive(Clone, Debug, EncodeLabelSet, Hash, PartialEq, Eq)]
pub struct HealthLabels {
    status: &'static str,
}

/// All counters and gauges.
#[derive(Debug)]
pub struct Metrics {
    registry: Mutex<Registry>,
    calls: Family<CallLabels, Counter>,
    refused: Family<RefusalLabels, Counter>,
    health: Family<HealthLabels, Gauge>,
    /// Calls that their host gave up.
    pub cancelled: Counter,
    /// Answers that nobody waited for any more.
    pub late_answers: Counter,
    /// Notifications of hosts that no worker had room for.
    pub lost_notifications: Counter,
    /// Lines on stdout that were no messages.
    pub noise: Counter,
    /// Lines on stdout beyond the limit.
    pub oversized: Counter,
    /// Events that a second host told.
    pub repeated_events: Counter,
    /// Jobs that joined the run of their slot.
    pub joined_runs: Counter,
    /// Lines of the worker that no host keeps, since there were too many.
    pub dropped_records: Counter,
    /// Lines after which the worker was not read for a while, since it says too much.
    pub held_back: Counter,
    /// Peers at the shim's socket that were not the shim.
    pub refused_peers: Counter,
    /// Restarts of the worker.
    pub restarts: Counter,
    /// Sessions that are open.
    pub sessions: Gauge,
}

impl Metrics {
    /// Nothing counted yet. `grants` are counted elsewhere and shown here.
    pub fn new(grants: Scraped) -> Self {
        let mut registry = Registry::with_prefix("paperclip_sidecar");
        let calls = Family::default();
        registry.register("calls", "Calls by direction and outcome", calls.clone());
        let refused = Family::default();
        registry.register(
            "refused_calls",
            "Calls that a limit refused, by limit",
            refused.clone(),
        );
        let health = Family::default();
        registry.register(
            "worker_health",
            "1 for what the worker said last of its own health",
            health.clone(),
        );
        let sessions = Gauge::default();
        registry.register("sessions", "Open sessions", sessions.clone());
        registry.register_collector(Box::new(grants));
        let mut counter = |name, help| counter(&mut registry, name, help);
        Self {
            cancelled: counter("cancelled_calls", "Calls that their host gave up"),
            late_answers: counter("late_answers", "Answers that nobody waited for any more"),
            lost_notifications: counter(
                "lost_notifications",
                "Notifications of hosts that were dropped, since too many waited for the worker",
            ),
            noise: counter(
                "stdout_noise",
                "Lines on the worker's stdout that were no messages",
            ),
            oversized: counter(
                "stdout_oversized",
                "Lines on the worker's stdout beyond the limit, dropped",
            ),
            dropped_records: counter(
                "dropped_records",
                "Lines of the worker that no host keeps, since there were too many",
            ),
            held_back: counter(
                "held_back_lines",
                "Lines after which the worker was not read for a while, since it asks, tells or prints too much",
            ),
            restarts: counter("worker_restarts", "Restarts of the worker"),
            repeated_events: counter("repeated_events", "Events that a second host told, dropped"),
            joined_runs: counter("joined_runs", "Jobs that joined the run of their slot"),
            refused_peers: counter(
                "refused_peers",
                "Peers at the shim's socket that were not the shim",
            ),
            registry: Mutex::new(registry),
            calls,
            refused,
            health,
            sessions,
        }
    }

    /// Shows what the worker says of its own health.
    pub fn health(&self, status: &str) {
        for known in ["ok", "degraded", "error"] {
            let labels = HealthLabels { status: known };
            let gauge = self.health.get_or_create(&labels);
            gauge.set(i64::from(known == status));
        }
    }

    /// Counts a call.
    pub fn call(&self, direction: Direction, outcome: Outcome) {
        let labels = CallLabels { direction, outcome };
        self.calls.get_or_create(&labels).inc();
    }

    /// Counts a refusal of a limit.
    pub fn refused(&self, limit: Limit) {
        self.refused.get_or_create(&RefusalLabels { limit }).inc();
    }

    /// The text for a scraper.
    pub fn render(&self) -> String {
        let mut rendered = String::new();
        if let Ok(registry) = self.registry.lock() {
            // Writing into a String cannot fail.
            let _ = text::encode(&mut rendered, &registry);
        }
        rendered
    }
}

/// A counter of the registry.
fn counter(registry: &mut Registry, name: &str, help: &str) -> Counter {
    let counter = Counter::default();
    registry.register(name, help, counter.clone());
    counter
}
