//! Log entries that workers tell and nobody waits for, on their way to the database.
//!
//! A worker may tell more than a database can write: so many wait, and the rest is counted.

use std::{collections::HashMap, sync::Arc, time::Duration};

use paperclip_error_chain::chain;
use tokio::sync::{Mutex, mpsc};
use tracing::error;

use crate::{
    database::{Database, DatabaseError, NewLog},
    metrics::Metrics,
};

/// Entries that wait.
const WAITING: usize = 4096;
/// Entries written together.
const TOGETHER: usize = 256;
/// Entries of a plugin after which the oldest beyond [`KEPT_BYTES`] are dropped.
const TRIM_EVERY: usize = 512;
/// Bytes of entries that are kept for one plugin.
const KEPT_BYTES: i64 = 16 * 1024 * 1024;
/// Wait after the database failed.
const RETRY: Duration = Duration::from_secs(1);

/// A log entry.
#[derive(Clone, Debug)]
pub struct LogEntry {
    /// UID of the plugin.
    pub plugin: String,
    /// Name of the pod.
    pub pod: String,
    /// The company it is about.
    pub company: Option<String>,
    /// Level.
    pub level: &'static str,
    /// Message.
    pub message: String,
    /// JSON beside it.
    pub meta: Option<String>,
}

/// Entries that wait to be written.
#[derive(Clone, Debug)]
pub struct LogQueue {
    sender: mpsc::Sender<LogEntry>,
    receiver: Arc<Mutex<mpsc::Receiver<LogEntry>>>,
}

impl Default for LogQueue {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(WAITING);
        Self {
            sender,
            receiver: Arc::new(Mutex::new(receiver)),
        }
    }
}

impl LogQueue {
    /// Has an entry written soon. One too many is dropped and counted.
    pub fn keep(&self, record: LogEntry, metrics: &Metrics) {
        if self.sender.try_send(record).is_err() {
            metrics.logs_dropped.inc();
        }
    }

    /// Writes what is kept, for ever.
    pub async fn write(self, database: Database) {
        let mut receiver = self.receiver.lock().await;
        let mut batch = Vec::with_capacity(TOGETHER);
        let mut since_trim: HashMap<String, usize> = HashMap::new();
        while receiver.recv_many(&mut batch, TOGETHER).await > 0 {
            if let Err(failure) = store(&database, &batch, &mut since_trim).await {
                error!(error = chain(&failure), "log entries are lost");
                tokio::time::sleep(RETRY).await;
            }
            batch.clear();
        }
    }
}

async fn store(
    database: &Database,
    batch: &[LogEntry],
    since_trim: &mut HashMap<String, usize>,
) -> Result<(), DatabaseError> {
    let rows: Vec<_> = batch
        .iter()
        .map(|record| NewLog {
            plugin: &record.plugin,
            company: record.company.as_deref(),
            level: record.level,
            message: &record.message,
            meta: record.meta.as_deref(),
            pod: &record.pod,
        })
        .collect();
    database.record_logs(&rows).await?;
    for record in batch {
        *since_trim.entry(record.plugin.clone()).or_default() += 1;
    }
    let due: Vec<String> = since_trim
        .iter()
        .filter(|(_, count)| **count >= TRIM_EVERY)
        .map(|(plugin, _)| plugin.clone())
        .collect();
    for plugin in due {
        database.trim_logs(&plugin, KEPT_BYTES).await?;
        since_trim.remove(&plugin);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_entries_go_when_a_plugin_has_too_many() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/host.db", folder.path().display());
        let database = Database::open(&url).await.unwrap();
        database
            .record_plugin(crate::database::PluginUpdate {
                id: "uid",
                namespace: "shop",
                name: "acme",
                plugin_key: "acme.x",
                version: "1.0.0",
                api_version: 1,
                manifest_json: "{}",
                config_json: "{}",
                artifact_digest: "sha256:0",
                activation: 1,
            })
            .await
            .unwrap();
        let message = "x".repeat(800);
        let row = |message| NewLog {
            plugin: "uid",
            company: None,
            level: "warn",
            message,
            meta: None,
            pod: "acme-1",
        };
        let mut rows: Vec<_> = (0..9).map(|_| row(&message)).collect();
        rows.push(row("the newest"));
        database.record_logs(&rows).await.unwrap();
        assert_eq!(database.trim_logs("uid", 3300).await.unwrap(), 6);
        let left = database.logs("uid", None, None, 100).await.unwrap();
        assert_eq!(left.len(), 4);
        assert_eq!(left[0].message, "the newest");
        assert_eq!(left[0].pod.as_deref(), Some("acme-1"));
    }
}
