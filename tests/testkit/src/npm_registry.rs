//! A registry of npm in memory: releases with their tarballs.

use std::collections::BTreeMap;

use axum::{
    http::{StatusCode, header::AUTHORIZATION},
    response::IntoResponse as _,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha512};

use crate::http_server::HttpServer;

/// Paths and what is there, to be served.
#[derive(Clone, Debug, Default)]
pub struct NpmRegistry {
    answers: BTreeMap<String, Vec<u8>>,
    token: Option<String>,
}

impl NpmRegistry {
    /// A registry without packages.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Wants this bearer token.
    #[must_use]
    pub fn token(mut self, token: &str) -> Self {
        self.token = Some(format!("Bearer {token}"));
        self
    }

    /// Publishes a package's only release. `more` are fields of its description.
    #[must_use]
    pub fn release(mut self, name: &str, version: &str, tarball: Vec<u8>, more: &Value) -> Self {
        let metadata = packument(name, version, &integrity(&tarball), more);
        let file = name.rsplit('/').next().unwrap_or(name);
        let escaped = name.replace('/', "%2f");
        let metadata = metadata.to_string().into_bytes();
        self.answers.insert(format!("/{escaped}"), metadata);
        self.answers
            .insert(format!("/{name}/-/{file}-{version}.tgz"), tarball);
        self
    }

    /// Serves it on a free port of the loopback address.
    pub async fn start(self) -> HttpServer {
        self.start_at("127.0.0.1").await
    }

    /// The same on an address of this machine.
    pub async fn start_at(self, ip: &str) -> HttpServer {
        HttpServer::start_at(ip, move |request| {
            let authorization = request.headers().get(AUTHORIZATION);
            if let Some(token) = &self.token
                && authorization.is_none_or(|found| found != token.as_str())
            {
                return StatusCode::UNAUTHORIZED.into_response();
            }
            match self.answers.get(request.uri().path()) {
                Some(answer) => answer.clone().into_response(),
                None => StatusCode::NOT_FOUND.into_response(),
            }
        })
        .await
    }
}

/// The metadata of a package with one release, as registries write it. Its tarball's URL leads
/// nowhere, since clients are to look for it in the registry that they asked.
#[must_use]
pub fn packument(name: &str, version: &str, integrity: &str, more: &Value) -> Value {
    let mut release = json!({
        "name": name, "version": version,
        "dist": {"integrity": integrity, "tarball": "http://elsewhere.invalid/x.tgz"},
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        release[key] = value.clone();
    }
    json!({"name": name, "dist-tags": {"latest": version}, "versions": {version: release}})
}

/// The integrity of a tarball, as npm writes it.
#[must_use]
pub fn integrity(tarball: &[u8]) -> String {
    format!("sha512-{}", STANDARD.encode(Sha512::digest(tarball)))
}
