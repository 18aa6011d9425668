//! Daemons: started detached, found again and ended by the mark in their environment.
//!
//! A process is a cluster's if its environment names the cluster's folder. The kernel
//! keeps that with the process, so there is no record that a kill -9 could leave stale
//! and no process id that could have passed to somebody else.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::layout::Layout;

/// Environment variable that marks a daemon as belonging to a cluster.
const MARK: &str = "PAPERCLIP_TEST_CLUSTER_DIR";
/// Environment variable that says which daemon a process is.
const ROLE: &str = "PAPERCLIP_TEST_CLUSTER_ROLE";

/// How long a daemon may take until it serves, on a machine that does much else.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// A daemon to start.
pub struct Daemon<'a> {
    /// What it is called in messages, and its log file.
    pub role: String,
    /// The executable.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// More environment.
    pub environment: Vec<(&'a str, OsString)>,
    /// Network namespace to run in.
    pub namespace: Option<String>,
}

impl<'a> Daemon<'a> {
    /// A daemon on this machine's own network.
    pub fn new(role: &str, program: impl Into<PathBuf>) -> Self {
        Self {
            role: role.to_owned(),
            program: program.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            namespace: None,
        }
    }

    /// Adds arguments.
    pub fn args<T: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = T>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Adds an environment variable.
    pub fn env(mut self, name: &'a str, value: impl Into<OsString>) -> Self {
        self.environment.push((name, value.into()));
        self
    }

    /// Runs it in a node's network namespace.
    pub fn in_namespace(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.to_owned());
        self
    }

    /// Starts it in a session of its own, so that it outlives this process.
    pub fn start(self, layout: &Layout) -> Result<()> {
        let log = log_file(layout, &self.role)?;
        let mut command = Command::new("setsid");
        if let Some(namespace) = &self.namespace {
            // Not `ip netns exec`: that mounts a fresh /sys, where kubelets find no cgroups.
            command.args(["nsenter", &format!("--net=/run/netns/{namespace}"), "--"]);
        }
        command
            .arg(&self.program)
            .args(&self.arguments)
            .envs(self.environment)
            .env(MARK, layout.dir())
            .env(ROLE, &self.role)
            .current_dir(layout.dir())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {}", self.role))?;
        Ok(())
    }
}

/// Path of a daemon's log.
pub fn log_path(layout: &Layout, role: &str) -> PathBuf {
    layout.path("logs").join(format!("{role}.log"))
}

fn log_file(layout: &Layout, role: &str) -> Result<File> {
    let path = log_path(layout, role);
    fs::create_dir_all(layout.path("logs"))?;
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .with_context(|| format!("open {}", path.display()))
}

/// The last lines of a daemon's log, for messages about its failure.
pub fn log_tail(layout: &Layout, role: &str) -> String {
    let text = fs::read(log_path(layout, role)).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}

/// A running daemon of a cluster.
#[derive(Debug)]
pub struct Running {
    /// Its process id.
    pub pid: Pid,
    /// What it was started as; the children of containerd carry its role.
    pub role: String,
}

/// The processes marked as the cluster's.
pub fn running(layout: &Layout) -> Result<Vec<Running>> {
    let mut found = Vec::new();
    for pid in all_pids()? {
        // A process may end while we look, and then has no environment.
        let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else {
            continue;
        };
        if variable(&environment, MARK) == Some(layout.dir().as_os_str().as_bytes()) {
            let role = variable(&environment, ROLE).unwrap_or_default();
            found.push(Running {
                pid,
                role: String::from_utf8_lossy(role).into_owned(),
            });
        }
    }
    Ok(found)
}

fn all_pids() -> Result<Vec<Pid>> {
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc").context("list processes")? {
        if let Some(pid) = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        {
            pids.push(Pid::from_raw(pid));
        }
    }
    Ok(pids)
}

fn variable<'a>(environment: &'a [u8], name: &str) -> Option<&'a [u8]> {
    environment
        .split(|byte| *byte == 0)
        .find_map(|line| line.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

/// Ends the cluster's daemons, politely first for those that keep data.
pub fn end_all(layout: &Layout) -> Result<()> {
    for (signal, patience) in [(Signal::SIGTERM, 1), (Signal::SIGKILL, 10)] {
        let is_gone = || {
            let left = running(layout)?;
            for process in &left {
                // Gone already is what we want.
                let _ = kill(process.pid, signal);
            }
            ensure!(left.is_empty(), "still running: {left:?}");
            Ok(())
        };
        if eventually("the daemons to end", Duration::from_secs(patience), is_gone).is_ok() {
            return Ok(());
        }
    }
    let left = running(layout)?;
    bail!("these processes do not end: {left:?}");
}

/// Kills every process in these cgroups, and removes the cgroups.
pub fn end_cgroups(name: &str) -> Result<()> {
    let groups = cgroups(name)?;
    let is_empty = || {
        let mut left = 0;
        for group in &groups {
            for procs in files_named(group, "cgroup.procs") {
                for pid in fs::read_to_string(procs).unwrap_or_default().lines() {
                    left += 1;
                    let _ = kill(Pid::from_raw(pid.parse()?), Signal::SIGKILL);
                }
            }
        }
        ensure!(left == 0, "{left} processes left in cgroup {name}");
        Ok(())
    };
    eventually("containers to end", Duration::from_secs(20), is_empty)?;
    for group in groups {
        remove_cgroup(&group);
    }
    Ok(())
}

/// Folders of a cgroup, one for each controller of cgroup v1, or the one of v2.
fn cgroups(name: &str) -> Result<Vec<PathBuf>> {
    let root = Path::new("/sys/fs/cgroup");
    let mut found = vec![root.join(name)];
    for entry in fs::read_dir(root)? {
        found.push(entry?.path().join(name));
    }
    found.retain(|path| path.is_dir());
    Ok(found)
}

fn remove_cgroup(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&entry.path());
        }
    }
    // Fails only while a process is in it, which the caller has excluded.
    let _ = fs::remove_dir(group);
}

fn files_named(dir: &Path, name: &str) -> Vec<PathBuf> {
    let mut found = vec![dir.join(name)];
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(files_named(&entry.path(), name));
        }
    }
    found
}

/// Asks again until there is an answer.
///
/// # Errors
/// With the last error, when patience ends.
pub fn eventually<T>(
    what: &str,
    patience: Duration,
    mut ask: impl FnMut() -> Result<T>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        match ask() {
            Ok(answer) => return Ok(answer),
            Err(error) if start.elapsed() > patience => {
                return Err(error.context(format!("waited {patience:?} for {what}")));
            }
            // The pause between two looks at a condition.
            Err(_) => thread::sleep(Duration::from_millis(100)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_found_whole_and_nowhere_else() {
        let environment = b"A=1\0PAPERCLIP_TEST_CLUSTER_DIR=/x/dev\0B=2\0";
        assert_eq!(variable(environment, MARK), Some(b"/x/dev".as_slice()));
        assert_eq!(variable(b"XPAPERCLIP_TEST_CLUSTER_DIR=/x", MARK), None);
        assert_eq!(variable(b"PAPERCLIP_TEST_CLUSTER_DIRS=/x", MARK), None);
    }
}
