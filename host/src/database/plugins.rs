//! Table `plugins`: what the last pod of each plugin said about itself.

use serde::Serialize;
use sqlx::FromRow;

use super::{Database, DatabaseError, Json};
use crate::clock;

/// A row of `plugins`.
#[derive(Clone, Debug, FromRow, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PluginRow {
    /// UID of the `PaperclipPlugin`.
    pub id: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// `id` of the manifest.
    pub plugin_key: String,
    /// `version` of the manifest.
    pub version: String,
    /// `apiVersion` of the manifest.
    pub api_version: i64,
    /// The whole manifest.
    pub manifest_json: Json,
    /// The default of `spec.config`.
    #[serde(skip)]
    pub config_json: Json,
    /// What runs.
    pub artifact_digest: String,
    /// Activation number of the pod that said so.
    pub activation: i64,
    /// When a pod served for the first time.
    #[serde(skip)]
    pub served_at: Option<String>,
    /// When the host first heard of the plugin.
    pub installed_at: String,
    /// When it last heard something new.
    pub updated_at: String,
}

/// What a pod says about its plugin.
#[derive(Clone, Copy, Debug)]
pub struct PluginUpdate<'a> {
    /// UID of the `PaperclipPlugin`.
    pub id: &'a str,
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// `id` of the manifest.
    pub plugin_key: &'a str,
    /// `version` of the manifest.
    pub version: &'a str,
    /// `apiVersion` of the manifest.
    pub api_version: u32,
    /// The whole manifest.
    pub manifest_json: &'a str,
    /// The default of `spec.config`.
    pub config_json: &'a str,
    /// What runs.
    pub artifact_digest: &'a str,
    /// Activation number of the pod.
    pub activation: u64,
}

impl Database {
    /// Every plugin that was ever here, in the order of their arrival.
    pub async fn plugins(&self) -> Result<Vec<PluginRow>, DatabaseError> {
        sqlx::query_as("select * from plugins order by installed_at, id")
            .fetch_all(&self.pool)
            .await
            .map_err(DatabaseError::while_doing("read plugins"))
    }

    /// One plugin.
    pub async fn plugin(&self, id: &str) -> Result<Option<PluginRow>, DatabaseError> {
        sqlx::query_as("select * from plugins where id = ?")
            .bind(id)
            .fetch_optional(&self.pool)
            .await
            .map_err(DatabaseError::while_doing("read a plugin"))
    }

    /// LogQueue what a pod says. A pod of an older activation changes nothing.
    pub async fn record_plugin(&self, update: PluginUpdate<'_>) -> Result<(), DatabaseError> {
        let now = clock::now();
        sqlx::query(
            "insert into plugins (id, namespace, name, plugin_key, version, api_version, manifest_json, config_json,
                 artifact_digest, activation, installed_at, updated_at)
             values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?11)
             on conflict (id) do update set
                 plugin_key = excluded.plugin_key, version = excluded.version, api_version = excluded.api_version,
                 manifest_json = excluded.manifest_json, config_json = excluded.config_json,
                 artifact_digest = excluded.artifact_digest, activation = excluded.activation,
                 updated_at = excluded.updated_at
             where excluded.activation >= plugins.activation",
        )
        .bind(update.id)
        .bind(update.namespace)
        .bind(update.name)
        .bind(update.plugin_key)
        .bind(update.version)
        .bind(update.api_version)
        .bind(update.manifest_json)
        .bind(update.config_json)
        .bind(update.artifact_digest)
        .bind(i64::try_from(update.activation).unwrap_or(i64::MAX))
        .bind(now)
        .execute(&self.pool)
        .await
        .map(drop)
        .map_err(DatabaseError::while_doing("record a plugin"))
    }

    /// LogQueue another config of a running pod. A pod of an older activation changes nothing.
    pub async fn record_config(
        &self,
        id: &str,
        activation: u64,
        config_json: &str,
    ) -> Result<(), DatabaseError> {
        sqlx::query(
            "update plugins set config_json = ?3, updated_at = ?4
             where id = ?1 and activation <= ?2 and config_json <> ?3",
        )
        .bind(id)
        .bind(i64::try_from(activation).unwrap_or(i64::MAX))
        .bind(config_json)
        .bind(clock::now())
        .execute(&self.pool)
        .await
        .map(drop)
        .map_err(DatabaseError::while_doing("record a config"))
    }

    /// Remembers that a pod of the plugin served.
    pub async fn record_served(&self, id: &str) -> Result<(), DatabaseError> {
        sqlx::query("update plugins set served_at = ? where id = ? and served_at is null")
            .bind(clock::now())
            .bind(id)
            .execute(&self.pool)
            .await
            .map(drop)
            .map_err(DatabaseError::while_doing("record that a plugin serves"))
    }
}
