//! An npm registry that means harm, and a store that must hear of nothing.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::header::{CONTENT_ENCODING, LOCATION};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use futures::StreamExt as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha512};
use tokio::net::TcpListener;

pub const VERSION: &str = "1.0.0";

/// What a registry answers.
#[derive(Clone, Debug)]
pub enum Answer {
    Bytes(Vec<u8>),
    Json(Value),
    /// A redirect.
    To(String),
    /// A redirect to the same URL.
    ToItself,
    Missing,
    /// Bytes without end.
    Endless,
    /// Half of what it announces.
    Half(Vec<u8>),
    /// JSON that is small as sent and huge after.
    Bomb,
}

/// The metadata of one package, and its tarball.
#[derive(Clone, Debug)]
pub struct Served {
    pub metadata: Answer,
    pub tarball: Answer,
}

pub fn integrity(tarball: &[u8]) -> String {
    let hash = base64::engine::general_purpose::STANDARD.encode(Sha512::digest(tarball));
    format!("sha512-{hash}")
}

/// Metadata of one version, as registries write it.
pub fn metadata(name: &str, distribution: Value, more: &Value) -> Value {
    let mut release = json!({"name": name, "version": VERSION, "dist": distribution});
    for (key, value) in more.as_object().into_iter().flatten() {
        release[key] = value.clone();
    }
    json!({"name": name, "dist-tags": {"latest": VERSION}, "versions": {VERSION: release}})
}

/// Listens on a free port for ever and gives the URL.
pub async fn serve(served: Served) -> String {
    let served = Arc::new(served);
    let router = Router::new().fallback(move |request: Request| {
        let served = Arc::clone(&served);
        async move {
            let answer = if request.uri().path().contains("/-/") {
                &served.tarball
            } else {
                &served.metadata
            };
            respond(answer, request.uri().path())
        }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}/")
}

fn respond(answer: &Answer, path: &str) -> Response {
    match answer {
        Answer::Bytes(bytes) => bytes.clone().into_response(),
        Answer::Json(value) => value.to_string().into_response(),
        Answer::To(target) => (StatusCode::FOUND, [(LOCATION, target.clone())]).into_response(),
        Answer::ToItself => (StatusCode::FOUND, [(LOCATION, path.to_owned())]).into_response(),
        Answer::Missing => StatusCode::NOT_FOUND.into_response(),
        Answer::Endless => {
            let block = Bytes::from(vec![b' '; 1 << 20]);
            let blocks = futures::stream::repeat(Ok::<_, Infallible>(block));
            Body::from_stream(blocks).into_response()
        }
        Answer::Half(bytes) => {
            let half = Bytes::copy_from_slice(&bytes[..bytes.len() / 2]);
            let broken = futures::stream::iter([Ok(half), Err(std::io::Error::other("cut"))]);
            let paced = broken.then(|part| async { part });
            (
                [("content-length", bytes.len().to_string())],
                Body::from_stream(paced),
            )
                .into_response()
        }
        Answer::Bomb => {
            let plain = vec![b' '; 80 << 20];
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            std::io::Write::write_all(&mut gzip, &plain).unwrap();
            ([(CONTENT_ENCODING, "gzip")], gzip.finish().unwrap()).into_response()
        }
    }
}

/// A store that is empty, and counts who would change that.
#[derive(Clone, Default)]
pub struct Store {
    writes: Arc<AtomicUsize>,
}

impl Store {
    pub fn writes(&self) -> usize {
        self.writes.load(Ordering::Relaxed)
    }

    /// Listens on a free port for ever and gives its address.
    pub async fn serve(&self) -> String {
        let writes = Arc::clone(&self.writes);
        let router = Router::new().fallback(move |method: Method| {
            let is_read = matches!(method, Method::GET | Method::HEAD);
            writes.fetch_add(usize::from(!is_read), Ordering::Relaxed);
            async { StatusCode::NOT_FOUND }
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        address.to_string()
    }
}
