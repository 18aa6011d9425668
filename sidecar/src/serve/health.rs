//! Probes and metrics over plain HTTP.

use std::{io, sync::Arc};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use paperclip_pod_layout::port;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::multiplexer::Multiplexer;

/// Serves /livez, /readyz and /metrics until `stop`.
pub async fn serve(
    listener: TcpListener,
    multiplexer: Arc<Multiplexer>,
    stop: CancellationToken,
) -> io::Result<()> {
    let routes = Router::new()
        .route(port::LIVE, get(|| async { "ok\n" }))
        .route(port::READY, get(ready))
        .route(port::METRICS, get(metrics))
        .with_state(multiplexer);
    axum::serve(listener, routes)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
}

async fn ready(State(multiplexer): State<Arc<Multiplexer>>) -> (StatusCode, String) {
    let state = multiplexer.state.now();
    if state.is_ready() {
        return (StatusCode::OK, "ok\n".into());
    }
    let (phase, reason) = (
        state.phase.as_str_name(),
        state.worker.reason().as_str_name(),
    );
    let text = format!("{phase} {reason}: {}\n", state.worker.message);
    (StatusCode::SERVICE_UNAVAILABLE, text)
}

async fn metrics(
    State(multiplexer): State<Arc<Multiplexer>>,
) -> ([(&'static str, &'static str); 1], String) {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([("content-type", kind)], multiplexer.metrics.render())
}
