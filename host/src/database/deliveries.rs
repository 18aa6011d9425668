//! Table `plugin_webhook_deliveries`: what came in by webhook and how the worker took it.

use serde::Serialize;
use sqlx::FromRow;

use super::{Database, DatabaseError, Json, Outcome};
use crate::clock;

/// A row of `plugin_webhook_deliveries`.
#[derive(Clone, Debug, FromRow, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryRow {
    /// UUID of the delivery; the worker's `requestId`.
    pub id: String,
    /// UID of the plugin.
    pub plugin_id: String,
    /// The company it was delivered for.
    pub company_id: Option<String>,
    /// Key of the webhook.
    pub webhook_key: String,
    /// The sender's own id, if known.
    pub external_id: Option<String>,
    /// `pending`, `success` or `failed`.
    pub status: String,
    /// How long the worker took.
    pub duration_ms: Option<i64>,
    /// Why it failed.
    pub error: Option<String>,
    /// The body: its JSON, or its text as a JSON string.
    pub payload: Json,
    /// Headers without credentials.
    pub headers: Json,
    /// When the worker was asked.
    pub started_at: Option<String>,
    /// When it answered.
    pub finished_at: Option<String>,
    /// When it came in.
    pub created_at: String,
}

/// A delivery that came in.
#[derive(Clone, Copy, Debug)]
pub struct NewDelivery<'a> {
    /// UUID of the delivery.
    pub id: &'a str,
    /// UID of the plugin.
    pub plugin: &'a str,
    /// The company it is delivered for.
    pub company: Option<&'a str>,
    /// Key of the webhook.
    pub webhook_key: &'a str,
    /// The body as JSON.
    pub payload: &'a str,
    /// Headers without credentials, as JSON.
    pub headers: &'a str,
}

impl Database {
    /// LogQueue a delivery before the worker hears of it.
    pub async fn record_delivery(&self, delivery: NewDelivery<'_>) -> Result<(), DatabaseError> {
        sqlx::query(
            "insert into plugin_webhook_deliveries (id, plugin_id, company_id, webhook_key, status, payload, headers,
                 started_at, created_at)
             values (?1, ?2, ?3, ?4, 'pending', ?5, ?6, ?7, ?7)",
        )
        .bind(delivery.id)
        .bind(delivery.plugin)
        .bind(delivery.company)
        .bind(delivery.webhook_key)
        .bind(delivery.payload)
        .bind(delivery.headers)
        .bind(clock::now())
        .execute(&self.pool)
        .await
        .map(drop)
        .map_err(DatabaseError::while_doing("record a webhook delivery"))
    }

    /// Notes how a delivery ended.
    pub async fn finish_delivery(
        &self,
        id: &str,
        outcome: &Outcome,
        duration_ms: i64,
    ) -> Result<(), DatabaseError> {
        let (status, error) = match outcome {
            Outcome::Succeeded => ("success", None),
            Outcome::Failed(error) => ("failed", Some(error)),
        };
        sqlx::query(
            "update plugin_webhook_deliveries set status = ?, error = ?, duration_ms = ?, finished_at = ? where id = ?",
        )
        .bind(status)
        .bind(error)
        .bind(duration_ms)
        .bind(clock::now())
        .bind(id)
        .execute(&self.pool)
        .await
        .map(drop)
        .map_err(DatabaseError::while_doing("finish a webhook delivery"))
    }

    /// Deliveries of a plugin, newest first.
    pub async fn recent_deliveries(
        &self,
        plugin: &str,
        limit: u32,
    ) -> Result<Vec<DeliveryRow>, DatabaseError> {
        sqlx::query_as("select * from plugin_webhook_deliveries where plugin_id = ? order by created_at desc, id limit ?")
            .bind(plugin)
            .bind(limit)
            .fetch_all(&self.pool)
            .await
            .map_err(DatabaseError::while_doing("list webhook deliveries"))
    }
}
