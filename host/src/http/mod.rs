//! The host's HTTP API: Paperclip's own paths, and the health port.

mod access;
mod bridge;
mod error;
mod fields;
mod health;
mod jobs;
mod plugins;
mod routes;
mod sticky;
mod streams;
mod tools;
mod trace;
mod webhooks;

use std::sync::Arc;

use axum::{
    Router,
    http::Uri,
    middleware,
    routing::{any, get, post},
};

pub use error::ApiError;
pub use health::health_router;
pub use sticky::key as sticky_key;
pub use trace::{below as below_trace, parent as trace_parent};

use crate::host::Host;

/// Largest body of a request, in bytes.
const BODY_LIMIT: usize = 10 * 1024 * 1024;

/// The API.
pub fn router(host: Arc<Host>) -> Router {
    Router::new()
        .route("/api/health", get(health::api))
        .route("/api/plugins", get(plugins::list))
        .route("/api/plugins/tools", get(tools::list))
        .route("/api/plugins/tools/execute", post(tools::execute))
        .route("/api/plugins/{id}", get(plugins::show))
        .route("/api/plugins/{id}/health", get(plugins::health))
        .route("/api/plugins/{id}/dashboard", get(plugins::dashboard))
        .route("/api/plugins/{id}/logs", get(plugins::logs))
        .route("/api/plugins/{id}/config", get(plugins::config))
        .route("/api/plugins/{id}/jobs", get(jobs::list))
        .route("/api/plugins/{id}/jobs/{job}/runs", get(jobs::runs))
        .route("/api/plugins/{id}/jobs/{job}/trigger", post(jobs::trigger))
        .route(
            "/api/plugins/{id}/webhooks/{endpoint}",
            post(webhooks::receive),
        )
        .route("/api/plugins/{id}/bridge/data", post(bridge::data))
        .route("/api/plugins/{id}/data/{key}", post(bridge::data_of_key))
        .route("/api/plugins/{id}/bridge/action", post(bridge::action))
        .route(
            "/api/plugins/{id}/actions/{key}",
            post(bridge::action_of_key),
        )
        .route(
            "/api/plugins/{id}/bridge/stream/{channel}",
            get(streams::listen),
        )
        .route("/api/plugins/{id}/api/{*path}", any(routes::handle))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn(sticky::within))
        .layer(middleware::from_fn(trace::within))
        .with_state(host)
}

async fn unknown_path(uri: Uri) -> ApiError {
    ApiError::not_found(format!("this host has no path {}", uri.path()))
}

async fn wrong_method(method: axum::http::Method, uri: Uri) -> ApiError {
    ApiError::Refused(
        axum::http::StatusCode::METHOD_NOT_ALLOWED,
        format!("{} does not take {method}", uri.path()),
    )
}
