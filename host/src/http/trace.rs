//! The trace that work is of: that of a request, as its `traceparent` says, or of a worker's call.

use axum::{extract::Request, middleware::Next, response::Response};

tokio::task_local! {
    static PARENT: String;
}

/// Serves a request within the trace of whoever makes it.
pub async fn within(request: Request, next: Next) -> Response {
    let stated = request.headers().get("traceparent");
    let parent = stated.and_then(|value| value.to_str().ok());
    let parent = parent.unwrap_or_default().to_owned();
    below(parent, next.run(request)).await
}

/// Does something within the trace that `parent`, a `traceparent`, is of.
pub async fn below<F: Future>(parent: String, work: F) -> F::Output {
    PARENT.scope(parent, work).await
}

/// The `traceparent` of what is being done. Empty without one.
pub fn parent() -> String {
    PARENT.try_with(Clone::clone).unwrap_or_default()
}
