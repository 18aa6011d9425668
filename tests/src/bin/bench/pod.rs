//! The same worker behind shim, sidecar and mutual TLS, as processes of this machine.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use paperclip_proto::{
    client::{self, CallError, Incoming, SessionSender},
    facts::FILE_NAME,
    identity::Identity,
    tls::ClientTls,
    v1::HostHello,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::{
    load::{Pace, Paced},
    statistics::Samples,
    workers::Worker,
};

/// Longest wait for a process to be ready, and for one call.
const PATIENCE: Duration = Duration::from_secs(30);

/// The programs under test.
#[derive(Clone)]
pub struct Programs {
    /// `paperclip-sidecar`.
    pub sidecar: PathBuf,
    /// `paperclip-shim`.
    pub shim: PathBuf,
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
        let mut sidecar = Command::new(&programs.sidecar)
            .arg("serve")
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
            .args(["--worker-memory-bytes", "268435456"])
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
        let mut states = client::watch_status(self.address, &tls, &self.plugin).await?;
        let wait = async {
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
        let host = Identity::Host {
            namespace: "paperclip".into(),
            name: "main".into(),
        };
        let hello = HostHello {
            host_namespace: "paperclip".into(),
            host_name: "main".into(),
            replica: replica.into(),
            ..HostHello::default()
        };
        let tls = self.authority.client(&host)?;
        let (_, sender, mut incoming) =
            client::connect(self.address, &tls, &self.plugin, hello).await?;
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
}

impl Drop for Pod {
    fn drop(&mut self) {
        for child in [&mut self.shim, &mut self.sidecar] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The address in the sidecar's record that it listens. Later records are read and dropped.
fn listening(sidecar: &mut Child) -> Result<SocketAddr> {
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
        .context("wait for the sidecar to listen")?;
    Ok(address.parse()?)
}

/// A host's session.
#[derive(Clone)]
pub struct Session(SessionSender);

impl Session {
    /// Makes one call and gives its result as JSON.
    pub async fn call(&self, params: &Value) -> Result<Value> {
        let answer = self.answer(Bytes::from(params.to_string())).await?;
        Ok(serde_json::from_slice(&answer)?)
    }

    async fn answer(&self, params: Bytes) -> Result<Bytes, CallError> {
        self.0
            .call("getData", params, Bytes::new(), PATIENCE, false)
            .await
    }

    async fn timed(&self, params: Bytes) -> Result<Duration, CallError> {
        let start = Instant::now();
        self.answer(params).await?;
        Ok(start.elapsed())
    }

    /// Calls one after the other.
    pub async fn sequential(&self, calls: usize, params: &Value) -> Result<Samples> {
        let params = Bytes::from(params.to_string());
        let mut durations = Vec::with_capacity(calls);
        for _ in 0..calls {
            durations.push(self.timed(params.clone()).await?);
        }
        Ok(Samples::new(durations))
    }

    /// Calls a second with so many open at any time.
    pub async fn throughput(&self, calls: usize, in_flight: usize, params: &Value) -> Result<f64> {
        let params = Bytes::from(params.to_string());
        let start = Instant::now();
        let mut lanes = JoinSet::new();
        for lane in 0..in_flight {
            let (session, params) = (self.clone(), params.clone());
            let share = calls / in_flight + usize::from(lane < calls % in_flight);
            lanes.spawn(async move {
                for _ in 0..share {
                    session.answer(params.clone()).await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(lane) = lanes.join_next().await {
            lane??;
        }
        Ok(calls as f64 / start.elapsed().as_secs_f64())
    }
}

/// Calls at a steady rate, in turn through each session, whether answers come or not.
pub async fn paced(sessions: &[Session], pace: Pace, params: &Value) -> Result<Paced> {
    let params = Bytes::from(params.to_string());
    let sessions = sessions.to_vec();
    let runtime = tokio::runtime::Handle::current();
    let calls = tokio::task::spawn_blocking(move || -> Result<_> {
        let mut calls = Vec::with_capacity(pace.calls());
        pace.run(|index| {
            let session = sessions[index % sessions.len()].clone();
            let params = params.clone();
            calls.push(runtime.spawn(async move { session.timed(params).await }));
            Ok(())
        })?;
        Ok(calls)
    });
    let mut durations = Vec::with_capacity(pace.calls());
    for call in calls.await?? {
        durations.extend(call.await?.ok());
    }
    Ok(Paced {
        errors: pace.calls() - durations.len(),
        samples: Samples::new(durations),
    })
}

/// A certificate authority of the benchmark's own.
struct Authority(CertifiedIssuer<'static, KeyPair>);

struct Leaf {
    certificate: String,
    key: String,
}

impl Authority {
    fn new() -> Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Ok(Self(CertifiedIssuer::self_signed(
            params,
            KeyPair::generate()?,
        )?))
    }

    fn certificate(&self) -> String {
        self.0.pem()
    }

    fn issue(&self, identity: &Identity) -> Result<Leaf> {
        let mut params = CertificateParams::default();
        let name = identity.to_string().try_into()?;
        params.subject_alt_names = vec![SanType::URI(name)];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate()?;
        Ok(Leaf {
            certificate: params.signed_by(&key, &self.0)?.pem(),
            key: key.serialize_pem(),
        })
    }

    fn client(&self, identity: &Identity) -> Result<ClientTls> {
        let leaf = self.issue(identity)?;
        Ok(ClientTls::from_pem(
            leaf.certificate.as_bytes(),
            leaf.key.as_bytes(),
            self.certificate().as_bytes(),
        )?)
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
