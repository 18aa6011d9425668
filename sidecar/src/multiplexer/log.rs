//! Logs of the worker, as structured records of this program.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{config::Settings, envelope};

#[derive(Deserialize)]
struct Record<'a> {
    #[serde(default)]
    level: String,
    #[serde(default)]
    message: String,
    #[serde(borrow, default)]
    meta: Option<&'a RawValue>,
}

/// A `log` of the worker.
pub fn worker_log(params: &[u8], settings: &Settings) {
    let Ok(record) = serde_json::from_slice::<Record<'_>>(params) else {
        return;
    };
    let message = settings.redact(&record.message);
    let meta = record.meta.map(|meta| settings.redact(meta.get()));
    match record.level.as_str() {
        "error" => tracing::error!(target: "worker", meta, "{message}"),
        "warn" => tracing::warn!(target: "worker", meta, "{message}"),
        "debug" => tracing::debug!(target: "worker", meta, "{message}"),
        _ => tracing::info!(target: "worker", meta, "{message}"),
    }
}

/// A line of the worker's stderr.
pub fn worker_stderr(line: &str) {
    tracing::warn!(target: "worker", stream = "stderr", "{line}");
}

/// A line of the worker's stdout that is no message. Gives what is shown of it.
pub fn worker_noise(line: &[u8], settings: &Settings) -> String {
    const SHOWN: usize = 4096;
    // Redacted before it is cut, since half a secret would not be known for one.
    let shown = String::from_utf8_lossy(&line[..line.len().min(2 * SHOWN)]);
    let shown = settings.redact(&shown);
    let shown: String = shown.chars().take(SHOWN).collect();
    tracing::warn!(target: "worker", stream = "stdout", bytes = line.len(), "{shown}");
    shown
}

/// The params of a `log` without any secret value; as they came where there is none in them.
pub fn redacted(params: Bytes, settings: &Settings) -> Bytes {
    let Ok(text) = std::str::from_utf8(&params) else {
        return params;
    };
    let shown = settings.redact(text);
    if shown == text {
        return params;
    }
    // A value that is part of JSON's own signs would leave none.
    match envelope::is_json(shown.as_bytes()) {
        true => shown.into(),
        false => Bytes::from_static(br#"{"level":"warn","message":"[redacted]"}"#),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use paperclip_bridge::config::{ConfigRevision, DeliveredSecret};

    #[test]
    fn what_leaves_for_a_host_holds_no_secret_and_is_json() {
        let settings = Settings::default();
        let secret = |value: &str| DeliveredSecret {
            name: "s".into(),
            fill: None,
            value: value.into(),
        };
        settings.conceal(&ConfigRevision {
            secrets: vec![secret("pa\"ss-word"), secret("\":\"x")],
            ..ConfigRevision::default()
        });
        let of = |text: &'static str| redacted(Bytes::from_static(text.as_bytes()), &settings);
        assert_eq!(of(r#"{ "message":"quiet"}"#), r#"{ "message":"quiet"}"#);
        assert_eq!(
            of(r#"{"message":"it is pa\"ss-word"}"#),
            r#"{"message":"it is [redacted]"}"#
        );
        assert_eq!(
            of(r#"{"message":"xyz"}"#),
            r#"{"level":"warn","message":"[redacted]"}"#
        );
    }
}
