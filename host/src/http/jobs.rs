//! Jobs: what is declared, what ran, and running one now.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, Query, State},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{access, error::ApiError, plugins::limit};
use crate::{
    auth::{Access, Caller},
    database::{JobRow, JobRunRow},
    host::Host,
    jobs,
    plugins::Plugin,
};

#[derive(Debug, Deserialize)]
pub struct ListQuery {
    status: Option<String>,
}

#[derive(Debug, Deserialize)]
pub struct RunsQuery {
    limit: Option<String>,
}

/// `GET …/jobs`
pub async fn list(
    State(host): State<Arc<Host>>,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Vec<JobRow>>, ApiError> {
    let plugin = access::permitted(&host, &caller, Access::Read, &id).await?;
    if let Some(status) = &query.status
        && !matches!(status.as_str(), "active" | "paused" | "failed")
    {
        return Err(ApiError::bad_request(format!(
            "query \"status\" is {status:?}, wanted active, paused or failed"
        )));
    }
    let status = query.status.as_deref();
    Ok(Json(host.database.jobs(&plugin.id().uid, status).await?))
}

/// `GET …/jobs/{jobId}/runs`
pub async fn runs(
    State(host): State<Arc<Host>>,
    caller: Caller,
    Path((id, job)): Path<(String, String)>,
    Query(query): Query<RunsQuery>,
) -> Result<Json<Vec<JobRunRow>>, ApiError> {
    let plugin = access::permitted(&host, &caller, Access::Read, &id).await?;
    let job = find(&host, &plugin, &job).await?;
    let limit = limit(query.limit.as_deref())?;
    Ok(Json(host.database.job_runs(&job.id, limit).await?))
}

/// `POST …/jobs/{jobId}/trigger`
pub async fn trigger(
    State(host): State<Arc<Host>>,
    caller: Caller,
    Path((id, job)): Path<(String, String)>,
) -> Result<Json<Value>, ApiError> {
    let plugin = access::permitted(&host, &caller, Access::Call, &id).await?;
    let job = find(&host, &plugin, &job).await?;
    if job.status != "active" {
        return Err(ApiError::bad_request(format!(
            "job {:?} is {}, not active",
            job.job_key, job.status
        )));
    }
    let run = jobs::trigger(&host, &plugin, &job).await?.ok_or_else(|| {
        ApiError::bad_request(format!("job {:?} is already running", job.job_key))
    })?;
    Ok(Json(json!({"runId": run, "jobId": job.id})))
}

async fn find(host: &Host, plugin: &Plugin, job: &str) -> Result<JobRow, ApiError> {
    host.database
        .job(&plugin.id().uid, job)
        .await?
        .ok_or_else(|| ApiError::not_found(format!("the plugin has no job {job:?}")))
}
