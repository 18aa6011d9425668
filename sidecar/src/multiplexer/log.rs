//! What the worker says for people, as structured records of this program.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::config::Settings;

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

/// A line of the worker's stdout that is no message.
pub fn worker_noise(line: &[u8], settings: &Settings) {
    const SHOWN: usize = 4096;
    // Redacted before it is cut, since half a secret would not be known for one.
    let shown = String::from_utf8_lossy(&line[..line.len().min(2 * SHOWN)]);
    let shown = settings.redact(&shown);
    let shown: String = shown.chars().take(SHOWN).collect();
    tracing::warn!(target: "worker", stream = "stdout", bytes = line.len(), "{shown}");
}
