//! The grant: which capabilities the worker has, and how often it used or lacked each.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use paperclip_bridge::v1::{CapabilityUse, RpcError};
use paperclip_protocol::{jsonrpc, methods};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};
use tokio::{sync::Notify, time::MissedTickBehavior};

use crate::{company_scope, state::StateBoard};

/// How soon a first use or denial is shown.
const SOON: Duration = Duration::from_secs(1);
/// How often counts that only grew are shown. Each time is a message to the operator.
const SHOWN_EVERY: Duration = Duration::from_secs(60);

/// Capabilities of the worker, counted.
///
/// The names are those of the protocol and of the plugin manifest, so their number is bounded
/// whatever a worker does.
#[derive(Debug, Default)]
pub struct Grants {
    usage: BTreeMap<String, Usage>,
    /// Told when something is used or denied for the first time.
    first: Notify,
}

#[derive(Debug, Default)]
struct Usage {
    is_asked: bool,
    is_granted: bool,
    used: AtomicU64,
    denied: AtomicU64,
    /// Seconds since 1970; 0 for never.
    last_used: AtomicU64,
}

impl Usage {
    fn is_worth_showing(&self) -> bool {
        self.is_asked || self.denied.load(Ordering::Relaxed) > 0
    }
}

impl Grants {
    /// The grant of a plugin whose manifest asks for `asked`. What is granted without being
    /// asked for counts as neither.
    #[must_use]
    pub fn new(asked: &BTreeSet<String>, granted: &BTreeSet<String>) -> Self {
        let known = methods::capabilities().into_iter().map(str::to_owned);
        let usage = known.chain(asked.iter().cloned()).map(|name| {
            let is_asked = asked.contains(&name);
            let usage = Usage {
                is_asked,
                is_granted: is_asked && granted.contains(&name),
                ..Usage::default()
            };
            (name, usage)
        });
        Self {
            usage: usage.collect(),
            first: Notify::new(),
        }
    }

    /// The grant of a plugin that asks for these and has them.
    #[must_use]
    pub fn of<'a>(capabilities: impl IntoIterator<Item = &'a str>) -> Self {
        let asked = capabilities.into_iter().map(str::to_owned).collect();
        Self::new(&asked, &asked)
    }

    /// Checks a call of the worker against the grant and, where its invocation is known,
    /// against that invocation's company. Counts it.
    pub fn check(
        &self,
        method: &str,
        params: &[u8],
        company: Option<&str>,
    ) -> Result<(), RpcError> {
        let needed: Vec<_> = methods::needed(method, params)
            .map_err(|error| RpcError::new(jsonrpc::INVALID_PARAMS, error.to_string()))?
            .collect();
        for capability in &needed {
            self.require(method, capability)?;
        }
        company_scope::check(method, params, company)?;
        for capability in needed {
            self.note_use(capability);
        }
        Ok(())
    }

    /// The counts so far, in the order of names.
    #[must_use]
    pub fn shown(&self) -> Vec<CapabilityUse> {
        let shown = self
            .usage
            .iter()
            .filter(|(_, usage)| usage.is_worth_showing());
        let shown = shown.map(|(name, usage)| CapabilityUse {
            capability: name.clone(),
            asked: usage.is_asked,
            granted: usage.is_granted,
            used: usage.used.load(Ordering::Relaxed),
            denied: usage.denied.load(Ordering::Relaxed),
            last_used: match usage.last_used.load(Ordering::Relaxed) {
                0 => None,
                at => Some((UNIX_EPOCH + Duration::from_secs(at)).into()),
            },
        });
        shown.collect()
    }

    fn require(&self, method: &str, capability: &str) -> Result<(), RpcError> {
        let usage = self.usage.get(capability);
        if usage.is_some_and(|usage| usage.is_granted) {
            return Ok(());
        }
        if let Some(usage) = usage {
            self.count(&usage.denied);
        }
        let why = match usage.is_some_and(|usage| usage.is_asked) {
            true => "which was not granted",
            false => "which the plugin manifest does not declare",
        };
        Err(RpcError::new(
            jsonrpc::CAPABILITY_DENIED,
            format!("{method} needs capability {capability}, {why}"),
        ))
    }

    fn note_use(&self, capability: &str) {
        let Some(usage) = self.usage.get(capability) else {
            return;
        };
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        usage.last_used.fetch_max(now.as_secs(), Ordering::Relaxed);
        self.count(&usage.used);
    }

    fn count(&self, counter: &AtomicU64) {
        if counter.fetch_add(1, Ordering::Relaxed) == 0 {
            self.first.notify_one();
        }
    }
}

/// Shows the counts in the state of the pod, for as long as this runs.
pub async fn show(grants: Arc<Grants>, board: &StateBoard) {
    let mut ticks = tokio::time::interval(SHOWN_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = grants.first.notified() => tokio::time::sleep(SOON).await,
        }
        board.update(|state| state.capabilities = grants.shown());
    }
}

/// The counts for a scraper.
#[derive(Debug)]
pub struct Scraped(pub Arc<Grants>);

impl Collector for Scraped {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let shown = self.0.shown();
        let mut calls = encoder.encode_descriptor(
            "capability_calls",
            "Calls of the worker by the capability they need",
            None,
            MetricType::Counter,
        )?;
        for usage in &shown {
            for (outcome, count) in [("Used", usage.used), ("Denied", usage.denied)] {
                let labels = [
                    ("capability", usage.capability.as_str()),
                    ("outcome", outcome),
                ];
                ConstCounter::new(count).encode(calls.encode_family(&labels)?)?;
            }
        }
        let mut granted = encoder.encode_descriptor(
            "capability_granted",
            "Whether a capability is granted, of those that the plugin manifest asks for",
            None,
            MetricType::Gauge,
        )?;
        for usage in shown.iter().filter(|usage| usage.asked) {
            let labels = [("capability", usage.capability.as_str())];
            let metric = granted.encode_family(&labels)?;
            ConstGauge::new(i64::from(usage.granted)).encode(metric)?;
        }
        let mut last = encoder.encode_descriptor(
            "capability_last_used_timestamp_seconds",
            "When a capability was used last",
            None,
            MetricType::Gauge,
        )?;
        for usage in &shown {
            if let Some(at) = &usage.last_used {
                let labels = [("capability", usage.capability.as_str())];
                ConstGauge::new(at.seconds).encode(last.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn counts(grants: &Grants, capability: &str) -> Option<(u64, u64)> {
        let shown = grants.shown();
        let found = shown.iter().find(|usage| usage.capability == capability)?;
        assert_eq!(found.last_used.is_some(), found.used > 0);
        Some((found.used, found.denied))
    }

    #[test]
    fn what_is_asked_granted_used_and_denied_is_told_apart() {
        let asked = names(&["plugin.state.read", "http.outbound", "ui.page.register"]);
        let granted = names(&["plugin.state.read", "issues.read"]);
        let grants = Grants::new(&asked, &granted);
        let code = |method| {
            grants
                .check(method, b"{}", None)
                .map_err(|error| error.code)
        };
        assert_eq!(code("state.get"), Ok(()));
        assert_eq!(code("http.fetch"), Err(-32001));
        assert_eq!(code("issues.list"), Err(-32001));
        assert_eq!(counts(&grants, "plugin.state.read"), Some((1, 0)));
        assert_eq!(counts(&grants, "http.outbound"), Some((0, 1)));
        assert_eq!(counts(&grants, "issues.read"), Some((0, 1)));
        assert_eq!(counts(&grants, "ui.page.register"), Some((0, 0)));
        assert_eq!(counts(&grants, "goals.read"), None);
    }

    #[test]
    fn a_call_for_another_company_uses_nothing() {
        let grants = Grants::of(["companies.read"]);
        let other = br#"{"companyId":"b"}"#;
        let refused = grants.check("companies.get", other, Some("a"));
        assert_eq!(refused.unwrap_err().code, -32005);
        assert_eq!(counts(&grants, "companies.read"), Some((0, 0)));
    }

    #[test]
    fn a_worker_cannot_make_names() {
        let grants = Grants::default();
        let known = grants.shown().len();
        for number in 0..1000 {
            grants
                .check(&format!("vendor.{number}"), b"{}", None)
                .unwrap();
        }
        assert_eq!(grants.shown().len(), known);
    }
}
