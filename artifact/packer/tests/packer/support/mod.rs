//! What the integration tests share: the toolchain, the npm registry and a store.

pub mod oci;
pub mod real;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Path as UrlPath, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use paperclip_oci::Digest;
use paperclip_oci::client::{StoreClient, StoreOptions};
use paperclip_packer::npm::registry::Registry;
use paperclip_packer::npm::toolchain::Toolchain;

/// The folder that keeps what tests bring from outside between runs.
pub fn cache() -> PathBuf {
    std::env::var_os("PAPERCLIP_CACHE")
        .map(PathBuf::from)
        .unwrap_or_else(|| {
            let home = std::env::var_os("HOME").expect("HOME is set");
            PathBuf::from(home).join(".cache/paperclip-kubernetes")
        })
}

/// The npm registry of the run.
pub fn npm_registry() -> Registry {
    let url = std::env::var("PAPERCLIP_NPM_REGISTRY").unwrap_or_else(|_| {
        let npm = std::process::Command::new("npm")
            .args(["config", "get", "registry"])
            .output()
            .expect("npm says which registry this machine uses");
        String::from_utf8(npm.stdout)
            .expect("a URL")
            .trim()
            .to_owned()
    });
    let mut registry = Registry::new(&url);
    registry.ca = std::env::var_os("NODE_EXTRA_CA_CERTS").map(PathBuf::from);
    registry
}

pub async fn toolchain() -> Toolchain {
    install_crypto();
    Toolchain::provision(&cache(), &npm_registry())
        .await
        .expect("the pinned toolchain")
}

pub fn install_crypto() {
    // Another test of this process may have been first.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

pub fn packer() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_paperclip-packer"))
}

type Content = Arc<Mutex<HashMap<String, Vec<u8>>>>;

/// A registry in memory that serves whatever it was given, honest or not.
#[derive(Clone, Default)]
pub struct MemoryRegistry {
    content: Content,
}

impl MemoryRegistry {
    /// Serves bytes under a digest that may be another's.
    pub fn put(&self, digest: &Digest, bytes: Vec<u8>) {
        self.content
            .lock()
            .unwrap()
            .insert(digest.to_string(), bytes);
    }

    /// Forgets all it was given.
    #[allow(dead_code, reason = "fuzzing alone does, between inputs")]
    pub fn clear(&self) {
        self.content.lock().unwrap().clear();
    }

    /// Listens on a free port and gives a client.
    pub async fn serve(&self) -> StoreClient {
        install_crypto();
        let serve = |State(content): State<Content>, UrlPath(path): UrlPath<String>| async move {
            let name = path.rsplit('/').next().unwrap_or_default();
            match content.lock().unwrap().get(name) {
                Some(bytes) => bytes.clone().into_response(),
                None => StatusCode::NOT_FOUND.into_response(),
            }
        };
        let router = Router::new()
            .route("/v2/{*path}", axum::routing::get(serve))
            .with_state(self.content.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        StoreClient::new(StoreOptions::plain(&address.to_string())).unwrap()
    }
}
