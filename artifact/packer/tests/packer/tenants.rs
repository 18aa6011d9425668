//! What a tenant packs with a registry or a credential of its own is for that tenant, and a
//! tenant's registry is no way to what is near.

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::{AUTHORIZATION, LOCATION};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use paperclip_artifact::inputs::{Inputs, LOCK_MEDIA_TYPE};
use paperclip_artifact_format::platform::Platforms;
use paperclip_oci::client::{StoreClient, StoreOptions};
use paperclip_packer::npm::registry::Registry;
use paperclip_packer::steps::error::PackError;
use paperclip_packer::steps::package::{Package, RemoteTarball, Terms};
use paperclip_packer::steps::work::Work;
use paperclip_packing_api::login::Login;
use paperclip_packing_api::report::{self, Failure, FailureReason, StepReport};
use paperclip_packing_api::resolve::Resolved;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha512};
use tokio::net::TcpListener;

use crate::poison::tarball::Tarball;
use crate::support;
use crate::support::oci::OciRegistry;

const TOKEN: &str = "token-of-a-tenant";
const REPOSITORY: &str = "plugins/plugin";

fn integrity(tarball: &[u8]) -> String {
    format!("sha512-{}", STANDARD.encode(Sha512::digest(tarball)))
}

/// Paths that were asked for with success.
type Served = Arc<Mutex<Vec<String>>>;

/// A server of fixed answers that wants the token.
struct Server {
    url: String,
    served: Served,
}

impl Server {
    async fn start(answers: BTreeMap<String, Vec<u8>>) -> Self {
        Self::with(move |request| {
            let wanted = format!("Bearer {TOKEN}");
            let authorization = request.headers().get(AUTHORIZATION);
            if authorization.is_none_or(|found| found != wanted.as_str()) {
                return StatusCode::UNAUTHORIZED.into_response();
            }
            match answers.get(request.uri().path()) {
                Some(answer) => answer.clone().into_response(),
                None => StatusCode::NOT_FOUND.into_response(),
            }
        })
        .await
    }

    async fn with(respond: impl Fn(&Request) -> Response + Clone + Send + Sync + 'static) -> Self {
        support::install_crypto();
        let served = Served::default();
        let log = Arc::clone(&served);
        let router = Router::new().fallback(move |request: Request| {
            let response = respond(&request);
            if response.status().is_success() {
                log.lock().unwrap().push(request.uri().path().to_owned());
            }
            async { response }
        });
        let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let url = format!("http://127.0.0.1:{}", listener.local_addr().unwrap().port());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, served }
    }

    /// Its URL at an address of this machine that is not loopback.
    fn url_from_outside(&self) -> String {
        // Nothing is sent: the system only says from where it would be.
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect("192.0.2.1:9").unwrap();
        let address = socket.local_addr().unwrap().ip();
        self.url.replace("127.0.0.1", &address.to_string())
    }

    /// How often a tarball was downloaded.
    fn downloads(&self) -> usize {
        let served = self.served.lock().unwrap();
        served.iter().filter(|path| path.ends_with(".tgz")).count()
    }

    /// Access to it, with the token or without. The tests' servers are on loopback, where a
    /// tenant's may not be, so here they are the platform's.
    fn access(&self, folder: &Path, token: Option<&str>) -> Registry {
        let mut registry = Registry::new(&self.url);
        if let Some(token) = token {
            let login = Login::Token(token.into());
            let path = folder.join("npmrc");
            std::fs::write(&path, login.npmrc(&self.url).unwrap()).unwrap();
            registry.npmrc = Some(path);
        }
        registry
    }
}

fn metadata(name: &str, tarball: &[u8]) -> Vec<u8> {
    let release = json!({
        "name": name, "version": "1.0.0",
        "dist": {"integrity": integrity(tarball), "tarball": "http://elsewhere.invalid/x.tgz"},
    });
    json!({"name": name, "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": release}})
        .to_string()
        .into_bytes()
}

/// A registry of one package.
async fn npm(package: &str) -> (Server, Vec<u8>) {
    let tarball = Tarball::of(package).end();
    let answers = BTreeMap::from([
        (format!("/{package}"), metadata(package, &tarball)),
        (format!("/{package}/-/{package}-1.0.0.tgz"), tarball.clone()),
    ]);
    (Server::start(answers).await, tarball)
}

/// Fetches a package on terms and keeps its tarballs, as the steps of a Job do.
async fn fetch(
    terms: &Terms<'_>,
    registry: &Registry,
    store: &StoreClient,
) -> Result<Value, PackError> {
    let platforms = Platforms::default();
    let package = Package {
        name: "plugin",
        version: "1.0.0",
        lock: None,
        relock: None,
        platforms: &platforms,
    };
    let toolchain = support::toolchain().await;
    let folder = tempfile::tempdir().unwrap();
    let work = Work::at(folder.path());
    work.fetch_on(
        terms,
        &package,
        registry,
        &toolchain,
        Some((store, REPOSITORY)),
    )
    .await?;
    work.keep_tarballs(store).await?;
    let state = std::fs::read(folder.path().join("fetched.json")).unwrap();
    Ok(serde_json::from_slice(&state).unwrap())
}

fn failure(result: Result<Value, PackError>) -> Failure {
    Failure::from(&result.unwrap_err())
}

#[tokio::test]
async fn what_a_tenant_downloaded_is_lent_to_it_and_to_nobody_else() {
    let (server, tarball) = npm("plugin").await;
    let oci = OciRegistry::start(None).await;
    let store = oci.client(None);
    let settings = tempfile::tempdir().unwrap();
    let (known, unknown) = (
        server.access(settings.path(), Some(TOKEN)),
        server.access(settings.path(), None),
    );
    let hash = integrity(&tarball);
    let terms = |owner| Terms {
        integrity: Some(&hash),
        owner,
        ..Terms::default()
    };
    fetch(&terms(Some("aa")), &known, &store).await.unwrap();
    assert_eq!(server.downloads(), 1);
    fetch(&terms(Some("aa")), &known, &store).await.unwrap();
    assert_eq!(server.downloads(), 1, "its own is in the store");
    fetch(&terms(Some("bb")), &known, &store).await.unwrap();
    assert_eq!(server.downloads(), 2, "another downloads for itself");
    assert!(oci.content("tarballs/aa").len() >= 2);
    let shared = oci.content("tarballs");
    let shared = shared
        .keys()
        .filter(|path| !path.starts_with("/v2/tarballs/aa/"));
    let shared: Vec<_> = shared
        .filter(|path| !path.starts_with("/v2/tarballs/bb/"))
        .collect();
    assert!(shared.is_empty(), "{shared:?}");
    for owner in [None, Some("cc")] {
        let denied = failure(fetch(&terms(owner), &unknown, &store).await);
        assert_eq!(
            denied.reason,
            FailureReason::RegistryAccessDenied,
            "{denied:?}"
        );
    }
}

#[tokio::test]
async fn who_knows_the_hash_of_a_tenants_tarball_does_not_get_it() {
    let (private, tarball) = npm("secret").await;
    let (public, _) = npm("plugin").await;
    let oci = OciRegistry::start(None).await;
    let store = oci.client(None);
    let settings = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let access = |server: &Server, at: usize| server.access(settings[at].path(), Some(TOKEN));
    // The tenant's package is in the store.
    let platforms = Platforms::default();
    let toolchain = support::toolchain().await;
    let secret = Package {
        name: "secret",
        version: "1.0.0",
        lock: None,
        relock: None,
        platforms: &platforms,
    };
    let folder = tempfile::tempdir().unwrap();
    let work = Work::at(folder.path());
    let terms = Terms {
        owner: Some("aa"),
        ..Terms::default()
    };
    let shelf = Some((&store, "plugins/secret"));
    let registry = access(&private, 0);
    let fetched = work.fetch_on(&terms, &secret, &registry, &toolchain, shelf);
    fetched.await.unwrap();
    work.keep_tarballs(&store).await.unwrap();
    // Another names its hash in a lock of a package of its own.
    let plugin = Tarball::of("plugin").end();
    let lock = json!({
        "lockfileVersion": 3,
        "packages": {
            "": {"dependencies": {"plugin": "1.0.0"}},
            "node_modules/plugin": {"version": "1.0.0", "integrity": integrity(&plugin), "dependencies": {"secret": "1.0.0"}},
            "node_modules/secret": {"version": "1.0.0", "integrity": integrity(&tarball)},
        },
    });
    let lock = lock.to_string();
    let package = Package {
        name: "plugin",
        version: "1.0.0",
        lock: Some(&lock),
        relock: None,
        platforms: &platforms,
    };
    let registry = access(&public, 1);
    for owner in [None, Some("bb")] {
        let folder = tempfile::tempdir().unwrap();
        let terms = Terms {
            owner,
            ..Terms::default()
        };
        let shelf = Some((&store, REPOSITORY));
        let work = Work::at(folder.path());
        let taken = work.fetch_on(&terms, &package, &registry, &toolchain, shelf);
        let refused = Failure::from(&taken.await.unwrap_err());
        assert!(refused.message.contains("secret@1.0.0"), "{refused:?}");
    }
}

#[tokio::test]
async fn a_lock_that_one_tenant_recorded_decides_nothing_for_others() {
    let (server, tarball) = npm("plugin").await;
    let oci = OciRegistry::start(None).await;
    let store = oci.client(None);
    let settings = tempfile::tempdir().unwrap();
    let registry = server.access(settings.path(), Some(TOKEN));
    // What a hostile registry of the tenant's choice would have resolved.
    let inputs = Inputs {
        registry: registry.url.clone(),
        package: "plugin".into(),
        version: "1.0.0".into(),
        integrity: integrity(&tarball),
        platforms: Platforms::default(),
        owner: Some("aa".into()),
    };
    let tag = inputs.lock_tag(None);
    let poisoned = store.push_artifact(REPOSITORY, LOCK_MEDIA_TYPE, "{}".into(), &tag);
    poisoned.await.unwrap();
    for owner in [None, Some("bb")] {
        let terms = Terms {
            owner,
            ..Terms::default()
        };
        let state = fetch(&terms, &registry, &store).await.unwrap();
        assert_eq!(state["lockOrigin"], "resolved", "{owner:?}");
    }
    let terms = Terms {
        owner: Some("aa"),
        ..Terms::default()
    };
    let own = failure(fetch(&terms, &registry, &store).await);
    assert_eq!(own.reason, FailureReason::PackageRefused, "{own:?}");
}

#[tokio::test]
async fn a_version_that_is_another_than_when_it_was_looked_up_is_refused() {
    let (server, tarball) = npm("plugin").await;
    let store = OciRegistry::start(None).await.client(None);
    let settings = tempfile::tempdir().unwrap();
    let registry = server.access(settings.path(), Some(TOKEN));
    let before = integrity(b"before");
    let terms = Terms {
        integrity: Some(&before),
        owner: Some("aa"),
        ..Terms::default()
    };
    let refused = failure(fetch(&terms, &registry, &store).await);
    assert_eq!(refused.reason, FailureReason::PackageRefused);
    for part in [&before, &integrity(&tarball)] {
        assert!(refused.message.contains(part), "{refused:?}");
    }
}

/// A tarball with a dependency, behind a URL that wants the token.
async fn remote() -> (Server, Vec<u8>, String) {
    let description = json!({
        "name": "plugin", "version": "1.0.0", "type": "module", "dependencies": {"dep": "^1.0.0"},
    });
    let tarball = Tarball::new()
        .file(b"any/package.json", description.to_string().as_bytes())
        .file(b"any/worker.js", b"//")
        .end();
    let answers = BTreeMap::from([("/files/p.tgz".to_owned(), tarball.clone())]);
    let server = Server::start(answers).await;
    let url = format!("{}/files/p.tgz", server.url);
    (server, tarball, url)
}

#[tokio::test]
async fn a_tarball_by_url_is_a_package_with_dependencies_of_the_registry() {
    let (files, tarball, url) = remote().await;
    let (npm, _) = npm("dep").await;
    let oci = OciRegistry::start(None).await;
    let store = oci.client(None);
    let settings = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let access = &files.access(settings[0].path(), Some(TOKEN));
    let registry = npm.access(settings[1].path(), Some(TOKEN));
    let hash = integrity(&tarball);
    let tarball = RemoteTarball { url: &url, access };
    let folder = tempfile::tempdir().unwrap();
    let work = Work::at(folder.path());
    let looked = work.look_up_tarball(tarball, &hash).await.unwrap();
    assert_eq!(looked.package.as_deref(), Some("plugin"));
    assert_eq!(looked.version, "1.0.0");
    let terms = Terms {
        integrity: Some(&hash),
        tarball: Some(tarball),
        owner: Some("aa"),
    };
    let state = fetch(&terms, &registry, &store).await.unwrap();
    assert_eq!(state["inputs"]["registry"], url);
    assert_eq!(state["inputs"]["integrity"], hash);
    // Its own tarball is never the store's: to have it there is not to have access.
    fetch(&terms, &registry, &store).await.unwrap();
    assert_eq!((files.downloads(), npm.downloads()), (3, 1));
}

#[tokio::test]
async fn a_tarball_with_another_hash_or_without_access_is_refused_by_name() {
    let (files, tarball, url) = remote().await;
    let settings = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let work = Work::at(folder.path());
    let look = async |access: Registry, url: &str, hash: &str| {
        let tarball = RemoteTarball {
            url,
            access: &access,
        };
        Failure::from(&work.look_up_tarball(tarball, hash).await.unwrap_err())
    };
    let known = || files.access(settings.path(), Some(TOKEN));
    let right = integrity(&tarball);
    let wrong = integrity(b"another");
    let refused = look(known(), &url, &wrong).await;
    assert_eq!(refused.reason, FailureReason::PackageRefused);
    for part in [b"another".as_slice(), &tarball] {
        let hash = hex::encode(Sha512::digest(part));
        assert!(refused.message.contains(&hash), "{refused:?}");
    }
    assert!(refused.message.contains("`integrity`"), "{refused:?}");
    let denied = look(files.access(settings.path(), None), &url, &right).await;
    assert_eq!(denied.reason, FailureReason::RegistryAccessDenied);
    let gone = look(known(), &format!("{}/files/q.tgz", files.url), &right).await;
    assert_eq!(gone.reason, FailureReason::PackageNotFound, "{gone:?}");
    // A tenant may not have it fetched from what is near the packing step.
    let near = Registry {
        of_tenant: true,
        ..known()
    };
    let near = look(near, &url, &right).await;
    assert_eq!(near.reason, FailureReason::PackageRefused);
    assert!(near.message.contains("`address`"), "{near:?}");
}

#[tokio::test]
async fn a_tarball_that_is_no_package_is_refused_by_field() {
    let texts: [(&str, &[u8]); 4] = [
        ("name", br#"{"name":"../x","version":"1.0.0"}"#),
        ("version", br#"{"name":"x","version":"^1"}"#),
        ("no package.json", b"[]"),
        ("`parent-path`", b""),
    ];
    for (says, text) in texts {
        let tarball = if text.is_empty() {
            Tarball::of("x").file(b"package/../../x", b"").end()
        } else {
            Tarball::new().file(b"package/package.json", text).end()
        };
        let hash = integrity(&tarball);
        let server = Server::with(move |_| tarball.clone().into_response()).await;
        let folder = tempfile::tempdir().unwrap();
        let access = &server.access(folder.path(), None);
        let url = &format!("{}/x.tgz", server.url);
        let work = Work::at(folder.path());
        let looked = work.look_up_tarball(RemoteTarball { url, access }, &hash);
        let refused = Failure::from(&looked.await.unwrap_err());
        assert_eq!(refused.reason, FailureReason::PackageRefused, "{refused:?}");
        assert!(refused.message.contains(says), "{says}: {refused:?}");
    }
}

#[tokio::test]
async fn a_credential_for_a_tarball_does_not_follow_a_redirect_to_another_host() {
    let (_, tarball, _) = remote().await;
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hear = Arc::clone(&heard);
    let content = tarball.clone();
    let storage = Server::with(move |request| {
        let credential = request.headers().get(AUTHORIZATION).cloned();
        hear.lock().unwrap().push(credential);
        content.clone().into_response()
    })
    .await;
    // Another port of one address is another host for an HTTP client too.
    let target = storage.url.clone();
    let front =
        Server::with(move |_| (StatusCode::FOUND, [(LOCATION, target.clone())]).into_response());
    let front = front.await;
    let settings = tempfile::tempdir().unwrap();
    let mut access = front.access(settings.path(), Some(TOKEN));
    let scope = format!("@near:registry={}/\n", storage.url);
    let npmrc = access.npmrc.clone().unwrap();
    let text = std::fs::read_to_string(&npmrc).unwrap();
    std::fs::write(&npmrc, text + &scope).unwrap();
    access.npmrc = Some(npmrc);
    let folder = tempfile::tempdir().unwrap();
    let at = format!("{}/p.tgz", front.url);
    let tarball_at = RemoteTarball {
        url: &at,
        access: &access,
    };
    let (work, hash) = (Work::at(folder.path()), integrity(&tarball));
    work.look_up_tarball(tarball_at, &hash).await.unwrap();
    assert_eq!(*heard.lock().unwrap(), [None]);
}

#[test]
fn a_registry_of_images_near_the_step_is_refused_to_a_tenant() {
    support::install_crypto();
    for address in [
        "127.0.0.1:5000",
        "169.254.169.254",
        "[::1]:5000",
        "localhost:5000",
    ] {
        let refused = StoreClient::new(StoreOptions {
            address: address.into(),
            of_tenant: true,
            ..StoreOptions::default()
        });
        let said = refused.unwrap_err().to_string();
        assert!(said.contains("`address`"), "{address}: {said}");
    }
}

/// What the step that looks says, run as its Job runs it, with this `.npmrc` in `folder`.
async fn look(wanted: Value, folder: &str, npmrc: Option<&str>) -> StepReport<Resolved> {
    let work = tempfile::tempdir().unwrap();
    let at = |name: &str| {
        let folder = work.path().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    };
    if let Some(text) = npmrc {
        std::fs::write(at(folder).join("npmrc"), text).unwrap();
    }
    let tenant = json!({"owner": "aa", "credential": "01"});
    let request = json!({"wanted": wanted, "round": "", "tenant": tenant});
    let log = work.path().join("log");
    let ended = tokio::process::Command::new(support::packer())
        .arg("resolve")
        .env("PAPERCLIP_RESOLVE_REQUEST", request.to_string())
        .env("PAPERCLIP_PACK_WORK_DIR", at("work"))
        .env("PAPERCLIP_PACK_NPM_DIR", at("npm"))
        .env("PAPERCLIP_PACK_SOURCE_DIR", at("source"))
        .env(
            "PAPERCLIP_PACK_TOOLCHAIN",
            support::toolchain().await.folder(),
        )
        .env("PAPERCLIP_PACK_TERMINATION_LOG", &log)
        .output()
        .await
        .unwrap();
    let said = std::fs::read_to_string(&log).unwrap();
    let printed = String::from_utf8_lossy(&ended.stderr);
    assert!(
        !printed.contains(TOKEN) && !said.contains(TOKEN),
        "{printed}"
    );
    report::parse(&said).unwrap()
}

fn reason(outcome: StepReport<Resolved>) -> FailureReason {
    match outcome {
        StepReport::Error(failure) => failure.reason,
        StepReport::Ok(resolved) => panic!("{resolved:?}"),
    }
}

#[tokio::test]
async fn the_step_that_looks_has_the_tenants_credential_from_its_folder() {
    let (server, tarball) = npm("plugin").await;
    let outside = server.url_from_outside();
    let npm = |url: &str| json!({"npm": {"registry": url, "package": "plugin", "range": "^1.0.0"}});
    let npmrc = Login::Token(TOKEN.into()).npmrc(&outside).unwrap();
    let found = look(npm(&outside), "npm", Some(&npmrc)).await;
    let wanted = Resolved {
        package: None,
        version: "1.0.0".into(),
        integrity: integrity(&tarball),
    };
    assert_eq!(found, StepReport::Ok(wanted.clone()));
    let denied = reason(look(npm(&outside), "npm", None).await);
    assert_eq!(denied, FailureReason::RegistryAccessDenied);
    let near = reason(look(npm(&server.url), "npm", Some(&npmrc)).await);
    assert_eq!(near, FailureReason::PackageRefused);

    let url = format!("{outside}/plugin/-/plugin-1.0.0.tgz");
    let at = json!({"tarball": {"url": url, "integrity": integrity(&tarball)}});
    let found = look(at.clone(), "source", Some(&npmrc)).await;
    let package = Some("plugin".into());
    assert_eq!(found, StepReport::Ok(Resolved { package, ..wanted }));
    // What it has for npm is not for the tarball.
    let denied = reason(look(at, "npm", Some(&npmrc)).await);
    assert_eq!(denied, FailureReason::RegistryAccessDenied);

    let near = json!({"image": {"repository": "127.0.0.1:1/x", "reference": {"tag": "v1"}}});
    let near = reason(look(near, "source", None).await);
    assert_eq!(near, FailureReason::PackageRefused);
}
