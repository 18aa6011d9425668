//! A registry of images in memory that takes what is pushed, as the OCI distribution
//! specification has it, and that can spoil what it holds.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, LOCATION};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use paperclip_oci::Digest;
use paperclip_oci::client::{Credentials, StoreClient, StoreOptions};

const USER: &str = "me";

/// What is in it, by path.
type Content = Arc<Mutex<BTreeMap<String, Bytes>>>;

#[derive(Clone)]
struct Shared {
    content: Content,
    authorization: Option<String>,
}

/// The registry. It ends with the runtime.
pub struct OciRegistry {
    address: String,
    shared: Shared,
}

impl OciRegistry {
    /// One that wants this password, if any.
    pub async fn start(password: Option<&str>) -> Self {
        super::install_crypto();
        let authorization = password.map(|password| {
            let both = STANDARD.encode(format!("{USER}:{password}"));
            format!("Basic {both}")
        });
        let shared = Shared {
            content: Content::default(),
            authorization,
        };
        let router = Router::new().fallback(serve).with_state(shared.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, shared }
    }

    /// A client with this password.
    pub fn client(&self, password: Option<&str>) -> StoreClient {
        let credentials = password.map(|password| Credentials {
            username: USER.into(),
            password: password.into(),
        });
        StoreClient::new(StoreOptions {
            credentials,
            ..StoreOptions::plain(&self.address)
        })
        .unwrap()
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Everything of a repository, by path.
    pub fn content(&self, repository: &str) -> BTreeMap<String, Bytes> {
        let content = self.shared.content.lock().unwrap();
        let of = content
            .iter()
            .filter(|(path, _)| path.starts_with(&format!("/v2/{repository}/")));
        of.map(|(path, bytes)| (path.clone(), bytes.clone()))
            .collect()
    }

    /// From now on it sends something else for a blob.
    pub fn spoil(&self, repository: &str, digest: &Digest) {
        let path = format!("/v2/{repository}/blobs/{digest}");
        let mut content = self.shared.content.lock().unwrap();
        let blob = content.get_mut(&path).unwrap();
        let mut other = blob.to_vec();
        other[0] ^= 1;
        *blob = other.into();
    }
}

async fn serve(State(shared): State<Shared>, request: Request) -> Response {
    let authorization = request.headers().get(AUTHORIZATION);
    if let Some(wanted) = &shared.authorization
        && authorization.is_none_or(|found| found != wanted.as_str())
    {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let body = axum::body::to_bytes(body, 64 * 1024 * 1024).await.unwrap();
    let mut content = shared.content.lock().unwrap();
    if parts.method == Method::POST {
        return (StatusCode::ACCEPTED, [(LOCATION, format!("{path}one"))]).into_response();
    }
    if parts.method == Method::PUT {
        if let Some((repository, _)) = path.split_once("/blobs/uploads/") {
            let query = parts.uri.query().unwrap_or_default().replace("%3A", ":");
            let digest = query.strip_prefix("digest=").unwrap();
            content.insert(format!("{repository}/blobs/{digest}"), body);
        } else {
            let (repository, _) = path.split_once("/manifests/").unwrap();
            let by_digest = format!("{repository}/manifests/{}", Digest::of(&body));
            content.insert(by_digest, body.clone());
            content.insert(path, body);
        }
        return StatusCode::CREATED.into_response();
    }
    match content.get(&path) {
        Some(bytes) => bytes.clone().into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
