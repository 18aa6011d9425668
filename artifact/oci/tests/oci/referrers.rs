//! Referrers in a registry that lists them itself, as newer ones do. The one of this
//! project's clusters does not; `registry.rs` covers it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use paperclip_oci::client::{StoreClient, StoreOptions};
use paperclip_oci::image::{Descriptor, INDEX_MEDIA_TYPE, MANIFEST_MEDIA_TYPE};
use paperclip_oci::referrers::{self, Referrer};
use serde_json::{Value, json};

type Content = Arc<Mutex<BTreeMap<String, Bytes>>>;

/// Keeps what is put, answers with `OCI-Subject`, and lists one referrer a page.
async fn answer(
    State(content): State<Content>,
    method: Method,
    Path(path): Path<String>,
    RawQuery(query): RawQuery,
    body: Bytes,
) -> Response {
    let mut content = content.lock().unwrap();
    let query = query.unwrap_or_default();
    if method == Method::POST {
        return (StatusCode::ACCEPTED, [(header::LOCATION, "upload")]).into_response();
    }
    if method == Method::PUT && path.ends_with("/uploads/upload") {
        let digest = query.rsplit("sha256").next().unwrap_or_default();
        let hex = digest.trim_start_matches("%3A").trim_start_matches(':');
        content.insert(format!("p/blobs/sha256:{hex}"), body);
        return StatusCode::CREATED.into_response();
    }
    if method == Method::PUT {
        let manifest: Value = serde_json::from_slice(&body).unwrap();
        let subject = manifest["subject"]["digest"].as_str().unwrap().to_owned();
        content.insert(path, body);
        return (StatusCode::CREATED, [("oci-subject", subject)]).into_response();
    }
    if path.contains("/referrers/") {
        let page: usize = query
            .strip_prefix("page=")
            .map_or(0, |page| page.parse().unwrap());
        let manifests = content
            .iter()
            .filter(|(path, _)| path.contains("/manifests/"));
        let manifests: Vec<_> = manifests.collect();
        let (_, manifest) = manifests[page];
        let listed = Descriptor::of(MANIFEST_MEDIA_TYPE, manifest);
        let index =
            json!({"schemaVersion": 2, "mediaType": INDEX_MEDIA_TYPE, "manifests": [listed]});
        let mut headers = HeaderMap::new();
        if page + 1 < manifests.len() {
            let link = format!("</v2/{path}?page={}>; rel=\"next\"", page + 1);
            headers.insert(header::LINK, link.parse().unwrap());
        }
        return (headers, index.to_string()).into_response();
    }
    match content.get(&path) {
        Some(body) => body.clone().into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

#[tokio::test]
async fn registry_that_lists_referrers_gets_no_tag_and_its_pages_are_followed() {
    crate::install_crypto();
    let content = Content::default();
    let router = Router::new()
        .route("/v2/{*path}", axum::routing::any(answer))
        .with_state(content.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, router).await });
    let store = StoreClient::new(StoreOptions::plain(&address)).unwrap();

    let subject = Descriptor::of(MANIFEST_MEDIA_TYPE, b"image");
    let referrers = ["one", "two", "three"].map(|content| {
        Referrer::new(
            "application/x",
            BTreeMap::new(),
            subject.clone(),
            content.into(),
        )
    });
    referrers::push(&store, "p", &subject.digest, &referrers)
        .await
        .unwrap();
    let tag = referrers::fallback_tag(&subject.digest);
    assert!(
        !content
            .lock()
            .unwrap()
            .keys()
            .any(|path| path.ends_with(&tag))
    );

    let found = referrers::list(&store, "p", &subject.digest).await.unwrap();
    let mut found: Vec<_> = found.into_iter().map(|one| one.descriptor.digest).collect();
    let mut wanted = referrers.map(|one| one.listed().descriptor.digest.clone());
    found.sort();
    wanted.sort();
    assert_eq!(found, wanted);
}
