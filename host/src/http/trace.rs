//! The trace that a request is of, as its `traceparent` says.

use axum::{extract::Request, middleware::Next, response::Response};

tokio::task_local! {
    static PARENT: String;
}

/// Serves a request within the trace of whoever makes it.
pub async fn within(request: Request, next: Next) -> Response {
    let stated = request.headers().get("traceparent");
    let parent = stated.and_then(|value| value.to_str().ok());
    let parent = parent.unwrap_or_default().to_owned();
    PARENT.scope(parent, next.run(request)).await
}

/// The `traceparent` of the request that is being served. Empty without one.
pub fn parent() -> String {
    PARENT.try_with(Clone::clone).unwrap_or_default()
}
