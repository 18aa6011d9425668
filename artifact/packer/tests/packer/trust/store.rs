//! A registry in memory that takes what is pushed, and an artifact in it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use paperclip_artifact::attachment::Kind;
use paperclip_artifact::trust::{Evidence, Subject};
use paperclip_oci::Digest;
use paperclip_oci::client::{StoreClient, StoreOptions};
use paperclip_oci::image::{Descriptor, ImageBuilder, LayerBuilder, MANIFEST_MEDIA_TYPE};
use paperclip_oci::referrers;
use serde_json::json;

type Content = Arc<Mutex<BTreeMap<String, Bytes>>>;

async fn answer(
    State(content): State<Content>,
    method: Method,
    Path(path): Path<String>,
    RawQuery(query): RawQuery,
    body: Bytes,
) -> Response {
    let mut content = content.lock().unwrap();
    if method == Method::POST {
        let place = format!("/v2/{path}upload");
        return (StatusCode::ACCEPTED, [(header::LOCATION, place)]).into_response();
    }
    if method == Method::PUT && path.ends_with("/uploads/upload") {
        let query = query.unwrap_or_default();
        let hex = &query[query.len() - 64..];
        content.insert(format!("p/blobs/sha256:{hex}"), body);
        return StatusCode::CREATED.into_response();
    }
    if method == Method::PUT {
        content.insert(format!("p/manifests/{}", Digest::of(&body)), body.clone());
        content.insert(path, body);
        return StatusCode::CREATED.into_response();
    }
    match content.get(&path) {
        Some(bytes) => bytes.clone().into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// A store, and the artifact of a package in its repository `p`.
pub struct Store {
    pub client: StoreClient,
    pub address: String,
    pub digest: Digest,
    image: Descriptor,
}

impl Store {
    pub async fn with_artifact(subject: &Subject) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let router = Router::new()
            .route("/v2/{*path}", axum::routing::any(answer))
            .with_state(Content::default());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move { axum::serve(listener, router).await });
        let client = StoreClient::new(StoreOptions::plain(&address)).unwrap();
        let Subject {
            package,
            version,
            integrity,
            ..
        } = subject;
        let lock = json!({
            "name": "root", "lockfileVersion": 3, "requires": true,
            "packages": {
                "": { "dependencies": { package: version } },
                format!("node_modules/{package}"): {
                    "version": version,
                    "resolved": format!("https://registry.example/{package}/-/p-{version}.tgz"),
                    "integrity": integrity,
                },
            },
        });
        let artifact = json!({ "package": package, "version": version });
        let facts = LayerBuilder::new()
            .bytes(".paperclip/artifact.json", artifact.to_string(), 0o644)
            .bytes(".paperclip/marker", "0".repeat(64), 0o644)
            .bytes(".paperclip/package-lock.json", lock.to_string(), 0o644)
            .bytes(".paperclip/plugin-manifest.json", "{}", 0o644)
            .build()
            .unwrap();
        let tree = LayerBuilder::new()
            .bytes("package.json", "{}", 0o644)
            .build()
            .unwrap();
        let image = ImageBuilder::new().layer(facts).layer(tree).build();
        let digest = client.push_image("p", &image, &["t"]).await.unwrap();
        Self {
            client,
            address,
            digest,
            image: image.descriptor(),
        }
    }

    pub async fn attach(&self, evidence: &Evidence) {
        let content = evidence.to_bytes().unwrap();
        let referrer = Kind::Evidence.attach(self.image.clone(), content.into());
        assert_eq!(self.image.media_type, MANIFEST_MEDIA_TYPE);
        referrers::push(&self.client, "p", &self.digest, &[referrer])
            .await
            .unwrap();
    }
}
