//! A pod: shim and sidecar as processes over folders like those in a cluster.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use paperclip_bridge::{
    client,
    v1::{ConfigState, Phase, WatchStatusResponse},
};
use paperclip_identity::Identity;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    PATIENCE,
    artifact::{self, Artifact, MARKER},
    certificates::Authority,
    eventually,
};

pub fn plugin() -> Identity {
    Identity::Plugin {
        namespace: "shop".into(),
        name: "commerce".into(),
    }
}

pub fn host() -> Identity {
    Identity::Host {
        namespace: "paperclip".into(),
        name: "main".into(),
    }
}

pub struct Pod {
    pub authority: Arc<Authority>,
    folder: TempDir,
    shim: Child,
    sidecar: Option<Child>,
    environment: Vec<(&'static str, String)>,
    log: Arc<Mutex<Vec<Value>>>,
}

impl Pod {
    /// A pod whose worker runs with this config.
    pub fn start(config: Value, make: impl FnOnce(&std::path::Path) -> Artifact) -> Self {
        Self::start_with(json!({"active": {"revision": 1, "config": config}}), make)
    }

    /// A pod that is handed this as the config of its activation.
    pub fn start_with(delivered: Value, make: impl FnOnce(&std::path::Path) -> Artifact) -> Self {
        Self::start_in(&[], delivered, make)
    }

    /// A pod whose sidecar has these variables in its environment, too.
    pub fn start_in(
        environment: &[(&'static str, String)],
        delivered: Value,
        make: impl FnOnce(&std::path::Path) -> Artifact,
    ) -> Self {
        Self::start_of(Arc::new(Authority::new()), environment, delivered, make)
    }

    /// One of several pods, all with certificates of one authority.
    pub fn start_of(
        authority: Arc<Authority>,
        environment: &[(&'static str, String)],
        delivered: Value,
        make: impl FnOnce(&std::path::Path) -> Artifact,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        make(folder.path());
        let leaf = authority.issue(&plugin());
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("tls/tls.crt", &leaf.certificate);
        write("tls/tls.key", &leaf.key);
        write("tls/ca.crt", &leaf.ca);
        let capabilities = capabilities(&folder.path().join("artifact"));
        write("facts/facts.json", &facts(&capabilities).to_string());
        let delivered = json!({"activations": {"3": delivered}});
        write("config/config.json", &delivered.to_string());
        fs::create_dir(folder.path().join("run")).unwrap();
        let shim = Command::new(built("paperclip-shim"))
            .arg(folder.path().join("run/shim.sock"))
            .spawn()
            .unwrap();
        let mut pod = Self {
            authority,
            folder,
            shim,
            sidecar: None,
            environment: environment.to_vec(),
            log: Arc::default(),
        };
        pod.start_sidecar();
        pod
    }

    pub fn start_sidecar(&mut self) {
        let path = |name: &str| self.folder.path().join(name);
        let mut child = Command::new(env!("CARGO_BIN_EXE_paperclip-sidecar"))
            .arg("--facts-dir")
            .arg(path("facts"))
            .arg("--artifact-dir")
            .arg(path("artifact"))
            .arg("--config-dir")
            .arg(path("config"))
            .arg("--tls-dir")
            .arg(path("tls"))
            .arg("--socket")
            .arg(path("run/shim.sock"))
            .arg("--node")
            .arg(artifact::node())
            .args(["--grpc-listen", "127.0.0.1:0"])
            .args(["--health-listen", "127.0.0.1:0"])
            .args(["--worker-memory-bytes", "268435456"])
            .args(["--health-interval-ms", "2000"])
            .envs(self.environment.iter().cloned())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        // A log of its own: the reader of an earlier sidecar may not have come to its last record.
        self.log = Arc::default();
        let log = self.log.clone();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                eprintln!("sidecar: {line}");
                let record = serde_json::from_str(&line).expect("records are JSON");
                log.lock().unwrap().push(record);
            }
        });
        self.sidecar = Some(child);
    }

    /// The value of a field in the latest record with this message.
    pub async fn logged(&self, message: &str, field: &str) -> Value {
        eventually(&format!("the record {message:?}"), || {
            self.has_logged(message).map(|record| record[field].clone())
        })
        .await
    }

    pub fn has_logged(&self, message: &str) -> Option<Value> {
        let log = self.log.lock().unwrap();
        log.iter().rev().find(|r| r["message"] == message).cloned()
    }

    /// Everything that the sidecars logged.
    pub fn records(&self) -> Vec<Value> {
        self.log.lock().unwrap().clone()
    }

    pub async fn address(&self) -> SocketAddr {
        let address = self.logged("listening", "grpc").await;
        address.as_str().unwrap().parse().unwrap()
    }

    /// Follows the state, as the operator does, until it fits.
    pub async fn state(
        &self,
        what: &str,
        mut fits: impl FnMut(&WatchStatusResponse) -> bool,
    ) -> WatchStatusResponse {
        let operator = self.authority.client(&Identity::Operator);
        let found = async {
            let mut states = client::watch_status(self.address().await, &operator, &plugin())
                .await
                .unwrap();
            let mut last = None;
            while let Some(state) = states.message().await.unwrap() {
                if fits(&state) {
                    return state;
                }
                last = Some(state);
            }
            panic!("the states ended with {last:?}");
        };
        tokio::time::timeout(PATIENCE, found)
            .await
            .unwrap_or_else(|_| panic!("waited for the state {what:?}"))
    }

    pub async fn serving(&self) -> WatchStatusResponse {
        let is_serving = |state: &WatchStatusResponse| {
            state.phase() == Phase::Serving
                && state
                    .worker
                    .as_ref()
                    .is_some_and(|worker| worker.initialised)
        };
        self.state("serving", is_serving).await
    }

    /// Hands over another certificate of the plugin's, in one step, as the kubelet does.
    pub fn renew_certificate(&self) {
        let leaf = self.authority.issue(&plugin());
        let folder = self.folder.path().join("tls");
        for (name, text) in [("tls.key", &leaf.key), ("tls.crt", &leaf.certificate)] {
            fs::write(folder.join("next"), text).unwrap();
            fs::rename(folder.join("next"), folder.join(name)).unwrap();
        }
    }

    /// Hands over another config of its activation, in one step, as the kubelet does.
    pub fn deliver(&self, delivered: Value) {
        self.deliver_with(delivered, json!({}));
    }

    /// The same, and these limits.
    pub fn deliver_with(&self, delivered: Value, limits: Value) {
        let folder = self.folder.path().join("config");
        let delivered = json!({"activations": {"3": delivered}, "limits": limits});
        fs::write(folder.join("next"), delivered.to_string()).unwrap();
        fs::rename(folder.join("next"), folder.join("config.json")).unwrap();
    }

    /// Waits until what the pod says of its config fits.
    pub async fn config(&self, what: &str, fits: impl Fn(&ConfigState) -> bool) -> ConfigState {
        let state = self.state(what, |state| state.config.as_ref().is_some_and(&fits));
        state.await.config.unwrap()
    }

    /// Where the shim and the sidecar meet, which the worker can reach too.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("run/shim.sock")
    }

    /// What the sidecar shows a scraper.
    pub async fn metrics(&self) -> String {
        let health = self.logged("listening", "health").await;
        let url = format!("http://{}/metrics", health.as_str().unwrap());
        reqwest::get(url).await.unwrap().text().await.unwrap()
    }

    /// Bytes of memory that the sidecar holds.
    pub fn sidecar_memory(&self) -> u64 {
        let id = self.sidecar.as_ref().unwrap().id();
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes = line.unwrap().trim().trim_end_matches(" kB");
        kibibytes.parse::<u64>().unwrap() * 1024
    }

    pub fn kill_sidecar(&mut self) {
        let mut sidecar = self.sidecar.take().unwrap();
        sidecar.kill().unwrap();
        sidecar.wait().unwrap();
    }

    pub fn ask_shim_to_stop(&self) {
        self.signal_shim("TERM");
    }

    pub fn signal_shim(&self, name: &str) {
        signal(self.shim.id(), name);
    }

    /// Waits until the worker's container is done.
    pub async fn shim_exit(&mut self) -> ExitStatus {
        let shim = &mut self.shim;
        eventually("the shim to exit", || shim.try_wait().unwrap()).await
    }

    pub async fn stop_sidecar(&mut self) -> ExitStatus {
        let sidecar = self.sidecar.as_mut().unwrap();
        signal(sidecar.id(), "TERM");
        eventually("the sidecar to exit", || sidecar.try_wait().unwrap()).await
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let shim = self.shim.id();
        let workers = format!("/proc/{shim}/task/{shim}/children");
        let workers = fs::read_to_string(workers).unwrap_or_default();
        for child in [Some(&mut self.shim), self.sidecar.as_mut()]
            .into_iter()
            .flatten()
        {
            let _ = child.kill();
            let _ = child.wait();
        }
        // A container that ends takes its processes along; a worker that does not read its stdin
        // would not see that it closed.
        for worker in workers.split_whitespace() {
            let _ = Command::new("kill").args(["-KILL", worker]).output();
        }
    }
}

pub fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill")
        .args([&format!("-{name}"), &pid.to_string()])
        .status()
        .unwrap();
    assert!(sent.success());
}

/// What the artifact's manifest asks for, all of it granted.
fn capabilities(artifact: &std::path::Path) -> Value {
    let manifest = fs::read(artifact.join(".paperclip/plugin-manifest.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    manifest["capabilities"].clone()
}

fn facts(capabilities: &Value) -> Value {
    json!({
        "pluginNamespace": "shop", "pluginName": "commerce", "pluginUid": "0d9f1a52-0000-4000-8000-000000000001",
        "activation": 3, "artifactDigest": format!("sha256:{MARKER}"), "marker": MARKER,
        "host": {"namespace": "paperclip", "name": "main"}, "granted": capabilities,
        "instance": {"instanceId": "paperclip/main", "hostVersion": "2026.916.1",
                     "deploymentMode": "authenticated", "deploymentExposure": "private"},
    })
}

/// A program of another package. Tests start no cargo, so the workspace is built before them.
pub fn built(program: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_BIN_EXE_paperclip-sidecar")).with_file_name(program);
    let builds = "`cargo build --workspace --bins` builds the programs that tests start";
    assert!(path.is_file(), "{program} is not built: {builds}");
    path
}
