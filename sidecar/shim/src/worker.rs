//! The worker process: started with a clean environment, in a group of its own.

use std::{
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::Path,
    process::{ChildStderr, Command, Stdio},
};

use nix::{
    errno::Errno,
    sys::{
        signal::{Signal, killpg},
        socket::{AddressFamily, SockFlag, SockType, socketpair},
    },
    unistd::Pid,
};

use crate::{marker, protocol::Start, tail::Tail};

/// A running worker.
#[derive(Debug)]
pub struct Worker {
    pid: Pid,
    /// Our ends of the worker's stdin and stdout; kept so that it outlives a sidecar.
    stdin: OwnedFd,
    stdout: OwnedFd,
    /// None once it ended.
    pub stderr: Option<ChildStderr>,
    /// The end of what it wrote to stderr.
    pub tail: Tail,
    /// State that the sidecar gets back.
    pub remembered: Vec<u8>,
}

impl Worker {
    /// Checks the marker and starts the worker; a sentence says why not.
    pub fn start(start: &Start) -> Result<Self, String> {
        marker::check(Path::new(&start.artifact), &start.marker)?;
        spawn(start).map_err(|error| {
            format!(
                "starting {} in {}: {error}",
                start.arguments.first().map_or("nothing", String::as_str),
                start.directory
            )
        })
    }

    /// Its process id.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Our ends of its stdin and stdout.
    pub fn pipes(&self) -> [BorrowedFd<'_>; 2] {
        [self.stdin.as_fd(), self.stdout.as_fd()]
    }

    /// Signals its whole group. A group that is gone is no error.
    pub fn signal(&self, signal: Signal) {
        match killpg(self.pid, signal) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => eprintln!("paperclip-shim: sending {signal} to the worker: {error}"),
        }
    }
}

fn spawn(start: &Start) -> io::Result<Worker> {
    let (program, arguments) = start
        .arguments
        .split_first()
        .ok_or_else(|| io::Error::other("the command is empty"))?;
    let (stdin, their_stdin) = pair()?;
    let (stdout, their_stdout) = pair()?;
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(start.environment.iter().map(|(name, value)| (name, value)))
        .current_dir(&start.directory)
        .process_group(0)
        .stdin(Stdio::from(their_stdin))
        .stdout(Stdio::from(their_stdout))
        .stderr(Stdio::piped())
        .spawn()?;
    let stderr = child.stderr.take();
    let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
    // The child is reaped with all others, by the supervisor.
    drop(child);
    Ok(Worker {
        pid: Pid::from_raw(pid),
        stdin,
        stdout,
        stderr,
        tail: Tail::default(),
        remembered: Vec::new(),
    })
}

/// Sockets and not pipes, as under the original host; two, so that each side sees the other close.
fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let kind = SockType::Stream;
    Ok(socketpair(
        AddressFamily::Unix,
        kind,
        None,
        SockFlag::SOCK_CLOEXEC,
    )?)
}
