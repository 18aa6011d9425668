//! Errors of the HTTP API: JSON, with Paperclip's status codes.

use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use paperclip_error_chain::chain;
use serde_json::{json, value::RawValue};
use tracing::error;

use crate::{auth::AuthError, database::DatabaseError, plugins::CallFailure, rpc};

/// What goes back instead of an answer.
#[derive(Debug)]
pub enum ApiError {
    /// `{"error": …}` with a status.
    Refused(StatusCode, String),
    /// A call without a result, as a bridge error with a status.
    Worker(StatusCode, Box<CallFailure>),
}

impl ApiError {
    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::Refused(StatusCode::BAD_REQUEST, message.into())
    }

    /// 404.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::Refused(StatusCode::NOT_FOUND, message.into())
    }
}

impl From<CallFailure> for ApiError {
    fn from(failure: CallFailure) -> Self {
        Self::Worker(status_of(&failure), Box::new(failure))
    }
}

impl From<DatabaseError> for ApiError {
    fn from(failure: DatabaseError) -> Self {
        error!(error = chain(&failure), "database failed");
        Self::Refused(StatusCode::INTERNAL_SERVER_ERROR, failure.to_string())
    }
}

impl From<AuthError> for ApiError {
    fn from(refusal: AuthError) -> Self {
        let status = match refusal {
            AuthError::Missing | AuthError::Invalid(_) => StatusCode::UNAUTHORIZED,
            AuthError::Forbidden { .. } => StatusCode::FORBIDDEN,
            AuthError::Review(_) => {
                error!(error = chain(&refusal), "review failed");
                StatusCode::SERVICE_UNAVAILABLE
            }
        };
        Self::Refused(status, refusal.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        match self {
            Self::Refused(StatusCode::UNAUTHORIZED, message) => (
                StatusCode::UNAUTHORIZED,
                [(header::WWW_AUTHENTICATE, "Bearer")],
                Json(json!({ "error": message })),
            )
                .into_response(),
            Self::Refused(status, message) => {
                (status, Json(json!({ "error": message }))).into_response()
            }
            Self::Worker(status, failure) => worker_error(status, &failure),
        }
    }
}

/// The status of a call without a result. A limit of the plugin's own is the caller's to heed.
pub fn status_of(failure: &CallFailure) -> StatusCode {
    match failure.fault.code {
        rpc::LIMIT_EXCEEDED => StatusCode::TOO_MANY_REQUESTS,
        rpc::PAYLOAD_TOO_LARGE => StatusCode::PAYLOAD_TOO_LARGE,
        _ => StatusCode::BAD_GATEWAY,
    }
}

/// Paperclip's bridge error; plugin, method and cause are ours.
fn worker_error(status: StatusCode, failure: &CallFailure) -> Response {
    let CallFailure {
        plugin,
        method,
        cause,
        fault,
    } = failure;
    let mut body = json!({
        "code": bridge_code(fault.code),
        "message": fault.message,
        "plugin": format!("{}/{}", plugin.namespace, plugin.name),
        "method": method,
        "cause": cause.as_str(),
    });
    if let Ok(details) = serde_json::from_slice::<&RawValue>(&fault.data) {
        body["details"] = json!(details);
    }
    (status, Json(body)).into_response()
}

/// Paperclip's name of a worker's fault.
fn bridge_code(code: i32) -> &'static str {
    match code {
        rpc::WORKER_UNAVAILABLE => "WORKER_UNAVAILABLE",
        rpc::CAPABILITY_DENIED => "CAPABILITY_DENIED",
        rpc::SCOPE_DENIED => "INVOCATION_SCOPE_DENIED",
        rpc::TIMEOUT => "TIMEOUT",
        rpc::WORKER_ERROR => "WORKER_ERROR",
        rpc::LIMIT_EXCEEDED => "LIMIT_EXCEEDED",
        rpc::PAYLOAD_TOO_LARGE => "PAYLOAD_TOO_LARGE",
        _ => "UNKNOWN",
    }
}
