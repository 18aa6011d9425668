//! The same worker behind shim, sidecar and mutual TLS, as processes of this machine.

use std::{
    ffi::OsString,
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use paperclip_bridge::{
    client::{self, ConnectError, Incoming, SessionSender},
    facts::FILE_NAME,
    v1::{HostHello, plugin_bridge_service_client::PluginBridgeServiceClient},
};
use paperclip_identity::Identity;
use serde_json::Value;
use tempfile::TempDir;

use crate::{certificates::Authority, load::Caller, unary::Unary, workers::Worker};

/// Longest wait for a process to be ready, and for one call.
const PATIENCE: Duration = Duration::from_secs(120);
/// Memory limit of a worker that says nothing else.
const WORKER_MEMORY: u64 = 256 * 1024 * 1024;

/// The programs under test.
#[derive(Clone)]
pub struct Programs {
    /// `paperclip-sidecar`.
    pub sidecar: PathBuf,
    /// `paperclip-shim`.
    pub shim: PathBuf,
}

/// What may differ from pod to pod.
pub struct Setting {
    /// Memory limit of the worker in bytes, which its heap limit follows.
    pub worker_memory: u64,
    /// A program that runs the sidecar, with its own arguments. Empty for none.
    pub runs_sidecar: Vec<OsString>,
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            worker_memory: WORKER_MEMORY,
            runs_sidecar: Vec::new(),
        }
    }
}

/// Shim, sidecar and worker, ready for calls.
pub struct Pod {
    shim: Child,
    sidecar: Child,
    address: SocketAddr,
    authority: Authority,
    plugin: Identity,
    // Last, so that it outlives the processes.
    _folder: TempDir,
}

impl Pod {
    /// Starts the processes and waits until the worker is initialised.
    pub async fn start(programs: &Programs, worker: &Worker) -> Result<Self> {
        Self::start_as(programs, worker, &Setting::default()).await
    }

    /// The same, with something changed.
    pub async fn start_as(programs: &Programs, worker: &Worker, setting: &Setting) -> Result<Self> {
        let facts = worker.facts();
        let plugin = Identity::Plugin {
            namespace: facts.plugin_namespace.clone(),
            name: facts.plugin_name.clone(),
        };
        let authority = Authority::new()?;
        let folder = tempfile::tempdir()?;
        let path = |name: &str| folder.path().join(name);
        for name in ["tls", "facts", "run"] {
            fs::create_dir(path(name))?;
        }
        let leaf = authority.issue(&plugin)?;
        fs::write(path("tls/tls.crt"), &leaf.certificate)?;
        fs::write(path("tls/tls.key"), &leaf.key)?;
        fs::write(path("tls/ca.crt"), authority.certificate())?;
        fs::write(
            path("facts").join(FILE_NAME),
            serde_json::to_string(&facts)?,
        )?;
        let socket = path("run/shim.sock");
        let shim = Command::new(&programs.shim)
            .arg(&socket)
            .spawn()
            .with_context(|| format!("start {}", programs.shim.display()))?;
        let mut line = setting.runs_sidecar.clone();
        line.push(programs.sidecar.clone().into());
        let mut sidecar = Command::new(&line[0])
            .args(&line[1..])
            .arg("--facts-dir")
            .arg(path("facts"))
            .arg("--artifact-dir")
            .arg(worker.artifact())
            .arg("--tls-dir")
            .arg(path("tls"))
            .arg("--socket")
            .arg(&socket)
            .arg("--node")
            .arg(worker.node())
            .args(["--grpc-listen", "127.0.0.1:0"])
            .args(["--health-listen", "127.0.0.1:0"])
            .arg("--worker-memory-bytes")
            .arg(setting.worker_memory.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {}", programs.sidecar.display()))?;
        let address = listening(&mut sidecar)?;
        let pod = Self {
            shim,
            sidecar,
            address,
            authority,
            plugin,
            _folder: folder,
        };
        pod.initialised().await?;
        Ok(pod)
    }

    /// Process id of the shim.
    pub fn shim(&self) -> u32 {
        self.shim.id()
    }

    /// Process id of the sidecar.
    pub fn sidecar(&self) -> u32 {
        self.sidecar.id()
    }

    async fn initialised(&self) -> Result<()> {
        let tls = self.authority.client(&Identity::Operator)?;
        let wait = async {
            // A first handshake under a profiler takes longer than a client waits.
            let mut states = loop {
                match client::watch_status(self.address, &tls, &self.plugin).await {
                    Ok(states) => break states,
                    Err(ConnectError::Transport { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            };
            while let Some(state) = states.message().await? {
                if state.worker.is_some_and(|worker| worker.initialised) {
                    return Ok(());
                }
            }
            Err(anyhow::anyhow!("the sidecar ended its states"))
        };
        tokio::time::timeout(PATIENCE, wait)
            .await
            .context("wait for the worker")?
    }

    /// Opens a session as a replica of the plugin's host.
    pub async fn attach(&self, replica: &str) -> Result<Session> {
        let hello = HostHello {
            host_namespace: "paperclip".into(),
            host_name: "main".into(),
            replica: replica.into(),
            ..HostHello::default()
        };
        let tls = self.authority.client(&host())?;
        let (_, sender, receiver) =
            client::connect(self.address, &tls, &self.plugin, hello).await?;
        let mut incoming = receiver.into_queue();
        let answers = sender.clone();
        tokio::spawn(async move {
            while let Some(message) = incoming.recv().await {
                if let Incoming::Request(request) = message {
                    let nothing = Ok(Bytes::from_static(b"null"));
                    let _ = answers.respond(request.id, nothing).await;
                }
            }
        });
        Ok(Session(sender))
    }

    /// Opens a connection for single calls.
    pub async fn unary(&self) -> Result<Unary> {
        let tls = self.authority.client(&host())?;
        let channel = client::channel(self.address, &tls, &self.plugin).await?;
        Ok(Unary(PluginBridgeServiceClient::new(channel)))
    }
}

/// The one host that the facts name.
pub fn host() -> Identity {
    Identity::Host {
        namespace: "paperclip".into(),
        name: "main".into(),
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        for child in [&mut self.shim, &mut self.sidecar] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The address in a bridge's record that it listens. Later records are read and dropped.
pub fn listening(sidecar: &mut Child) -> Result<SocketAddr> {
    let stdout = sidecar.stdout.take().context("standard output is piped")?;
    let (found, address) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let record: Value = serde_json::from_str(&line).unwrap_or_default();
            if record["message"] == "listening"
                && let Some(address) = record["grpc"].as_str()
            {
                let _ = found.send(address.to_owned());
            }
        }
    });
    let address = address
        .recv_timeout(PATIENCE)
        .context("wait for the bridge to listen")?;
    Ok(address.parse()?)
}

/// A host's session.
#[derive(Clone)]
pub struct Session(SessionSender);

impl Caller for Session {
    async fn answer(&self, params: Bytes) -> Result<Bytes> {
        let call = self
            .0
            .call("getData", params, Bytes::new(), PATIENCE, false);
        Ok(call.await?)
    }
}

/// The programs, checked to be there.
pub fn programs(sidecar: &Path, shim: &Path) -> Result<Programs> {
    for program in [sidecar, shim] {
        ensure!(program.is_file(), "{} is not built", program.display());
    }
    Ok(Programs {
        sidecar: sidecar.to_owned(),
        shim: shim.to_owned(),
    })
}
