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
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::signal::unix::{SignalKind, signal};

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
/// go and the last line is printed. Signals are handled, not blocked: a blocked one would be
/// blocked in all that the gate starts, and no test could end a program by it.
///
/// # Errors
/// When signals cannot be handled.
pub fn end_on_signals() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let mut signals = {
        let _entered = runtime.enter();
        [
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        ]
    };
    thread::spawn(move || {
        let [interrupt, terminate, hangup] = &mut signals;
        loop {
            runtime.block_on(async {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hangup.recv() => {}
                }
            });
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
    use std::{os::unix::process::ExitStatusExt, time::Instant};

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
        // Gone, or dead and not yet collected by its new parent. A kill is sent, not awaited.
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let state = std::fs::read_to_string(&child).unwrap_or_default();
            if state.is_empty() || state.contains(") Z ") {
                return;
            }
            assert!(Instant::now() < deadline, "{state}");
            thread::yield_now();
        }
    }

    /// Whether a program that the gate starts ends by the signal that asks it to.
    #[test]
    fn what_is_started_can_be_asked_to_end() {
        end_on_signals().unwrap();
        let (ended, _) = shell("kill -TERM $$; sleep 60", Duration::from_secs(30));
        let Ended::Exited(status) = ended else {
            panic!("{ended:?}")
        };
        assert_eq!(status.signal(), Some(Signal::SIGTERM as i32));
    }
}
