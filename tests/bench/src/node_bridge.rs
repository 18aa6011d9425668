//! A bridge written in Node, for comparison.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result};
use paperclip_bridge::{client, v1::plugin_bridge_service_client::PluginBridgeServiceClient};
use paperclip_identity::Identity;
use paperclip_identity_issue::Material;
use paperclip_tests::{layout::command_output, platform::repository, programs};
use tempfile::TempDir;

use crate::{
    certificates::Authority,
    pod::{self, listening},
    unary::Unary,
    workers::Worker,
};

/// The program with what it needs from npm.
pub struct Installed(TempDir);

impl Installed {
    /// Installs it in a folder of its own.
    pub fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        for (name, text) in [
            ("package.json", include_str!("node_bridge/package.json")),
            ("bridge.mjs", include_str!("node_bridge/bridge.mjs")),
        ] {
            fs::write(folder.path().join(name), text)?;
        }
        let mut npm = programs::npm()?;
        npm.current_dir(folder.path())
            .args(["install", "--ignore-scripts", "--no-audit", "--no-fund"])
            .arg("--loglevel=error");
        command_output(&mut npm).context("install what the Node bridge needs")?;
        Ok(Self(folder))
    }
}

/// The bridge with a worker that is initialised.
pub struct NodeBridge {
    process: Child,
    address: SocketAddr,
    authority: Authority,
    // Last, so that it outlives the process.
    _tls: TempDir,
}

impl NodeBridge {
    /// Starts it.
    pub fn start(installed: &Installed, worker: &Worker) -> Result<Self> {
        let authority = Authority::new()?;
        let tls = tempfile::tempdir()?;
        write(
            tls.path(),
            &authority.issue(&plugin())?,
            authority.certificate(),
        )?;
        let mut process = Command::new(worker.node())
            .current_dir(&installed.0)
            .arg("bridge.mjs")
            .arg(repository().join("proto/bridge/proto"))
            .arg(tls.path())
            .arg(worker.entry())
            .arg(worker.initialize_params().to_string())
            .stdout(Stdio::piped())
            .spawn()
            .context("start the Node bridge")?;
        let address = listening(&mut process);
        let mut bridge = Self {
            process,
            address: ([127, 0, 0, 1], 0).into(),
            authority,
            _tls: tls,
        };
        // Only now, so that what was started is ended when it does not listen.
        bridge.address = address?;
        Ok(bridge)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Opens a connection.
    pub async fn unary(&self) -> Result<Unary> {
        let tls = self.authority.client(&pod::host())?;
        let channel = client::channel(self.address, &tls, &plugin()).await?;
        Ok(Unary(PluginBridgeServiceClient::new(channel)))
    }
}

impl Drop for NodeBridge {
    fn drop(&mut self) {
        // The worker ends with its stdin.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn plugin() -> Identity {
    Identity::Plugin {
        namespace: "bench".into(),
        name: "echo".into(),
    }
}

fn write(folder: &Path, leaf: &Material, authority: &str) -> Result<()> {
    fs::write(folder.join("tls.crt"), &leaf.certificate)?;
    fs::write(folder.join("tls.key"), &leaf.key)?;
    fs::write(folder.join("ca.crt"), authority)?;
    Ok(())
}
