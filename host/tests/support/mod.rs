//! A host over real sockets: its HTTP API, a database in a temporary folder, and plugin pods
//! that serve the contract over mutual TLS.
#![allow(missing_docs)]

pub mod pod;

use std::{net::SocketAddr, path::Path, time::Duration};

use paperclip_bridge::tls::{CA_FILE, CERTIFICATE_FILE, KEY_FILE};
use paperclip_host::{
    args::{AuthMode, PluginAddress, ServeArgs},
    clock::Clock,
    serve::Server,
};
use paperclip_identity::Identity;
use paperclip_identity_issue::Subject;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;
use tempfile::TempDir;
use time::OffsetDateTime;
use tokio::{sync::oneshot, task::JoinHandle};

use pod::Pod;

pub const UID: &str = "0e8f5a4c-3a0f-4a52-9d39-0f0d6d2f8f11";
pub const TOKEN: &str = "a-token";
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The platform's authority.
pub struct Authority(paperclip_identity_issue::Authority);

/// Certificate, key and CA as PEM.
pub struct Leaf {
    pub certificate: String,
    pub key: String,
    pub ca: String,
}

impl Authority {
    pub fn new() -> Self {
        let now = OffsetDateTime::now_utc();
        Self(paperclip_identity_issue::Authority::create(now).unwrap())
    }

    pub fn issue(&self, identity: Identity) -> Leaf {
        let subject = Subject::Identity(identity);
        let issued = self.0.issue(&subject, OffsetDateTime::now_utc()).unwrap();
        Leaf {
            certificate: issued.certificate,
            key: issued.key,
            ca: self.0.certificate().to_owned(),
        }
    }
}

/// A running host.
pub struct Host {
    pub folder: TempDir,
    api: SocketAddr,
    health: SocketAddr,
    client: reqwest::Client,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<()>,
}

/// What a test changes about the host.
pub type Change = fn(&mut ServeArgs);

impl Host {
    pub async fn start(authority: &Authority, pods: &[&Pod]) -> Self {
        Self::start_with(authority, pods, tempfile::tempdir().unwrap(), |_| {}).await
    }

    pub async fn start_with(
        authority: &Authority,
        pods: &[&Pod],
        folder: TempDir,
        change: Change,
    ) -> Self {
        Self::start_at(authority, pods, folder, change, Clock::default()).await
    }

    pub async fn start_at(
        authority: &Authority,
        pods: &[&Pod],
        folder: TempDir,
        change: Change,
        clock: Clock,
    ) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        write_files(authority, folder.path());
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut args = ServeArgs {
            listen: local,
            health_listen: local,
            database: format!("sqlite://{}/host.db", folder.path().display()),
            tls_dir: folder.path().to_owned(),
            host_namespace: "paperclip".into(),
            host_name: "main".into(),
            replica: "host-0".into(),
            auth: AuthMode::StaticTokenFile,
            token_file: Some(folder.path().join("tokens")),
            plugin_address: pods
                .iter()
                .map(|pod| {
                    format!("{}={}", pod.plugin, pod.address)
                        .parse::<PluginAddress>()
                        .unwrap()
                })
                .collect(),
            watch_namespace: Vec::new(),
            http_fetch_allow_cidr: Vec::new(),
            strict_scopes: false,
            max_held_calls: 256,
        };
        change(&mut args);
        let server = Server::bind_with(args, clock).await.unwrap();
        let (api, health) = (
            server.api_address().unwrap(),
            server.health_address().unwrap(),
        );
        let (stop, stopped) = oneshot::channel::<()>();
        let ended = tokio::spawn(async move {
            server
                .run(async {
                    let _ = stopped.await;
                })
                .await
                .unwrap();
        });
        Self {
            folder,
            api,
            health,
            client: reqwest::Client::new(),
            stop,
            ended,
        }
    }

    /// Stops the host and gives its folder, database included.
    pub async fn stop(self) -> TempDir {
        let _ = self.stop.send(());
        self.ended.await.unwrap();
        self.folder
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client
            .request(method, format!("http://{}{path}", self.api))
            .bearer_auth(TOKEN)
    }

    pub async fn get(&self, path: &str) -> (StatusCode, Value) {
        read(self.request(Method::GET, path).send().await.unwrap()).await
    }

    pub async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        read(
            self.request(Method::POST, path)
                .json(&body)
                .send()
                .await
                .unwrap(),
        )
        .await
    }

    pub async fn anonymous(&self, method: Method, path: &str) -> (StatusCode, Value) {
        let url = format!("http://{}{path}", self.api);
        read(self.client.request(method, url).send().await.unwrap()).await
    }

    pub async fn health(&self, path: &str) -> (StatusCode, String) {
        let answer = self
            .client
            .get(format!("http://{}{path}", self.health))
            .send()
            .await
            .unwrap();
        (answer.status(), answer.text().await.unwrap())
    }

    /// Gets a path until its answer is as wanted.
    pub async fn wait_for(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let found = tokio::time::timeout(PATIENCE, async {
            loop {
                last = self.get(path).await.1;
                if wanted(&last) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        assert!(found.is_ok(), "{path} stayed {last}");
        last
    }
}

pub async fn read(answer: Response) -> (StatusCode, Value) {
    let status = answer.status();
    let text = answer.text().await.unwrap();
    let body = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{status}: {text:?}"));
    (status, body)
}

pub fn write_files(authority: &Authority, folder: &Path) {
    let leaf = authority.issue(Identity::Host {
        namespace: "paperclip".into(),
        name: "main".into(),
    });
    for (name, text) in [
        (CERTIFICATE_FILE, leaf.certificate),
        (KEY_FILE, leaf.key),
        (CA_FILE, leaf.ca),
        ("tokens", format!("{TOKEN}\n")),
    ] {
        std::fs::write(folder.join(name), text).unwrap();
    }
}
