//! The test cluster, and what end-to-end tests do with it.
//!
//! A cluster is real Kubernetes on this machine: two nodes, each with a network namespace,
//! containerd and kubelet of its own; etcd, API server, controllers and DNS; a registry
//! for images and one for npm. Pods reach nothing else. The program `cluster` brings it
//! up and down; [`Cluster`] is the same for tests.

mod bring_up;
pub mod built;
mod control_plane;
mod image_registry;
pub mod images;
mod inventory;
pub mod layout;
mod network;
mod node;
pub mod npm;
mod pki;
pub mod platform;
mod process;
pub mod programs;
mod progress;
mod reader;
pub mod sqlite;
mod storage;
mod toolchain;
mod wire;

pub use inventory::Inventory;
pub use process::eventually;
pub use wire::block_on;

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use anyhow::{Context, Result, bail};
use kube::{Client, Config, config::Kubeconfig};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use serde_json::Value;

use crate::{
    layout::Layout,
    npm::Npm,
    reader::{Query, Reader},
};

/// A running cluster.
pub struct Cluster {
    layout: Layout,
    kubectl: PathBuf,
    reader: OnceLock<Reader>,
}

impl Cluster {
    /// Brings the cluster of this name up, unless it is.
    ///
    /// # Errors
    /// When a part cannot be built or does not become ready; the error holds the end of its log.
    pub fn up(name: &str) -> Result<Self> {
        Self::of(bring_up::up(name)?)
    }

    /// The cluster of this name, which is up.
    ///
    /// # Errors
    /// When there is none, or a part of it does not run.
    pub fn attach(name: &str) -> Result<Self> {
        let layout = Layout::load(name)?
            .with_context(|| format!("there is no cluster {name}: `cluster up --name {name}`"))?;
        let missing = bring_up::missing_daemons(&layout)?;
        if !missing.is_empty() {
            bail!("of cluster {name} these do not run: {}", missing.join(", "));
        }
        Self::of(layout)
    }

    /// Takes the cluster of this name down, whatever there is of it.
    ///
    /// # Errors
    /// When a process does not end or something cannot be removed.
    pub fn down(name: &str) -> Result<()> {
        bring_up::down(name)
    }

    /// Names of the clusters on this machine, each with its daemons that do not run.
    ///
    /// # Errors
    /// When the state folder or the process table cannot be read.
    pub fn all() -> Result<Vec<(String, Vec<String>)>> {
        let status =
            |layout: Layout| Ok((layout.name.clone(), bring_up::missing_daemons(&layout)?));
        Layout::all()?.into_iter().map(status).collect()
    }

    fn of(layout: Layout) -> Result<Self> {
        // Another part of the program may have installed it, and it is the same one.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        Ok(Self {
            layout,
            kubectl: programs::kubernetes("kubectl")?,
            reader: OnceLock::new(),
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.layout.name
    }

    /// Folder of its state.
    pub fn dir(&self) -> PathBuf {
        self.layout.dir()
    }

    /// Kubeconfig of an administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.layout.kubeconfig()
    }

    /// A client with the rights of an administrator.
    ///
    /// # Errors
    /// When the kubeconfig cannot be read.
    pub async fn client(&self) -> Result<Client> {
        let kubeconfig = Kubeconfig::read_from(self.kubeconfig())?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await?;
        Ok(Client::try_from(config)?)
    }

    /// Reads one object or a list as JSON. The arguments are those of `kubectl get`; kubectl is
    /// started only for those that the client of this process does not know.
    ///
    /// # Errors
    /// When there is no such object or the API server cannot be asked.
    pub fn get(&self, arguments: &[&str]) -> Result<Value> {
        match Query::parse(arguments) {
            Ok(query) => self.reader()?.get(&query),
            Err(_) => {
                let json = self.kubectl(&[&["get", "-o", "json"], arguments].concat())?;
                Ok(serde_json::from_str(&json)?)
            }
        }
    }

    /// The client of this process for reads.
    ///
    /// # Errors
    /// When the kubeconfig cannot be read.
    pub fn reader(&self) -> Result<&Reader> {
        if let Some(reader) = self.reader.get() {
            return Ok(reader);
        }
        let reader = wire::on_a_thread(|| Reader::new(self.client()))?;
        Ok(self.reader.get_or_init(|| reader))
    }

    /// Writes a kubeconfig that speaks as a ServiceAccount, for an hour.
    ///
    /// # Errors
    /// When the account does not exist.
    pub fn write_service_account_kubeconfig(
        &self,
        namespace: &str,
        name: &str,
        file: &Path,
    ) -> Result<()> {
        let token = self.kubectl(&["create", "token", name, "-n", namespace])?;
        let authority = std::fs::read_to_string(self.layout.path("pki/ca.crt"))?;
        pki::write_token_kubeconfig(file, &self.layout.api_server(), &authority, token.trim())
    }

    /// Registry of the platform's images, `address:port`, plain HTTP.
    pub fn registry(&self) -> String {
        self.layout.image_registry()
    }

    /// Reference of one of our images as last pushed.
    ///
    /// # Errors
    /// When no images were pushed yet.
    pub fn image(&self, name: &str) -> Result<String> {
        Ok(format!("{}/{name}:{}", self.registry(), self.image_tag()?))
    }

    /// Tag of our images as last pushed.
    ///
    /// # Errors
    /// When no images were pushed yet.
    pub fn image_tag(&self) -> Result<String> {
        images::pushed_tag(&self.registry())
    }

    /// The npm registry, which pods reach.
    pub fn npm(&self) -> Npm {
        Npm::new(&self.layout)
    }

    /// The API server's audit log: every request, without bodies.
    pub fn audit_log(&self) -> PathBuf {
        self.layout.audit_log()
    }

    /// Stops the API server where it stands, until the guard is dropped: connections stay
    /// open and nothing answers.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pause_api_server(&self) -> Result<Paused> {
        let running = process::running(&self.layout)?;
        let server = running.into_iter().find(|one| one.role == "kube-apiserver");
        let pid = server.context("the API server runs")?.pid;
        kill(pid, Signal::SIGSTOP)?;
        Ok(Paused(pid))
    }

    /// Names of the nodes.
    pub fn node_names(&self) -> Vec<String> {
        self.layout
            .nodes()
            .into_iter()
            .map(|node| node.name)
            .collect()
    }

    /// The kubectl of the cluster's version.
    pub fn kubectl_path(&self) -> &Path {
        &self.kubectl
    }

    /// Runs kubectl as an administrator and returns what it printed.
    ///
    /// # Errors
    /// When kubectl fails; the error holds what it printed.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.kubectl);
        layout::command_output(command.env("KUBECONFIG", self.kubeconfig()).args(arguments))
    }

    /// Runs Helm 4 as an administrator and returns what it printed.
    ///
    /// # Errors
    /// When Helm fails; the error holds what it printed.
    pub fn helm(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(programs::helm()?);
        layout::command_output(command.env("KUBECONFIG", self.kubeconfig()).args(arguments))
    }

    /// Runs a command in a container and returns what it printed.
    ///
    /// # Errors
    /// When the command fails.
    pub fn exec(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        command: &[&str],
    ) -> Result<String> {
        let mut arguments = vec!["exec", "-n", namespace, pod, "-c", container, "--"];
        arguments.extend_from_slice(command);
        self.kubectl(&arguments)
    }
}

/// A process that is stopped until this is dropped.
pub struct Paused(Pid);

impl Drop for Paused {
    fn drop(&mut self) {
        // It may have been taken down meanwhile.
        let _ = kill(self.0, Signal::SIGCONT);
    }
}
