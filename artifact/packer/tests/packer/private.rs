//! A registry that wants a credential, and one for a scope, which must not learn of it.

use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::{AUTHORIZATION, LOCATION};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use paperclip_artifact_format::platform::Platforms;
use paperclip_packer::npm::registry::Registry;
use paperclip_packer::steps::error::PackError;
use paperclip_packer::steps::package::Package;
use paperclip_packer::steps::work::Work;
use paperclip_packing_api::report::{Failure, FailureReason};
use serde_json::json;
use sha2::{Digest as _, Sha512};
use tokio::net::TcpListener;

use crate::poison::tarball::Tarball;
use crate::support;

const SECRET: &str = "Bearer the-secret-of-the-registry";

/// What each request to a registry had as its credential.
type Heard = Arc<Mutex<Vec<Option<String>>>>;

async fn listen(
    respond: impl Fn(&Request) -> Response + Clone + Send + Sync + 'static,
) -> (String, Heard) {
    let heard = Heard::default();
    let hear = Arc::clone(&heard);
    let router = Router::new().fallback(move |request: Request| {
        let credential = request.headers().get(AUTHORIZATION);
        let credential = credential.map(|value| value.to_str().unwrap().to_owned());
        hear.lock().unwrap().push(credential);
        let response = respond(&request);
        async { response }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    (format!("http://{address}"), heard)
}

fn metadata(name: &str, tarball: &[u8], dependencies: &serde_json::Value) -> String {
    let hash = base64::engine::general_purpose::STANDARD.encode(Sha512::digest(tarball));
    let release = json!({
        "name": name, "version": "1.0.0", "dependencies": dependencies,
        "dist": {"integrity": format!("sha512-{hash}"), "tarball": "http://elsewhere.invalid/x.tgz"},
    });
    json!({"name": name, "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": release}})
        .to_string()
}

/// A registry of one package, whose tarball is elsewhere, and one of another package.
async fn registries() -> (String, String, Heard) {
    let other = Tarball::of("@other/y").end();
    let plugin = Tarball::of("plugin").end();
    let (of_other, of_plugin) = (other.clone(), plugin.clone());
    let (scope, heard) = listen(move |request| match request.uri().path() {
        "/npm/@other%2fy" => metadata("@other/y", &of_other, &json!({})).into_response(),
        "/npm/@other/y/-/y-1.0.0.tgz" => of_other.clone().into_response(),
        "/storage/plugin" => of_plugin.clone().into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    })
    .await;
    let storage = format!("{scope}/storage/plugin");
    let (main, _) = listen(move |request| {
        if request
            .headers()
            .get(AUTHORIZATION)
            .is_none_or(|found| found != SECRET)
        {
            return StatusCode::UNAUTHORIZED.into_response();
        }
        match request.uri().path() {
            "/deep/plugin" => metadata(
                "plugin",
                &plugin,
                &json!({"@other/y": "^1.0.0", "z": "npm:@other/y@1"}),
            )
            .into_response(),
            "/deep/plugin/-/plugin-1.0.0.tgz" => {
                (StatusCode::FOUND, [(LOCATION, storage.clone())]).into_response()
            }
            _ => StatusCode::NOT_FOUND.into_response(),
        }
    })
    .await;
    (main, scope, heard)
}

async fn pack(main: &str, npmrc: Option<String>, folder: &Path) -> Result<usize, PackError> {
    let mut registry = Registry::new(&format!("{main}/deep/"));
    let settings = tempfile::tempdir().unwrap();
    if let Some(text) = npmrc {
        let path = settings.path().join("npmrc");
        std::fs::write(&path, text).unwrap();
        registry.npmrc = Some(path);
    }
    let platforms = Platforms::default();
    let package = Package {
        name: "plugin",
        version: "1.0.0",
        lock: None,
        relock: None,
        platforms: &platforms,
    };
    let toolchain = support::toolchain().await;
    let work = Work::at(folder);
    Ok(work
        .fetch(&package, &registry, &toolchain, None)
        .await?
        .packages)
}

#[tokio::test]
async fn credential_reaches_its_registry_and_neither_npm_nor_another_host() {
    let (main, scope, heard) = registries().await;
    let place = main.trim_start_matches("http:");
    let token = SECRET.trim_start_matches("Bearer ");
    let npmrc = format!("{place}/deep/:_authToken={token}\n@other:registry={scope}/npm\n");
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(pack(&main, Some(npmrc), folder.path()).await.unwrap(), 3);
    let heard = heard.lock().unwrap();
    assert!(
        heard.len() >= 3 && heard.iter().all(Option::is_none),
        "{heard:?}"
    );
    for found in walkdir::WalkDir::new(folder.path()) {
        let found = found.unwrap();
        if found.file_type().is_file() {
            let content = std::fs::read(found.path()).unwrap();
            let holds = content
                .windows(token.len())
                .any(|window| window == token.as_bytes());
            assert!(!holds, "{}", found.path().display());
        }
    }
}

#[tokio::test]
async fn registry_that_denies_access_is_told_apart_from_one_that_is_away() {
    let (main, _, _) = registries().await;
    let folder = tempfile::tempdir().unwrap();
    let denied = Failure::from(&pack(&main, None, folder.path()).await.unwrap_err());
    assert_eq!(
        denied.reason,
        FailureReason::RegistryAccessDenied,
        "{denied:?}"
    );
    assert!(denied.message.contains(&main), "{denied:?}");
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let away = pack(&format!("http://{free}"), None, folder.path()).await;
    let away = Failure::from(&away.unwrap_err());
    assert_eq!(away.reason, FailureReason::RegistryUnavailable, "{away:?}");
    assert!(away.message.contains("ECONNREFUSED"), "{away:?}");
}
