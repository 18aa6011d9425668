//! Calls that belong together: requests with one key in the header `paperclip-sticky` go to one pod
//! of the plugin, for as long as it serves.

use axum::{
    extract::Request,
    http::StatusCode,
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use super::ApiError;

/// The header that asks for it.
const HEADER: &str = "paperclip-sticky";
/// Longest key, in bytes.
const LONGEST: usize = 256;

tokio::task_local! {
    static KEY: Option<String>;
}

/// Serves a request with the key that it names.
pub async fn within(request: Request, next: Next) -> Response {
    let stated = request.headers().get(HEADER);
    let key = stated.map(|value| value.to_str().unwrap_or_default());
    if key.is_some_and(|key| key.is_empty() || key.len() > LONGEST) {
        let wanted = format!("header {HEADER} is no text of 1 to {LONGEST} bytes of ASCII");
        return ApiError::Refused(StatusCode::BAD_REQUEST, wanted).into_response();
    }
    let key = key.map(str::to_owned);
    KEY.scope(key, next.run(request)).await
}

/// The key of the request that is being served.
pub fn key() -> Option<String> {
    KEY.try_with(Clone::clone).ok().flatten()
}
