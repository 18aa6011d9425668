//! Table `plugin_logs`: log entries, metrics and activity that workers asked to keep.

use serde::Serialize;
use sqlx::FromRow;
use uuid::Uuid;

use super::{Database, DatabaseError, Json};
use crate::clock;

/// Longest message that is kept, in characters.
const MESSAGE_LIMIT: usize = 10_000;
/// Longest `meta` that is kept, in bytes of JSON.
const META_LIMIT: usize = 50_000;
/// What an entry takes beside its texts, in bytes.
const ENTRY: i64 = 200;

/// A row of `plugin_logs`.
#[derive(Clone, Debug, FromRow, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LogRow {
    /// UUID of the row.
    pub id: String,
    /// UID of the plugin.
    pub plugin_id: String,
    /// The company it is about.
    pub company_id: Option<String>,
    /// `debug`, `info`, `warn`, `error`, `metric` or `activity`.
    pub level: String,
    /// The message, or the name of the metric.
    pub message: String,
    /// Whatever came with it.
    pub meta: Option<Json>,
    /// When it came.
    pub created_at: String,
    /// Name of the pod it came from.
    pub pod: Option<String>,
}

/// An entry to keep.
#[derive(Clone, Copy, Debug)]
pub struct NewLog<'a> {
    /// UID of the plugin.
    pub plugin: &'a str,
    /// The company it is about.
    pub company: Option<&'a str>,
    /// Level.
    pub level: &'a str,
    /// Message.
    pub message: &'a str,
    /// JSON beside it.
    pub meta: Option<&'a str>,
    /// Name of the pod.
    pub pod: &'a str,
}

impl Database {
    /// Keeps an entry, its message cut and its `meta` dropped where they are too long.
    pub async fn record_log(&self, log: NewLog<'_>) -> Result<(), DatabaseError> {
        self.record_logs(&[log]).await
    }

    /// Keeps entries, all or none.
    pub async fn record_logs(&self, logs: &[NewLog<'_>]) -> Result<(), DatabaseError> {
        let failed = DatabaseError::while_doing("store log entries");
        let mut transaction = self
            .pool
            .begin_with("begin immediate")
            .await
            .map_err(&failed)?;
        for log in logs {
            insert(&mut transaction, log).await.map_err(&failed)?;
        }
        transaction.commit().await.map_err(&failed)
    }

    /// Drops the oldest entries of a plugin beyond so many bytes.
    pub async fn trim_logs(&self, plugin: &str, bytes: i64) -> Result<u64, DatabaseError> {
        let dropped = sqlx::query(
            "delete from plugin_logs where rowid in (
                 select rowid from (
                     select rowid, sum(length(message) + coalesce(length(meta), 0) + ?3)
                         over (order by rowid desc) as held
                     from plugin_logs where plugin_id = ?1)
                 where held > ?2)",
        )
        .bind(plugin)
        .bind(bytes)
        .bind(ENTRY)
        .execute(&self.pool)
        .await
        .map_err(DatabaseError::while_doing("drop the oldest log entries"))?;
        Ok(dropped.rows_affected())
    }

    /// Entries of a plugin, newest first.
    pub async fn logs(
        &self,
        plugin: &str,
        level: Option<&str>,
        since: Option<&str>,
        limit: u32,
    ) -> Result<Vec<LogRow>, DatabaseError> {
        sqlx::query_as(
            "select * from plugin_logs where plugin_id = ?1 and (?2 is null or level = ?2)
                 and (?3 is null or created_at >= ?3)
             order by created_at desc, rowid desc limit ?4",
        )
        .bind(plugin)
        .bind(level)
        .bind(since)
        .bind(limit)
        .fetch_all(&self.pool)
        .await
        .map_err(DatabaseError::while_doing("list log entries"))
    }

    /// Drops log entries and deliveries from before a time.
    pub async fn prune(&self, before: &str) -> Result<u64, DatabaseError> {
        let failed = DatabaseError::while_doing("drop old log entries");
        let mut dropped = 0;
        for statement in [
            "delete from plugin_logs where created_at < ?",
            "delete from plugin_webhook_deliveries where created_at < ? and status <> 'pending'",
            "delete from plugin_job_runs where created_at < ? and status not in ('pending', 'queued', 'running')",
        ] {
            dropped += sqlx::query(statement)
                .bind(before)
                .execute(&self.pool)
                .await
                .map_err(&failed)?
                .rows_affected();
        }
        Ok(dropped)
    }
}

async fn insert(
    transaction: &mut sqlx::SqliteConnection,
    log: &NewLog<'_>,
) -> Result<(), sqlx::Error> {
    let message: String = log.message.chars().take(MESSAGE_LIMIT).collect();
    let meta = match log.meta {
        Some(meta) if meta.len() > META_LIMIT => Some(r#"{"dropped":"meta was too long"}"#),
        meta => meta,
    };
    sqlx::query(
        "insert into plugin_logs (id, plugin_id, company_id, level, message, meta, created_at, pod)
         values (?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(Uuid::new_v4().to_string())
    .bind(log.plugin)
    .bind(log.company)
    .bind(log.level)
    .bind(message)
    .bind(meta)
    .bind(clock::now())
    .bind(log.pod)
    .execute(transaction)
    .await
    .map(drop)
}
