//! A package whose tree differs by CPU becomes an index, and one that does not stays one image.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use base64::Engine as _;
use paperclip_artifact::attachment::Kind;
use paperclip_artifact::inspect::{self, Opened};
use paperclip_artifact::{pull, verify};
use paperclip_artifact_format::marker;
use paperclip_artifact_format::platform::{Platform, Platforms};
use paperclip_error_chain::chain;
use paperclip_oci::client::StoreClient;
use paperclip_oci::index::Index;
use paperclip_oci::layout::Layout;
use paperclip_oci::source::Source;
use paperclip_oci::{Digest, referrers};
use paperclip_packer::source::promote;
use paperclip_packing_api::report::{self, FailureReason, Pushed};
use paperclip_packing_api::request::{PackRequest, StoreEndpoints};
use paperclip_packing_api::{naming, stored};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha512};

use crate::poison::tarball::Tarball;
use crate::support;
use crate::support::real::{RealRegistry, job, run};

const VERSION: &str = "1.0.0";

fn platform(name: &str) -> Platform {
    name.parse().unwrap()
}

fn platforms(names: &[&str]) -> Platforms {
    names.iter().map(|name| platform(name)).collect()
}

fn both() -> Platforms {
    Platforms::supported()
}

/// A package that is published: fields of its `package.json`, and its files.
struct Release {
    name: &'static str,
    fields: Value,
    files: Vec<(&'static str, Vec<u8>)>,
}

impl Release {
    fn description(&self) -> Value {
        let mut described = json!({"name": self.name, "version": VERSION});
        for (key, value) in self.fields.as_object().unwrap() {
            described[key] = value.clone();
        }
        described
    }

    fn tarball(&self) -> Vec<u8> {
        let described = self.description().to_string();
        let tarball = Tarball::new().file(b"package/package.json", described.as_bytes());
        let add = |tarball: Tarball, (name, content): &(&str, Vec<u8>)| {
            tarball.file(format!("package/{name}").as_bytes(), content)
        };
        self.files.iter().fold(tarball, add).end()
    }
}

/// A plugin with more fields in its `package.json`.
fn plugin(name: &'static str, more: &Value) -> Release {
    let mut fields = json!({
        "type": "module",
        "paperclipPlugin": {"manifest": "./manifest.js", "worker": "./worker.js"},
    });
    for (key, value) in more.as_object().unwrap() {
        fields[key] = value.clone();
    }
    let manifest = json!({
        "id": format!("test.{name}"), "apiVersion": 1, "version": VERSION, "displayName": "Test",
        "description": "Test.", "author": "Nobody", "categories": ["automation"],
        "capabilities": ["events.subscribe"], "entrypoints": {"worker": "./worker.js"},
    });
    Release {
        name,
        fields,
        files: vec![
            ("manifest.js", format!("export default {manifest};").into()),
            ("worker.js", b"process.stdin.resume();".to_vec()),
        ],
    }
}

/// A package for one CPU, which npm leaves out on others.
fn of_cpu(name: &'static str, cpu: &str) -> Release {
    Release {
        name,
        fields: json!({"os": ["linux"], "cpu": [cpu]}),
        files: vec![("index.js", format!("export default '{cpu}';").into())],
    }
}

/// A program for this machine of the ELF header.
fn elf(machine: u8) -> Vec<u8> {
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(18, 0);
    bytes.extend([machine, 0]);
    bytes
}

const X64: u8 = 0x3e;
const ARM64: u8 = 0xb7;

fn with_file(mut release: Release, path: &'static str, content: Vec<u8>) -> Release {
    release.files.push((path, content));
    release
}

fn releases() -> Vec<Release> {
    let optional =
        json!({"optionalDependencies": {"engine-x64": VERSION, "engine-arm64": VERSION}});
    let addons = with_file(
        plugin("both", &json!({})),
        "prebuilds/linux-x64/a.node",
        elf(X64),
    );
    vec![
        plugin("plain", &json!({})),
        plugin("engines", &optional),
        of_cpu("engine-x64", "x64"),
        of_cpu("engine-arm64", "arm64"),
        with_file(plugin("addon", &json!({})), "build/a.node", elf(X64)),
        with_file(addons, "prebuilds/linux-arm64/a.node", elf(ARM64)),
        plugin("arm", &json!({"dependencies": {"engine-arm64": VERSION}})),
        Release {
            files: vec![
                (
                    "manifest.js",
                    b"import { existsSync } from 'node:fs'; import { dirname } from 'node:path'; \
                      const here = dirname(import.meta.filename); \
                      const cpu = existsSync(`${here}/../engine-x64`) ? 'x64' : 'arm64'; \
                      export default {id: 'test.two-faced', apiVersion: 1, version: '1.0.0', displayName: cpu, \
                      description: 'Test.', author: 'Nobody', categories: ['automation'], \
                      capabilities: ['events.subscribe'], entrypoints: {worker: './worker.js'}};"
                        .to_vec(),
                ),
                ("worker.js", b"process.stdin.resume();".to_vec()),
            ],
            ..plugin("two-faced", &optional)
        },
    ]
}

/// An npm registry of these packages; gives its URL.
async fn npm() -> String {
    support::install_crypto();
    let mut answers = BTreeMap::new();
    for release in releases() {
        let name = release.name;
        let tarball = release.tarball();
        let hash = base64::engine::general_purpose::STANDARD.encode(Sha512::digest(&tarball));
        let mut version = release.description();
        version["dist"] = json!({
            "integrity": format!("sha512-{hash}"), "tarball": "http://elsewhere.invalid/x.tgz",
        });
        let metadata = json!({
            "name": name, "dist-tags": {"latest": VERSION}, "versions": {VERSION: version},
        });
        answers.insert(format!("/{name}"), metadata.to_string().into_bytes());
        answers.insert(format!("/{name}/-/{name}-{VERSION}.tgz"), tarball);
    }
    let answers = Arc::new(answers);
    let router = Router::new().fallback(move |request: Request| {
        let found = answers.get(request.uri().path()).cloned();
        async move {
            match found {
                Some(bytes) => bytes.into_response(),
                None => StatusCode::NOT_FOUND.into_response(),
            }
        }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

fn request(npm: &str, store: &RealRegistry, package: &str, platforms: Platforms) -> PackRequest {
    PackRequest {
        registry: npm.into(),
        package: package.into(),
        version: VERSION.into(),
        platforms,
        store: StoreEndpoints {
            read: store.address.clone(),
            push: store.address.clone(),
            plain_http: false,
        },
        repository: naming::repository(package),
        ..PackRequest::default()
    }
}

/// Packs on this machine, under another umask than the steps have.
async fn pack_here(npm: &str, package: &str, platforms: &[&str], lock: Option<&Path>, to: &Path) {
    let mut command = tokio::process::Command::new("sh");
    command
        .args(["-c", "umask 0077; exec \"$0\" \"$@\""])
        .arg(support::packer())
        .args(["pack", "--package", package, "--version", VERSION])
        .args(["--registry", npm, "--cache"])
        .arg(support::cache())
        .arg("--output")
        .arg(to);
    for platform in platforms {
        command.args(["--platform", platform]);
    }
    if let Some(lock) = lock {
        command.arg("--lock").arg(lock);
    }
    let output = command.output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

/// What a pod on such a node is given.
async fn delivered(
    store: &StoreClient,
    pushed: &Pushed,
    platform: &Platform,
) -> Result<tempfile::TempDir, String> {
    let pod = tempfile::tempdir().unwrap();
    let Pushed {
        repository,
        digest,
        marker,
        ..
    } = pushed;
    let fetched = pull::fetch(store, repository, digest, marker, pod.path(), platform).await;
    fetched.map(|()| pod).map_err(|e| chain(&e))
}

fn engines(pod: &Path) -> Vec<String> {
    let found = fs::read_dir(pod.join("node_modules")).unwrap();
    let names = found.map(|one| one.unwrap().file_name().to_string_lossy().into_owned());
    let mut names: Vec<_> = names.filter(|name| name.starts_with("engine-")).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_package_with_a_dependency_for_each_cpu_becomes_an_index() {
    let registry = RealRegistry::start().await;
    let npm = npm().await;
    let asked = request(&npm, &registry, "engines", both());
    let pushed = job(&registry, &asked).await;
    assert_eq!(pushed.platforms, both().iter().cloned().collect::<Vec<_>>());
    let store = StoreClient::new(registry.options()).unwrap();
    assert_eq!(
        stored::find_unsigned(&store, &asked).await.unwrap(),
        Some(pushed.clone())
    );

    // Each node gets its own tree, by the one digest and the one marker.
    let mut trees = Vec::new();
    for (name, engine) in [
        ("linux/amd64", "engine-x64"),
        ("linux/arm64", "engine-arm64"),
    ] {
        let pod = delivered(&store, &pushed, &platform(name)).await.unwrap();
        assert_eq!(engines(pod.path()), [engine], "{name}");
        let marker = marker::of_platform(&pushed.marker, &platform(name)).unwrap();
        assert!(pull::is_delivered(pod.path(), marker));
        trees.push(pod);
    }
    let manifest = pull::read_plugin_manifest(&store, &pushed.repository, &pushed.digest);
    assert_eq!(manifest.await.unwrap()["id"], "test.engines");

    // What is attached is attached to the index, and everything agrees.
    let source = Source::Store {
        client: store.clone(),
        repository: pushed.repository.clone(),
    };
    let attached = referrers::list(&store, &pushed.repository, &pushed.digest)
        .await
        .unwrap();
    assert_eq!(attached.len(), 4, "{attached:?}");
    let work = tempfile::tempdir().unwrap();
    let verified = verify::verify(&source, &pushed.digest, work.path())
        .await
        .unwrap();
    let checked: Vec<_> = verified
        .checks
        .iter()
        .map(|check| check.what.as_str())
        .collect();
    for wanted in [
        "tree of linux/amd64",
        "tree of linux/arm64",
        "SBOM",
        "provenance",
    ] {
        assert!(checked.contains(&wanted), "{wanted}: {checked:?}");
    }
    let opened = Opened::open(&source, &pushed.digest).await.unwrap();
    let told = inspect::inspect(&opened).await.unwrap();
    assert_eq!(told.platforms, ["linux/amd64", "linux/arm64"]);
    let sbom = opened.attached(Kind::Sbom).await.unwrap();
    let sbom: Value = serde_json::from_slice(&sbom).unwrap();
    let of = |name: &str| {
        let mut all = sbom["components"].as_array().unwrap().iter();
        let found = all.find(|one| one["name"] == name).unwrap();
        found["properties"][0]["value"].clone()
    };
    assert_eq!(of("engine-x64"), "linux/amd64");
    assert_eq!(of("engine-arm64"), "linux/arm64");
    let provenance = opened.attached(Kind::Provenance).await.unwrap();
    let provenance: Value = serde_json::from_slice(&provenance).unwrap();
    let parameters = &provenance["predicate"]["buildDefinition"]["externalParameters"];
    assert_eq!(
        parameters["platforms"],
        json!(both().iter().collect::<Vec<_>>())
    );

    // The lock alone gives the same on a laptop: the index and all that is attached.
    let lock = trees[0].path().join(".paperclip/package-lock.json");
    let laptop = tempfile::tempdir().unwrap();
    let names = ["linux/arm64", "linux/amd64"];
    pack_here(&npm, "engines", &names, Some(&lock), laptop.path()).await;
    let here = Source::Layout(Layout::open(laptop.path()).unwrap());
    assert_eq!(here.tagged(VERSION).await.unwrap(), pushed.digest);
    assert_eq!(here.referrers(&pushed.digest).await.unwrap(), attached);

    // With a node more, what was there for the others stays as it was.
    let fewer = request(&npm, &registry, "engines", platforms(&["linux/amd64"]));
    let fewer = job(&registry, &fewer).await;
    assert_eq!(fewer.lock_digest, pushed.lock_digest, "one lock for all");
    assert_eq!(fewer.platforms, [platform("linux/amd64")]);
    assert!(
        pushed.marker.starts_with(&fewer.marker),
        "{}",
        pushed.marker
    );
    let said = delivered(&store, &fewer, &platform("linux/arm64"))
        .await
        .unwrap_err();
    assert!(said.contains("no tree for linux/arm64"), "{said}");
    // Also where the marker says otherwise.
    let forged = Pushed {
        marker: pushed.marker.clone(),
        ..fewer.clone()
    };
    let said = delivered(&store, &forged, &platform("linux/arm64"))
        .await
        .unwrap_err();
    assert!(
        said.contains("packed for linux/amd64, and this is a node of linux/arm64"),
        "{said}"
    );
}

#[tokio::test]
async fn a_package_without_native_code_is_one_image_whatever_the_nodes_are() {
    let registry = RealRegistry::start().await;
    let npm = npm().await;
    let store = StoreClient::new(registry.options()).unwrap();
    for package in ["plain", "both"] {
        let mut digests = Vec::new();
        for asked in [Platforms::default(), platforms(&["linux/arm64"]), both()] {
            let pushed = job(&registry, &request(&npm, &registry, package, asked)).await;
            assert_eq!(pushed.platforms, []);
            store
                .manifest(&pushed.repository, &pushed.digest)
                .await
                .unwrap();
            delivered(&store, &pushed, &platform("linux/arm64"))
                .await
                .unwrap();
            digests.push(pushed.digest);
        }
        digests.dedup();
        assert_eq!(digests.len(), 1, "{package}");
        let source = Source::Store {
            client: store.clone(),
            repository: naming::repository(package),
        };
        let work = tempfile::tempdir().unwrap();
        verify::verify(&source, &digests[0], work.path())
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_package_is_packed_for_the_platforms_it_has_and_refused_where_it_has_none() {
    let registry = RealRegistry::start().await;
    let npm = npm().await;
    let asked = |package, on: &Platforms| request(&npm, &registry, package, on.clone());
    let cases = [("addon", "linux/amd64"), ("arm", "linux/arm64")];
    for (package, has) in cases {
        let everywhere = job(&registry, &asked(package, &both())).await;
        assert_eq!(everywhere.platforms, [platform(has)], "{package}");
        let alone = job(&registry, &asked(package, &platforms(&[has]))).await;
        assert_eq!(alone.digest, everywhere.digest, "{package}");
    }
    for (package, on, words) in [
        (
            "addon",
            "linux/arm64",
            "native addon build/a.node is x64 glibc, wanted Linux/arm64",
        ),
        (
            "arm",
            "linux/amd64",
            "node_modules/engine-arm64 is not for linux/amd64, and it is no optional dependency",
        ),
    ] {
        let work = tempfile::tempdir().unwrap();
        let lacking = asked(package, &platforms(&[on]));
        let (success, message) = run("fetch", &registry, work.path(), &lacking).await;
        assert!(!success);
        let failure = report::parse_failure(&message).unwrap();
        assert_eq!(failure.reason, FailureReason::PackageRefused, "{message}");
        assert!(failure.message.contains(words), "{message}");
    }
    let work = tempfile::tempdir().unwrap();
    let two = asked("two-faced", &both());
    assert!(run("fetch", &registry, work.path(), &two).await.0);
    let (success, message) = run("evaluate", &registry, work.path(), &two).await;
    assert!(!success);
    let failure = report::parse_failure(&message).unwrap();
    assert_eq!(failure.reason, FailureReason::ManifestInvalid, "{message}");
    assert!(
        failure.message.contains("linux/amd64, linux/arm64"),
        "{message}"
    );
}

/// A copy of a layout.
fn copied(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    let status = Command::new("cp")
        .arg("-r")
        .arg(from.join("."))
        .arg(to.path())
        .status();
    assert!(status.unwrap().success());
    to
}

struct Packed {
    folder: tempfile::TempDir,
    digest: Digest,
    index: Index,
}

impl Packed {
    async fn new(package: &str) -> Self {
        let npm = npm().await;
        let folder = tempfile::tempdir().unwrap();
        let names = ["linux/amd64", "linux/arm64"];
        pack_here(&npm, package, &names, None, folder.path()).await;
        let layout = Layout::open(folder.path()).unwrap();
        let digest = layout.image().unwrap();
        let index = serde_json::from_slice(&layout.manifest(&digest).unwrap()).unwrap();
        Self {
            folder,
            digest,
            index,
        }
    }

    /// What verifying says of a copy in which files were changed.
    async fn refusal(&self, change: impl Fn(&dyn Fn(&Digest) -> PathBuf)) -> String {
        let folder = copied(self.folder.path());
        let layout = Layout::open(folder.path()).unwrap();
        change(&|digest| layout.path(digest));
        let work = tempfile::tempdir().unwrap();
        let source = Source::Layout(layout);
        let verified = verify::verify(&source, &self.digest, work.path()).await;
        chain(&verified.unwrap_err())
    }
}

fn spoil(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn what_is_changed_in_one_image_of_an_index_is_found() {
    let packed = Packed::new("engines").await;
    let layout = Layout::open(packed.folder.path()).unwrap();
    for child in &packed.index.manifests {
        let digest = &child.descriptor.digest;
        let said = packed.refusal(|path| spoil(&path(digest))).await;
        assert!(said.contains(digest.hex()), "{said}");
        let manifest = layout.manifest(digest).unwrap();
        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        for layer in manifest["layers"].as_array().unwrap() {
            let digest: Digest = layer["digest"].as_str().unwrap().parse().unwrap();
            let said = packed.refusal(|path| spoil(&path(&digest))).await;
            assert!(said.contains(digest.hex()), "{said}");
        }
    }
    let said = packed.refusal(|path| spoil(&path(&packed.digest))).await;
    assert!(said.contains(packed.digest.hex()), "{said}");
}

/// Every digest is right, and the images are in each other's places.
#[tokio::test]
async fn images_that_are_exchanged_are_found() {
    let packed = Packed::new("engines").await;
    let mut index = packed.index.clone();
    let [one, two] = &mut index.manifests[..] else {
        panic!("{index:?}");
    };
    std::mem::swap(&mut one.descriptor, &mut two.descriptor);
    let folder = copied(packed.folder.path());
    let layout = Layout::open(folder.path()).unwrap();
    let content = serde_json::to_vec(&index).unwrap();
    let digest = Digest::of(&content);
    fs::write(layout.path(&digest), &content).unwrap();
    let work = tempfile::tempdir().unwrap();
    let source = Source::Layout(layout);
    let refused = verify::verify(&source, &digest, work.path()).await;
    let said = chain(&refused.unwrap_err());
    assert!(
        said.contains("it is for linux/arm64, wanted linux/amd64"),
        "{said}"
    );
}

#[tokio::test]
async fn an_index_is_promoted_whole_and_not_to_nodes_it_is_not_for() {
    let registry = RealRegistry::start().await;
    let npm = npm().await;
    let store = StoreClient::new(registry.options()).unwrap();
    let promoted = async |package: &str| {
        let packed = job(&registry, &request(&npm, &registry, package, both())).await;
        let there = Source::Store {
            client: store.clone(),
            repository: packed.repository.clone(),
        };
        let folder = tempfile::tempdir().unwrap();
        let (layout, scratch) = (folder.path().join("layout"), folder.path().join("scratch"));
        let brought = promote::bring(&there, &packed.digest, &layout, &scratch).await;
        assert_eq!(brought.unwrap().lock_digest, packed.lock_digest);
        (folder, layout, packed)
    };
    let (_folder, layout, packed) = promoted("engines").await;
    let repository = "promoted/engines";
    let pushed = promote::push(&layout, &packed.digest, &store, repository, "request-0").await;
    let wanted = Pushed {
        repository: repository.into(),
        ..packed.clone()
    };
    assert_eq!(pushed.unwrap(), wanted);
    let here = Source::Store {
        client: store.clone(),
        repository: repository.into(),
    };
    assert_eq!(here.tagged("request-0").await.unwrap(), packed.digest);
    let work = tempfile::tempdir().unwrap();
    verify::verify(&here, &packed.digest, work.path())
        .await
        .unwrap();

    let (_folder, layout, packed) = promoted("addon").await;
    let fits =
        async |on: &[&str]| promote::check_platforms(&layout, &packed.digest, &platforms(on)).await;
    fits(&["linux/amd64", "linux/arm64"]).await.unwrap();
    let said = chain(&fits(&["linux/arm64"]).await.unwrap_err());
    assert!(
        said.contains("packed for linux/amd64, wanted one for some of linux/arm64"),
        "{said}"
    );
}
