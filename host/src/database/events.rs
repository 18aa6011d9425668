//! Table `plugin_events`: events that wait for the worker of a subscriber.

use sqlx::FromRow;

use super::{Database, DatabaseError};
use crate::clock;

/// A row of `plugin_events`.
#[derive(Clone, Debug, FromRow)]
pub struct QueuedEvent {
    /// Its place in the order of all events.
    pub number: i64,
    /// The event as JSON.
    pub event: String,
    /// The trace it was published in; empty for none.
    pub traceparent: String,
    /// When it was queued.
    pub created_at: String,
}

impl Database {
    /// Queues an event for its subscribers, all or none. Gives those whose queue is full; they miss it.
    pub async fn queue_event<'a>(
        &self,
        subscribers: &[&'a str],
        event: &str,
        traceparent: &str,
        limit: u32,
    ) -> Result<Vec<&'a str>, DatabaseError> {
        let failed = DatabaseError::while_doing("queue an event");
        let now = clock::now();
        let mut full = Vec::new();
        let mut transaction = self
            .pool
            .begin_with("begin immediate")
            .await
            .map_err(&failed)?;
        for subscriber in subscribers {
            let queued = sqlx::query(
                "insert into plugin_events (plugin_id, event, created_at, traceparent)
                 select ?1, ?2, ?3, ?5 where (select count(*) from plugin_events where plugin_id = ?1) < ?4",
            )
            .bind(subscriber)
            .bind(event)
            .bind(&now)
            .bind(limit)
            .bind(traceparent)
            .execute(&mut *transaction)
            .await
            .map_err(&failed)?;
            if queued.rows_affected() == 0 {
                full.push(*subscriber);
            }
        }
        transaction.commit().await.map_err(&failed)?;
        Ok(full)
    }

    /// The event that waits longest for a plugin's worker.
    pub async fn next_event(&self, plugin: &str) -> Result<Option<QueuedEvent>, DatabaseError> {
        sqlx::query_as(
            "select number, event, created_at, traceparent from plugin_events where plugin_id = ? order by number limit 1",
        )
        .bind(plugin)
        .fetch_optional(&self.pool)
        .await
        .map_err(DatabaseError::while_doing("read the next event"))
    }

    /// Takes an event out of the queue.
    pub async fn remove_event(&self, number: i64) -> Result<(), DatabaseError> {
        sqlx::query("delete from plugin_events where number = ?")
            .bind(number)
            .execute(&self.pool)
            .await
            .map(drop)
            .map_err(DatabaseError::while_doing("remove an event"))
    }
}
