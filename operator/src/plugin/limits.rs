//! `spec.limits` as sidecars are handed them. Pure.

use paperclip_crds::v1alpha1::PaperclipPlugin;
use paperclip_oci::Digest;
use paperclip_protocol::limits::Limits;

/// The limits of a plugin. They are no part of a revision: they hold for whatever runs.
#[must_use]
pub fn delivered(plugin: &PaperclipPlugin) -> Limits {
    let limits = plugin.spec.limits.clone().unwrap_or_default();
    // The schema keeps each above zero and within 32 bits.
    let number = |stated: Option<i64>| stated.and_then(|number| u32::try_from(number).ok());
    let small = |stated: Option<i32>| number(stated.map(i64::from));
    Limits {
        call_timeout_seconds: small(limits.call_timeout_seconds),
        job_timeout_seconds: small(limits.job_timeout_seconds),
        concurrency: small(limits.concurrency),
        queue: small(limits.queue),
        calls_per_second: small(limits.rate.map(|rate| rate.calls_per_second)),
        burst: small(limits.rate.and_then(|rate| rate.burst)),
        payload_bytes: number(limits.payload_bytes),
        longest_pause_seconds: small(
            limits
                .restarts
                .map(|restarts| restarts.longest_pause_seconds),
        ),
    }
}

/// Fingerprint of a plugin's own limits; none for the platform's.
#[must_use]
pub fn fingerprint(plugin: &PaperclipPlugin) -> Option<String> {
    let limits = delivered(plugin);
    if limits == Limits::default() {
        return None;
    }
    let text = serde_json::to_string(&limits).unwrap_or_default();
    Some(Digest::of(text.as_bytes()).short(8).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::fixtures;
    use paperclip_crds::v1alpha1::{PluginLimits, RateLimit, RestartLimit};

    #[test]
    fn every_limit_reaches_the_sidecar() {
        let mut plugin = fixtures::plugin();
        assert_eq!(delivered(&plugin), Limits::default());
        assert_eq!(fingerprint(&plugin), None);
        plugin.spec.limits = Some(PluginLimits {
            call_timeout_seconds: Some(1),
            job_timeout_seconds: Some(2),
            concurrency: Some(3),
            queue: Some(0),
            rate: Some(RateLimit {
                calls_per_second: 5,
                burst: Some(6),
            }),
            payload_bytes: Some(134_217_728),
            restarts: Some(RestartLimit {
                longest_pause_seconds: 8,
            }),
        });
        let expected = Limits {
            call_timeout_seconds: Some(1),
            job_timeout_seconds: Some(2),
            concurrency: Some(3),
            queue: Some(0),
            calls_per_second: Some(5),
            burst: Some(6),
            payload_bytes: Some(134_217_728),
            longest_pause_seconds: Some(8),
        };
        assert_eq!(delivered(&plugin), expected);
        assert!(fingerprint(&plugin).is_some());
    }
}
