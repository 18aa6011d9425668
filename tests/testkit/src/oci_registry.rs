//! A registry of images in memory, as the OCI distribution specification has it, that can be
//! made dishonest.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    Router,
    body::{Bytes, to_bytes},
    extract::{Request, State},
    http::{
        Method, StatusCode,
        header::{AUTHORIZATION, LOCATION},
    },
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest as _, Sha256};

use crate::http_server::serve;

const MAX_BODY: usize = 64 * 1024 * 1024;

#[derive(Clone, Default)]
struct Shared {
    content: Arc<Mutex<BTreeMap<String, Bytes>>>,
    authorization: Option<String>,
}

impl Shared {
    fn content(&self) -> MutexGuard<'_, BTreeMap<String, Bytes>> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The registry, on a free port. It ends with the runtime.
pub struct OciRegistry {
    address: String,
    shared: Shared,
}

impl OciRegistry {
    /// One that everybody may use.
    pub async fn start() -> Self {
        Self::with(Shared::default()).await
    }

    /// One that takes this credential and no other.
    pub async fn start_with_credential(username: &str, password: &str) -> Self {
        let both = STANDARD.encode(format!("{username}:{password}"));
        Self::with(Shared {
            authorization: Some(format!("Basic {both}")),
            ..Shared::default()
        })
        .await
    }

    async fn with(shared: Shared) -> Self {
        let router = Router::new().fallback(answer).with_state(shared.clone());
        Self {
            address: serve(router).await,
            shared,
        }
    }

    /// `host:port`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Everything of a repository, by path.
    #[must_use]
    pub fn content(&self, repository: &str) -> BTreeMap<String, Bytes> {
        let prefix = format!("/v2/{repository}/");
        let mut content = self.shared.content().clone();
        content.retain(|path, _| path.starts_with(&prefix));
        content
    }

    /// Puts bytes at a path, honest or not.
    pub fn put(&self, path: &str, bytes: impl Into<Bytes>) {
        self.shared.content().insert(path.to_owned(), bytes.into());
    }

    /// Removes everything.
    pub fn clear(&self) {
        self.shared.content().clear();
    }

    /// Changes a byte of a blob, which keeps its name.
    ///
    /// # Panics
    /// When there is no such blob.
    pub fn spoil(&self, repository: &str, digest: &str) {
        let path = format!("/v2/{repository}/blobs/{digest}");
        let mut content = self.shared.content();
        let blob = content.get_mut(&path).expect("a blob of this digest");
        let mut other = blob.to_vec();
        other[0] ^= 1;
        *blob = other.into();
    }
}

async fn answer(State(shared): State<Shared>, request: Request) -> Response {
    let authorization = request.headers().get(AUTHORIZATION);
    if let Some(wanted) = &shared.authorization
        && authorization.is_none_or(|found| found != wanted.as_str())
    {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    let Ok(body) = to_bytes(body, MAX_BODY).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let mut content = shared.content();
    match parts.method {
        Method::POST => (StatusCode::ACCEPTED, [(LOCATION, format!("{path}one"))]).into_response(),
        Method::PUT => take(&mut content, path, parts.uri.query(), body),
        _ => match content.get(path) {
            Some(bytes) => bytes.clone().into_response(),
            None => StatusCode::NOT_FOUND.into_response(),
        },
    }
}

/// The end of a blob's upload, or a manifest, which is there under its digest, too.
fn take(
    content: &mut BTreeMap<String, Bytes>,
    path: &str,
    query: Option<&str>,
    body: Bytes,
) -> Response {
    if let Some((repository, _)) = path.split_once("/blobs/uploads/") {
        let query = query.unwrap_or_default().replace("%3A", ":");
        let Some(digest) = query.strip_prefix("digest=") else {
            return StatusCode::BAD_REQUEST.into_response();
        };
        content.insert(format!("{repository}/blobs/{digest}"), body);
    } else if let Some((repository, _)) = path.split_once("/manifests/") {
        let digest = hex::encode(Sha256::digest(&body));
        content.insert(
            format!("{repository}/manifests/sha256:{digest}"),
            body.clone(),
        );
        content.insert(path.to_owned(), body);
    } else {
        return StatusCode::NOT_FOUND.into_response();
    }
    StatusCode::CREATED.into_response()
}
