//! Metrics for Prometheus. Names follow controller-runtime, so that its dashboards work.

use std::{sync::Mutex, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::Registry,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Controller {
    controller: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reconcile {
    controller: &'static str,
    result: &'static str,
}

/// All metrics of the operator.
pub struct Metrics {
    registry: Mutex<Registry>,
    total: Family<Reconcile, Counter>,
    errors: Family<Controller, Counter>,
    seconds: Family<Controller, Histogram, fn() -> Histogram>,
    leader: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let total = Family::default();
        let errors = Family::default();
        let seconds = Family::<_, _, fn() -> Histogram>::new_with_constructor(|| {
            Histogram::new(exponential_buckets(0.001, 2.0, 14))
        });
        let leader = Gauge::default();
        registry.register(
            "paperclip_operator_build",
            "Release of the operator",
            Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]),
        );
        registry.register(
            "paperclip_operator_leader",
            "1 while this replica leads",
            leader.clone(),
        );
        registry.register(
            "controller_runtime_reconcile",
            "Reconciles by result",
            total.clone(),
        );
        registry.register(
            "controller_runtime_reconcile_errors",
            "Reconciles that failed",
            errors.clone(),
        );
        registry.register(
            "controller_runtime_reconcile_time_seconds",
            "Time of a reconcile",
            seconds.clone(),
        );
        Self {
            registry: Mutex::new(registry),
            total,
            errors,
            seconds,
            leader,
        }
    }
}

impl Metrics {
    /// Counts one reconcile.
    pub fn reconciled(&self, controller: &'static str, took: Duration, failed: bool) {
        let result = if failed { "error" } else { "success" };
        self.total
            .get_or_create(&Reconcile { controller, result })
            .inc();
        if failed {
            self.errors.get_or_create(&Controller { controller }).inc();
        }
        self.seconds
            .get_or_create(&Controller { controller })
            .observe(took.as_secs_f64());
    }

    /// Notes whether this replica leads.
    pub fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// The metrics as OpenMetrics text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        if let Ok(registry) = self.registry.lock() {
            // Writing to a String cannot fail.
            let _ = encode(&mut text, &registry);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reconciles_are_counted_under_the_names_dashboards_know() {
        let metrics = Metrics::default();
        metrics.reconciled("paperclipplugin", Duration::from_millis(3), true);
        let text = metrics.text();
        for line in [
            r#"controller_runtime_reconcile_total{controller="paperclipplugin",result="error"} 1"#,
            r#"controller_runtime_reconcile_errors_total{controller="paperclipplugin"} 1"#,
            r#"controller_runtime_reconcile_time_seconds_count{controller="paperclipplugin"} 1"#,
        ] {
            assert!(text.contains(line), "{text}");
        }
    }
}
