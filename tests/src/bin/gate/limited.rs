//! Commands that write into a log and are killed, with what they started, when their time is up
//! or when the gate is interrupted.

use std::{
    collections::BTreeSet,
    fs::File,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use nix::{
    sys::signal::{SigSet, Signal, killpg},
    unistd::Pid,
};

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By itself.
    Exited(ExitStatus),
    /// Killed when its time was up.
    OverLimit,
}

static RUNNING: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Runs a command in a process group of its own, without input. Both outputs go to the log.
///
/// # Errors
/// When the log cannot be written or the command cannot be started.
pub fn run(command: &mut Command, log: &Path, limit: Duration) -> Result<Ended> {
    let output = File::create(log).with_context(|| format!("create {}", log.display()))?;
    let errors = output.try_clone()?;
    let child = command
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .process_group(0)
        .spawn()
        .with_context(|| format!("start {command:?}"))?;
    let group = Group::of(&child);
    let ended = wait(child);
    match ended.recv_timeout(limit) {
        Ok(status) => Ok(Ended::Exited(status?)),
        Err(_) => {
            kill(group.0);
            // The thread that waits for the process gets it now.
            ended.recv().context("wait for the killed process")??;
            Ok(Ended::OverLimit)
        }
    }
}

/// Waits in a thread, so that the caller can wait with a limit.
fn wait(mut child: Child) -> mpsc::Receiver<std::io::Result<ExitStatus>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(child.wait()));
    receiver
}

/// A process group that ends with an interruption of the gate.
struct Group(i32);

impl Group {
    fn of(child: &Child) -> Self {
        let group = Self(child.id().cast_signed());
        running().insert(group.0);
        if was_interrupted() {
            kill(group.0);
        }
        group
    }
}

fn kill(group: i32) {
    // It may have ended meanwhile.
    let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
}

impl Drop for Group {
    fn drop(&mut self) {
        running().remove(&self.0);
    }
}

fn running() -> std::sync::MutexGuard<'static, BTreeSet<i32>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether somebody asked the gate to end.
pub fn was_interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

/// Kills what runs when somebody asks the gate to end, which then comes to its own end: clusters
/// go and the last line is printed. To be called before any other thread is started.
///
/// # Errors
/// When signals cannot be blocked.
pub fn end_on_signals() -> Result<()> {
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]
        .into_iter()
        .collect();
    signals.thread_block().context("block signals")?;
    thread::spawn(move || {
        while signals.wait().is_ok() {
            INTERRUPTED.store(true, Ordering::SeqCst);
            for group in running().iter() {
                kill(*group);
            }
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limit: Duration) -> (Ended, String) {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let ended = run(Command::new("sh").args(["-c", script]), &log, limit).unwrap();
        (ended, std::fs::read_to_string(log).unwrap())
    }

    #[test]
    fn both_outputs_are_in_the_log() {
        let (ended, log) = shell("echo out; echo err >&2; exit 3", Duration::from_secs(60));
        assert!(matches!(ended, Ended::Exited(status) if status.code() == Some(3)));
        assert_eq!(log, "out\nerr\n");
    }

    #[test]
    fn a_command_over_its_limit_is_killed_with_what_it_started() {
        let (ended, log) = shell("sleep 600 & echo $!; wait", Duration::from_millis(300));
        assert_eq!(ended, Ended::OverLimit);
        let child = format!("/proc/{}/stat", log.trim());
        // Dead, if perhaps not yet collected by its new parent.
        let state = std::fs::read_to_string(child).unwrap_or_default();
        assert!(state.is_empty() || state.contains(") Z "), "{state}");
    }
}
