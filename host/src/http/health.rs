//! Health: for the kubelet, for Prometheus, and as Paperclip answers it.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use paperclip_error_chain::chain;
use serde_json::{Value, json};
use tracing::error;

use crate::{discovery::Synced, host::Host};

/// The health port: `/livez`, `/readyz`, `/metrics`.
pub fn health_router(host: Arc<Host>, synced: Synced) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state((host, synced))
}

/// `GET /api/health`
pub async fn api(State(host): State<Arc<Host>>) -> Json<Value> {
    Json(json!({
        "status": "ok",
        "version": env!("CARGO_PKG_VERSION"),
        "host": {"namespace": host.name.namespace, "name": host.name.name},
        "startupRecovery": {"phase": "ready"},
    }))
}

async fn ready(State((host, synced)): State<(Arc<Host>, Synced)>) -> Response {
    if host.draining.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping").into_response();
    }
    if !synced.is_done() {
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            "waiting for the addresses of plugins",
        )
            .into_response();
    }
    match host.database.check().await {
        Ok(()) => "ok".into_response(),
        Err(failure) => {
            error!(error = chain(&failure), "database failed");
            (
                StatusCode::SERVICE_UNAVAILABLE,
                "the database does not answer",
            )
                .into_response()
        }
    }
}

async fn metrics(State((host, _)): State<(Arc<Host>, Synced)>) -> Response {
    match host.metrics.text() {
        Ok(text) => (
            [(
                header::CONTENT_TYPE,
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
            )],
            text,
        )
            .into_response(),
        Err(failure) => (StatusCode::INTERNAL_SERVER_ERROR, failure.to_string()).into_response(),
    }
}
