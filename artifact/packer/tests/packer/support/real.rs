//! The CNCF registry, a program not written here, with TLS and a credential; and the steps of a
//! packing Job against it.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use paperclip_oci::client::StoreOptions;
use paperclip_packing_api::report::{self, Pushed, StepReport};
use paperclip_packing_api::request::PackRequest;

use crate::support;

/// The registry's program, from the environment or the cache of the test cluster.
fn program() -> Option<PathBuf> {
    let named = std::env::var_os("PAPERCLIP_TEST_REGISTRY").map(PathBuf::from);
    named.or_else(|| {
        let folders = fs::read_dir(support::cache()).ok()?;
        let is_registry = |path: &PathBuf| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("registry-"))
        };
        let mut folders = folders
            .filter_map(|f| Some(f.ok()?.path()))
            .filter(is_registry);
        folders.find_map(|folder| {
            let program = folder.join("registry");
            program.is_file().then_some(program)
        })
    })
}

/// A running registry; ends with the value.
pub struct RealRegistry {
    child: Child,
    folder: tempfile::TempDir,
    pub address: String,
}

impl Drop for RealRegistry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl RealRegistry {
    /// One with TLS and a credential.
    pub async fn start() -> Self {
        let program = program().expect(
            "no registry program: `cargo run -p paperclip-tests --bin cluster -- tool registry` \
             builds it, and PAPERCLIP_TEST_REGISTRY names another",
        );
        support::install_crypto();
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let key = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        fs::write(path("ca.crt"), key.cert.pem()).unwrap();
        fs::write(path("tls.key"), key.signing_key.serialize_pem()).unwrap();
        fs::write(
            path("htpasswd"),
            format!("pusher:{}\n", bcrypt::hash("secret", 4).unwrap()),
        )
        .unwrap();
        fs::write(path("username"), "pusher").unwrap();
        fs::write(path("password"), "secret\n").unwrap();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let address = format!("127.0.0.1:{port}");
        let text = |name: &str| path(name).display().to_string();
        let config = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nauth: {{htpasswd: {{realm: r, path: {}}}}}\n\
             http: {{addr: '{address}', tls: {{certificate: {}, key: {}}}}}\nlog: {{level: error}}\n",
            text("data"),
            text("htpasswd"),
            text("ca.crt"),
            text("tls.key"),
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
        let registry = Self {
            child,
            folder,
            address,
        };
        let begun = Instant::now();
        while let Err(error) = std::net::TcpStream::connect(&registry.address) {
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "the registry does not listen: {error}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        registry
    }

    /// Where `username`, `password` and `ca.crt` are, and what it holds under `data`.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Every file of what it holds.
    pub fn files(&self) -> Vec<PathBuf> {
        let data = walkdir::WalkDir::new(self.folder().join("data")).into_iter();
        let files = data.filter_map(Result::ok);
        files
            .filter(|entry| entry.file_type().is_file())
            .map(|entry| entry.into_path())
            .collect()
    }

    /// How to reach it with its credential.
    pub fn options(&self) -> StoreOptions {
        StoreOptions::from_folder(&self.address, self.folder()).unwrap()
    }
}

/// Runs one step as the Job does, and gives whether it did well and what it reports.
pub async fn run(
    name: &str,
    registry: &RealRegistry,
    work: &Path,
    request: &PackRequest,
) -> (bool, String) {
    let npm = support::npm_registry();
    let npm_dir = work.join("npm-dir");
    fs::create_dir_all(&npm_dir).unwrap();
    if let Some(ca) = npm.ca {
        fs::copy(ca, npm_dir.join("ca.crt")).unwrap();
    }
    let log = work.join("termination-log");
    let status = tokio::process::Command::new(support::packer())
        .arg(name)
        .env(
            "PAPERCLIP_PACK_REQUEST",
            serde_json::to_string(request).unwrap(),
        )
        .env("PAPERCLIP_PACK_WORK_DIR", work)
        .env("PAPERCLIP_PACK_STORE_DIR", registry.folder())
        .env("PAPERCLIP_PACK_NPM_DIR", npm_dir)
        .env(
            "PAPERCLIP_PACK_TOOLCHAIN",
            support::toolchain().await.folder(),
        )
        .env("PAPERCLIP_PACK_TERMINATION_LOG", &log)
        .status()
        .await
        .unwrap();
    (status.success(), fs::read_to_string(log).unwrap())
}

pub async fn step(
    name: &str,
    registry: &RealRegistry,
    work: &Path,
    request: &PackRequest,
) -> String {
    let (success, message) = run(name, registry, work, request).await;
    assert!(success, "{name}: {message}");
    message
}

pub async fn job(registry: &RealRegistry, request: &PackRequest) -> Pushed {
    let work = tempfile::tempdir().unwrap();
    step("fetch", registry, work.path(), request).await;
    step("evaluate", registry, work.path(), request).await;
    let message = step("push", registry, work.path(), request).await;
    match report::parse::<Pushed>(&message) {
        Some(StepReport::Ok(pushed)) => pushed,
        other => panic!("{other:?}"),
    }
}
