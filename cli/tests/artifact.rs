//! `pack`, `inspect` and `verify` as a person runs them, without a cluster.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use paperclip_artifact::{
    attachment::Kind,
    trust::{
        SigningKey,
        platform::{self, Origin},
    },
};
use paperclip_oci::{
    Digest,
    client::{Credentials, StoreClient, StoreOptions},
    image::{Image, ImageBuilder, LayerBuilder},
    index::Packed,
    layout::Layout,
    referrers::{self, Referrer},
};
use paperclip_packer::source::promote;

const PACKAGE: &str = "paperclip-plugin-bcp-commerce";

fn run(arguments: &[&str]) -> Output {
    run_as(Path::new("/nonexistent/docker"), arguments)
}

/// Runs the program with the credentials of a folder of Docker's.
fn run_as(docker: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kubectl-paperclip"))
        .args(arguments)
        .env("KUBECONFIG", "/nonexistent/kubeconfig")
        .env("PAPERCLIP_NPM_REGISTRY", npm_registry())
        .env("DOCKER_CONFIG", docker)
        .env_remove("KUBERNETES_SERVICE_HOST")
        .output()
        .unwrap()
}

/// The npm registry of the run.
fn npm_registry() -> String {
    std::env::var("PAPERCLIP_NPM_REGISTRY").unwrap_or_else(|_| {
        let npm = Command::new("npm")
            .args(["config", "get", "registry"])
            .output()
            .expect("npm says which registry this machine uses");
        String::from_utf8(npm.stdout).unwrap().trim().to_owned()
    })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn succeeded(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// An artifact whose bytes depend on nothing outside this file.
fn sample() -> (Image, Vec<Referrer>) {
    let manifest = r#"{"id":"example.tea","version":"1.0.0","displayName":"Tea","capabilities":["agent.tools.register","jobs.schedule"],
        "tools":[{"name":"brew"}],"jobs":[{"jobKey":"descale","schedule":"0 4 * * *"},{"jobKey":"rinse"}],"webhooks":[{"endpointKey":"order"}]}"#;
    let facts = LayerBuilder::new()
        .bytes(
            ".paperclip/artifact.json",
            r#"{"package":"tea","version":"1.0.0"}"#,
            0o644,
        )
        .bytes(".paperclip/package-lock.json", "{}", 0o644)
        .bytes(".paperclip/plugin-manifest.json", manifest, 0o644);
    let tree = LayerBuilder::new().bytes("package.json", "{}", 0o644);
    let image = ImageBuilder::new()
        .layer(facts.build().unwrap())
        .layer(tree.build().unwrap())
        .annotation("ing.paperclip.plugins.marker", "0".repeat(64))
        .annotation("org.opencontainers.image.title", "tea")
        .annotation("org.opencontainers.image.version", "1.0.0")
        .build();
    let attach = |kind: Kind| {
        let content = format!("{{\"this\": \"{}\"}}\n", kind.name());
        kind.attach(image.descriptor(), content.into())
    };
    let referrers = Kind::ALL.map(attach).to_vec();
    (image, referrers)
}

fn layout(folder: &Path) {
    let (image, referrers) = sample();
    Layout::write(folder, &Packed::Image(image), &referrers, "1.0.0").unwrap();
}

#[test]
fn inspection_is_as_committed() {
    let folder = tempfile::tempdir().unwrap();
    layout(folder.path());
    let place = folder.path().to_str().unwrap();
    insta::assert_snapshot!("inspect", succeeded(&["inspect", place]));
    insta::assert_snapshot!("inspect-json", succeeded(&["inspect", place, "-o", "json"]));
}

#[test]
fn each_document_is_printed_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    layout(folder.path());
    let place = folder.path().to_str().unwrap();
    for (option, kind) in [
        ("--sbom", Kind::Sbom),
        ("--provenance", Kind::Provenance),
        ("--lock", Kind::Lock),
    ] {
        let wanted = format!("{{\"this\": \"{}\"}}\n", kind.name());
        assert_eq!(succeeded(&["inspect", place, option]), wanted);
    }
    let manifest = succeeded(&["inspect", place, "--manifest"]);
    assert!(manifest.contains("\"id\": \"example.tea\""), "{manifest}");
    let two = run(&["inspect", place, "--sbom", "--lock"]);
    assert_eq!(two.status.code(), Some(2));
}

#[test]
fn inspection_does_not_need_the_tree_and_verification_does() {
    let folder = tempfile::tempdir().unwrap();
    layout(folder.path());
    let place = folder.path().to_str().unwrap();
    let (image, _) = sample();
    let tree = folder
        .path()
        .join("blobs/sha256")
        .join(image.layers()[1].digest().hex());
    fs::remove_file(&tree).unwrap();
    succeeded(&["inspect", place]);
    let output = run(&["verify", place]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("cannot read the tree layer"), "{said}");
    assert!(said.contains(tree.to_str().unwrap()), "{said}");
}

#[test]
fn what_is_neither_layout_nor_reference_is_named() {
    let output = run(&["inspect", "plugins/tea"]);
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    assert!(
        said.contains("plugins/tea is no folder with an OCI image layout"),
        "{said}"
    );
    assert!(said.contains("HOST/REPOSITORY:TAG"), "{said}");
}

#[test]
fn registry_that_is_not_there_exits_with_4() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let output = run(&[
        "inspect",
        "--plain-http",
        &format!("{address}/plugins/tea:v1"),
    ]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(said.contains(&address.to_string()), "{said}");
}

/// The CNCF registry over plain HTTP, with a login; ends with the value.
struct Registry {
    child: Child,
    address: String,
    folder: tempfile::TempDir,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Registry {
    /// `None` where the program is not there; the test cluster's bring-up brings it.
    fn start() -> Option<Self> {
        let program = registry_program()?;
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let login = format!("me:{}\n", bcrypt::hash("secret", 4).unwrap());
        fs::write(path("htpasswd"), login).unwrap();
        // me:secret
        let docker = |address| format!(r#"{{"auths":{{"{address}":{{"auth":"bWU6c2VjcmV0"}}}}}}"#);
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap().to_string();
        drop(free);
        fs::write(path("config.json"), docker(&address)).unwrap();
        let config = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '{address}'}}\n\
             auth: {{htpasswd: {{realm: r, path: {}}}}}\nlog: {{level: error}}\n",
            path("data"),
            path("htpasswd"),
        );
        fs::write(path("config.yml"), config).unwrap();
        let child = Command::new(program)
            .arg("serve")
            .arg(path("config.yml"))
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        while TcpStream::connect(&address).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(20), "no registry");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(Self {
            child,
            address,
            folder,
        })
    }

    fn store(&self) -> StoreClient {
        let store = StoreClient::new(StoreOptions {
            credentials: Some(Credentials {
                username: "me".into(),
                password: "secret".into(),
            }),
            ..StoreOptions::plain(&self.address)
        });
        store.unwrap()
    }

    /// Puts the sample there, with what is attached to it.
    fn fill(&self) {
        let store = self.store();
        let (image, attached) = sample();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let digest = store.push_image("plugins/tea", &image, &["v1"]).await;
            let digest = digest.unwrap();
            let pushed = referrers::push(&store, "plugins/tea", &digest, &attached);
            pushed.await.unwrap();
        });
    }
}

fn registry_program() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("PAPERCLIP_TEST_REGISTRY") {
        return Some(named.into());
    }
    let home = PathBuf::from(std::env::var_os("HOME")?);
    let cache = std::env::var_os("PAPERCLIP_CACHE").map(PathBuf::from);
    let cache = cache.unwrap_or_else(|| home.join(".cache/paperclip-kubernetes"));
    let folders = fs::read_dir(cache).ok()?.filter_map(Result::ok);
    let mut programs = folders
        .filter(|folder| {
            folder
                .file_name()
                .to_string_lossy()
                .starts_with("registry-")
        })
        .map(|folder| folder.path().join("registry"));
    programs.find(|program| program.is_file())
}

#[test]
fn registry_shows_what_the_folder_shows_to_whom_it_lets_in() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let Some(registry) = Registry::start() else {
        eprintln!("skipped: no registry program; set PAPERCLIP_TEST_REGISTRY");
        return;
    };
    registry.fill();
    let folder = tempfile::tempdir().unwrap();
    layout(folder.path());
    let here = succeeded(&["inspect", folder.path().to_str().unwrap()]);
    let (image, _) = sample();
    let docker = registry.folder.path();
    for name in [":v1".to_owned(), format!("@{}", image.digest())] {
        let place = format!("{}/plugins/tea{name}", registry.address);
        let output = run_as(docker, &["inspect", "--plain-http", &place]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert_eq!(text(&output.stdout), here);
    }
    let place = format!("{}/plugins/tea:v2", registry.address);
    let absent = run_as(docker, &["inspect", "--plain-http", &place]);
    let said = text(&absent.stderr);
    assert_eq!(absent.status.code(), Some(3), "{said}");
    assert!(said.contains("has no tag v2"), "{said}");
    let stranger = run(&["inspect", "--plain-http", &place]);
    let said = text(&stranger.stderr);
    assert_eq!(stranger.status.code(), Some(1), "{said}");
    assert!(said.contains("401"), "{said}");
}

#[test]
fn package_is_packed_and_verified_without_a_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (first, second) = (path("first"), path("second"));
    let spec = format!("{PACKAGE}@0.1.0");
    let told = run(&["pack", &spec, "--layout", &first]);
    assert!(told.status.success(), "{}", text(&told.stderr));
    assert!(
        text(&told.stderr).contains("evaluating the plugin manifest"),
        "progress"
    );
    let answer = text(&told.stdout);
    let digest = succeeded(&["inspect", &first, "-o", "name"]);
    assert!(
        answer.starts_with(&format!("Digest:    {digest}Size:      ")),
        "{answer}"
    );

    // The same lock in a file with the plugin, as a cluster would get both.
    let lock = fs::read_to_string(path("first/package-lock.json")).unwrap();
    let lock = lock.replace('\n', "\n    ");
    let yaml = format!(
        "apiVersion: plugins.paperclip.ing/v1alpha1\nkind: PaperclipPlugin\nmetadata: {{name: commerce}}\n\
         spec:\n  source: {{npm: {{package: {PACKAGE}, version: 0.1.0, lock: {{name: locks, key: lock}}}}}}\n\
         ---\nkind: ConfigMap\nmetadata: {{name: locks}}\ndata:\n  lock: |\n    {lock}\n"
    );
    fs::write(path("plugin.yaml"), yaml).unwrap();
    let again = succeeded(&[
        "pack",
        &path("plugin.yaml"),
        "--layout",
        &second,
        "-o",
        "name",
    ]);
    assert_eq!(again, digest);

    let verified = succeeded(&["verify", &first]);
    for part in ["tree", "packages", "SBOM", "provenance"] {
        assert!(verified.contains(&format!("\n{part} ")), "{verified}");
    }
}

#[test]
fn plugin_of_one_file_is_packed_and_verified() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("greeter").display().to_string();
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/greeter.yaml");
    succeeded(&["pack", example, "--layout", &to]);
    let told = succeeded(&["inspect", &to]);
    assert!(told.contains("example.greeter 1.0.0 (Greeter)"), "{told}");
    let sbom = succeeded(&["inspect", &to, "--sbom"]);
    assert!(!sbom.contains("pkg:npm"), "it is in no registry: {sbom}");
    succeeded(&["verify", &to]);
}

fn signing_key() -> SigningKey {
    let key = rcgen::KeyPair::generate().unwrap();
    SigningKey::parse(key.serialize_pem().as_bytes()).unwrap()
}

#[test]
fn signature_by_one_of_the_keys_is_shown_and_one_by_others_or_none_is_refused() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let Some(registry) = Registry::start() else {
        eprintln!("skipped: no registry program; set PAPERCLIP_TEST_REGISTRY");
        return;
    };
    let (folder, docker) = (tempfile::tempdir().unwrap(), registry.folder.path());
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (layout, key) = (path("greeter"), path("cosign.pub"));
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/greeter.yaml");
    succeeded(&["pack", example, "--layout", &layout]);
    let digest = succeeded(&["inspect", &layout, "-o", "name"]);
    let digest: Digest = digest.trim().parse().unwrap();
    let (ours, others) = (signing_key(), signing_key());
    let pem = |key: &SigningKey| key.public().to_pem();
    fs::write(&key, pem(&others) + &pem(&ours)).unwrap();
    let store = registry.store();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let pushed = promote::push(layout.as_ref(), &digest, &store, "plugins/greeter", "v1");
    runtime.block_on(pushed).unwrap();

    let place = format!("{}/plugins/greeter@{digest}", registry.address);
    let verify = ["verify", "--plain-http", "--key", &key, &place];
    let missing = run_as(docker, &verify);
    let said = text(&missing.stderr);
    assert_eq!(missing.status.code(), Some(1), "{said}");
    assert!(said.contains("no signature of the platform"), "{said}");
    let origin = Origin::default();
    let signed = platform::sign(&store, "plugins/greeter", &digest, &origin, &ours);
    runtime.block_on(signed).unwrap();
    let held = run_as(docker, &verify);
    assert!(held.status.success(), "{}", text(&held.stderr));
    let wanted = format!("by key {}", ours.public().id());
    assert!(text(&held.stdout).contains(&wanted));
    fs::write(&key, pem(&others)).unwrap();
    let foreign = run_as(docker, &verify);
    let said = text(&foreign.stderr);
    assert_eq!(foreign.status.code(), Some(1), "{said}");
    assert!(said.contains("does not hold"), "{said}");

    let folder = run(&["verify", "--key", &key, &layout]);
    let said = text(&folder.stderr);
    assert!(said.contains("a folder holds no signature"), "{said}");
}

#[test]
fn version_that_is_not_there_exits_with_3() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().display().to_string();
    let output = run(&["pack", &format!("{PACKAGE}@99.0.0"), "--layout", &to]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("99.0.0"), "{said}");
    let output = run(&["pack", &format!("{PACKAGE}@latest"), "--layout", &to]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
}
