//! Table `plugin_entities`: records of plugins, found by type and by the id they have elsewhere.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sqlx::FromRow;
use uuid::Uuid;

use super::{Database, DatabaseError, Json};
use crate::clock;

/// Rows that one `entities.list` returns unless it asks for fewer or more.
const DEFAULT_LIMIT: u32 = 100;

/// A row of `plugin_entities`.
#[derive(Clone, Debug, FromRow, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EntityRow {
    /// UUID of the row.
    pub id: String,
    /// UID of the plugin.
    pub plugin_id: String,
    /// Null: entities are not asked for on behalf of a company.
    pub company_id: Option<String>,
    /// Type, as the plugin names it.
    pub entity_type: String,
    /// What it belongs to.
    pub scope_kind: String,
    /// Which one.
    pub scope_id: Option<String>,
    /// The id it has elsewhere.
    pub external_id: Option<String>,
    /// Title for people.
    pub title: Option<String>,
    /// Status, as the plugin names it.
    pub status: Option<String>,
    /// Whatever the plugin keeps.
    pub data: Json,
    /// When it was made.
    pub created_at: String,
    /// When it was last written.
    pub updated_at: String,
}

/// Params of `entities.upsert`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NewEntity {
    entity_type: String,
    scope_kind: String,
    #[serde(default)]
    scope_id: Option<String>,
    #[serde(default)]
    external_id: Option<String>,
    #[serde(default)]
    title: Option<String>,
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    data: Option<Box<RawValue>>,
}

/// Params of `entities.list`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EntityQuery {
    #[serde(default)]
    entity_type: Option<String>,
    #[serde(default)]
    external_id: Option<String>,
    #[serde(default)]
    limit: Option<u32>,
    #[serde(default)]
    offset: Option<u32>,
}

impl Database {
    /// Writes an entity: over the one with its type and external id, or a new one.
    /// Without an external id there is nothing to find an old one by, so each is new.
    pub async fn upsert_entity(
        &self,
        plugin: &str,
        entity: &NewEntity,
    ) -> Result<EntityRow, DatabaseError> {
        sqlx::query_as(
            "insert into plugin_entities (id, plugin_id, entity_type, scope_kind, scope_id, external_id, title, status,
                 data, created_at, updated_at)
             values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?10)
             on conflict (plugin_id, entity_type, external_id) where external_id is not null do update set
                 scope_kind = excluded.scope_kind, scope_id = excluded.scope_id, title = excluded.title,
                 status = excluded.status, data = excluded.data, updated_at = excluded.updated_at
             returning *",
        )
        .bind(Uuid::new_v4().to_string())
        .bind(plugin)
        .bind(&entity.entity_type)
        .bind(&entity.scope_kind)
        .bind(&entity.scope_id)
        .bind(&entity.external_id)
        .bind(&entity.title)
        .bind(&entity.status)
        .bind(entity.data.as_ref().map_or("{}", |data| data.get()))
        .bind(clock::now())
        .fetch_one(&self.pool)
        .await
        .map_err(DatabaseError::while_doing("store an entity"))
    }

    /// Entities, oldest first.
    pub async fn entities(
        &self,
        plugin: &str,
        query: &EntityQuery,
    ) -> Result<Vec<EntityRow>, DatabaseError> {
        sqlx::query_as(
            "select * from plugin_entities where plugin_id = ?1 and (?2 is null or entity_type = ?2)
                 and (?3 is null or external_id = ?3)
             order by created_at, id limit ?4 offset ?5",
        )
        .bind(plugin)
        .bind(&query.entity_type)
        .bind(&query.external_id)
        .bind(query.limit.unwrap_or(DEFAULT_LIMIT))
        .bind(query.offset.unwrap_or(0))
        .fetch_all(&self.pool)
        .await
        .map_err(DatabaseError::while_doing("list entities"))
    }
}
