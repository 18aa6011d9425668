//! Plugins: what the host knows of each.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, Query, State},
};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{access, error::ApiError};
use crate::{
    auth::{Access, Caller},
    clock,
    company::COMPANY_ID,
    database::{LogRow, PluginRow},
    host::Host,
    plugins::Plugin,
};

/// Runs and deliveries that a dashboard shows.
const RECENT: u32 = 10;
/// Rows of a list unless asked otherwise.
const DEFAULT_LIMIT: u32 = 25;
/// Rows of a list at most.
const MAX_LIMIT: u32 = 500;

const STATUSES: [&str; 6] = [
    "installed",
    "ready",
    "disabled",
    "error",
    "upgrade_pending",
    "uninstalled",
];

#[derive(Debug, Deserialize)]
pub struct ListQuery {
    status: Option<String>,
}

#[derive(Debug, Deserialize)]
pub struct LogsQuery {
    limit: Option<String>,
    level: Option<String>,
    since: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigQuery {
    company_id: Option<String>,
}

/// `GET /api/plugins`
pub async fn list(
    State(host): State<Arc<Host>>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Json<Vec<Value>>, ApiError> {
    if let Some(status) = &query.status
        && !STATUSES.contains(&status.as_str())
    {
        return Err(ApiError::bad_request(format!(
            "query \"status\" is {status:?}, wanted one of {}",
            STATUSES.join(", ")
        )));
    }
    let mut records = Vec::new();
    for plugin in access::visible(&host, &caller).await? {
        let Some(row) = host.database.plugin(&plugin.id().uid).await? else {
            continue;
        };
        let status = status(&plugin, &row);
        let wanted = match &query.status {
            Some(wanted) => status == wanted,
            None => status != "uninstalled",
        };
        if wanted {
            records.push(record(&plugin, &row));
        }
    }
    Ok(Json(records))
}

/// `GET /api/plugins/{id}`
pub async fn show(
    State(host): State<Arc<Host>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let plugin = access::permitted(&host, &caller, Access::Read, &id).await?;
    let row = row(&host, &plugin).await?;
    let mut record = record(&plugin, &row);
    record["supportsConfigTest"] = json!(
        plugin
            .pods()
            .iter()
            .any(|pod| pod.supports("validateConfig"))
    );
    Ok(Json(record))
}

/// `GET …/health`
pub async fn health(
    State(host): State<Arc<Host>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let plugin = access::permitted(&host, &caller, Access::Read, &id).await?;
    let row = row(&host, &plugin).await?;
    Ok(Json(health_of(&plugin, &row)))
}

/// `GET …/dashboard`
pub async fn dashboard(
    State(host): State<Arc<Host>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let plugin = access::permitted(&host, &caller, Access::Read, &id).await?;
    let row = row(&host, &plugin).await?;
    let uid = &plugin.id().uid;
    Ok(Json(json!({
        "pluginId": uid,
        "worker": worker(&plugin),
        "pods": pods(&plugin),
        "recentJobRuns": host.database.recent_runs(uid, RECENT).await?,
        "recentWebhookDeliveries": host.database.recent_deliveries(uid, RECENT).await?,
        "health": health_of(&plugin, &row),
        "checkedAt": clock::now(),
    })))
}

/// `GET …/logs`
pub async fn logs(
    State(host): State<Arc<Host>>,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<LogsQuery>,
) -> Result<Json<Vec<LogRow>>, ApiError> {
    let plugin = access::permitted(&host, &caller, Access::Read, &id).await?;
    let limit = limit(query.limit.as_deref())?;
    let since = query.since.as_deref().map(time).transpose()?;
    let rows = host
        .database
        .logs(
            &plugin.id().uid,
            query.level.as_deref(),
            since.as_deref(),
            limit,
        )
        .await?;
    Ok(Json(rows))
}

/// `GET …/config`
pub async fn config(
    State(host): State<Arc<Host>>,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<ConfigQuery>,
) -> Result<Json<Value>, ApiError> {
    let plugin = access::permitted(&host, &caller, Access::Read, &id).await?;
    if let Some(company) = query.company_id.filter(|company| company != COMPANY_ID) {
        return Err(ApiError::Refused(
            axum::http::StatusCode::FORBIDDEN,
            format!("company {company:?} is not on this host, the one company is {COMPANY_ID}"),
        ));
    }
    let row = row(&host, &plugin).await?;
    let config = match plugin.serving_pod() {
        Some(pod) => json!(pod.config().json()),
        None => json!(row.config_json),
    };
    let uid = &plugin.id().uid;
    let namespace = Uuid::try_parse(uid).unwrap_or(Uuid::NAMESPACE_URL);
    Ok(Json(json!({
        "id": Uuid::new_v5(&namespace, b"config").to_string(),
        "pluginId": uid,
        "companyId": COMPANY_ID,
        "configJson": config,
        "lastError": null,
        "createdAt": row.installed_at,
        "updatedAt": row.updated_at,
    })))
}

/// How many rows a request asks for.
pub fn limit(text: Option<&str>) -> Result<u32, ApiError> {
    let Some(text) = text else {
        return Ok(DEFAULT_LIMIT);
    };
    text.parse()
        .ok()
        .filter(|limit| (1..=MAX_LIMIT).contains(limit))
        .ok_or_else(|| {
            ApiError::bad_request(format!(
                "query \"limit\" is {text:?}, wanted a number from 1 to {MAX_LIMIT}"
            ))
        })
}

fn time(text: &str) -> Result<String, ApiError> {
    text.parse::<DateTime<Utc>>().map(clock::text).map_err(|_| {
        ApiError::bad_request(format!(
            "query \"since\" is {text:?}, wanted an RFC 3339 time"
        ))
    })
}

async fn row(host: &Host, plugin: &Plugin) -> Result<PluginRow, ApiError> {
    let id = plugin.id();
    host.database.plugin(&id.uid).await?.ok_or_else(|| {
        ApiError::not_found(format!(
            "no pod of plugin {}/{} has answered yet",
            id.namespace, id.name
        ))
    })
}

/// The plugin's place in Paperclip's life cycle, as far as a host can see it.
fn status(plugin: &Plugin, row: &PluginRow) -> &'static str {
    match (plugin.serves(), plugin.is_wanted(), &row.served_at) {
        (true, _, _) => "ready",
        (false, false, _) => "uninstalled",
        (false, true, Some(_)) => "error",
        (false, true, None) => "installed",
    }
}

fn record(plugin: &Plugin, row: &PluginRow) -> Value {
    let status = status(plugin, row);
    let mut record = json!(row);
    if let Some(pod) = plugin.serving_pod() {
        // The row knows the latest activation, which need not be the one that works.
        let release = pod.release();
        record["version"] = json!(release.manifest.version);
        record["apiVersion"] = json!(release.manifest.api_version);
        record["manifestJson"] = json!(release.manifest_json);
        record["artifactDigest"] = json!(release.artifact_digest);
        record["activation"] = json!(release.activation);
    }
    record["status"] = json!(status);
    record["packagePath"] = Value::Null;
    record["lastError"] = match status {
        "error" => json!("no pod of the plugin serves"),
        _ => Value::Null,
    };
    record["categories"] = record["manifestJson"]["categories"].clone();
    record
}

fn health_of(plugin: &Plugin, row: &PluginRow) -> Value {
    let status = status(plugin, row);
    let serves = plugin.serves();
    let check = |name: &str, passed: bool, message: String| json!({"name": name, "passed": passed, "message": message});
    let served = plugin.pods().len();
    let mut health = json!({
        "pluginId": row.id,
        "status": status,
        "healthy": serves,
        "checks": [
            check("registry", true, "the host knows the plugin".to_owned()),
            check("manifest", plugin.release().is_some(), "the plugin manifest was read".to_owned()),
            check("status", status == "ready", format!("status is {status}")),
            check("worker", serves, format!("{served} pods have a session")),
        ],
    });
    if !serves {
        health["lastError"] = json!("no pod of the plugin serves");
    }
    health
}

fn worker(plugin: &Plugin) -> Value {
    let pods = plugin.pods();
    let Some(pod) = pods
        .iter()
        .max_by_key(|pod| (pod.serves(), pod.release().activation))
    else {
        return Value::Null;
    };
    json!({
        "status": if pod.serves() { "running" } else { "starting" },
        "pid": null,
        "uptime": pod.uptime().as_millis() as u64,
        "consecutiveCrashes": 0,
        "totalCrashes": 0,
        "pendingRequests": pods.iter().map(|pod| pod.pending()).sum::<usize>(),
        "lastCrashAt": null,
        "nextRestartAt": null,
    })
}

fn pods(plugin: &Plugin) -> Vec<Value> {
    plugin
        .pods()
        .iter()
        .map(|pod| {
            json!({
                "name": pod.name(),
                "address": pod.address().to_string(),
                "phase": pod.phase().as_str_name().trim_start_matches("PHASE_").to_lowercase(),
                "activation": pod.release().activation,
                "artifactDigest": pod.release().artifact_digest,
                "attachedMs": pod.uptime().as_millis() as u64,
                "pendingRequests": pod.pending(),
            })
        })
        .collect()
}
