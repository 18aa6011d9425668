//! Table `plugin_state`: values of plugins by scope, namespace and key. Last write wins.

use serde::Deserialize;
use uuid::Uuid;

use super::{Database, DatabaseError};
use crate::clock;

/// Where a value lives.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StateKey {
    /// `instance`, `company`, `project`, …
    pub scope_kind: String,
    /// Which one, where there are several.
    #[serde(default)]
    pub scope_id: Option<String>,
    /// Namespace of the key, `default` unless given.
    #[serde(default)]
    pub namespace: Option<String>,
    /// The key.
    pub state_key: String,
}

impl StateKey {
    fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or("default")
    }
}

impl Database {
    /// The value as JSON text, or none.
    pub async fn state(
        &self,
        plugin: &str,
        key: &StateKey,
    ) -> Result<Option<String>, DatabaseError> {
        sqlx::query_scalar(
            "select value_json from plugin_state where plugin_id = ? and scope_kind = ?
                 and coalesce(scope_id, '') = coalesce(?, '') and namespace = ? and state_key = ?",
        )
        .bind(plugin)
        .bind(&key.scope_kind)
        .bind(&key.scope_id)
        .bind(key.namespace())
        .bind(&key.state_key)
        .fetch_optional(&self.pool)
        .await
        .map_err(DatabaseError::while_doing("read a state value"))
    }

    /// Stores a value.
    pub async fn set_state(
        &self,
        plugin: &str,
        key: &StateKey,
        value: &str,
    ) -> Result<(), DatabaseError> {
        sqlx::query(
            "insert into plugin_state (id, plugin_id, scope_kind, scope_id, namespace, state_key, value_json, updated_at)
             values (?, ?, ?, ?, ?, ?, ?, ?)
             on conflict (plugin_id, scope_kind, coalesce(scope_id, ''), namespace, state_key)
             do update set value_json = excluded.value_json, updated_at = excluded.updated_at",
        )
        .bind(Uuid::new_v4().to_string())
        .bind(plugin)
        .bind(&key.scope_kind)
        .bind(&key.scope_id)
        .bind(key.namespace())
        .bind(&key.state_key)
        .bind(value)
        .bind(clock::now())
        .execute(&self.pool)
        .await
        .map(drop)
        .map_err(DatabaseError::while_doing("store a state value"))
    }

    /// Removes a value that may be there.
    pub async fn delete_state(&self, plugin: &str, key: &StateKey) -> Result<(), DatabaseError> {
        sqlx::query(
            "delete from plugin_state where plugin_id = ? and scope_kind = ?
                 and coalesce(scope_id, '') = coalesce(?, '') and namespace = ? and state_key = ?",
        )
        .bind(plugin)
        .bind(&key.scope_kind)
        .bind(&key.scope_id)
        .bind(key.namespace())
        .bind(&key.state_key)
        .execute(&self.pool)
        .await
        .map(drop)
        .map_err(DatabaseError::while_doing("delete a state value"))
    }
}
