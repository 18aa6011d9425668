//! Which processes are the worker's: the one that listens at the socket, and all that it left.
//!
//! The socket's folder is open to the worker, so the worker can put a socket of its own at the
//! path. What it would get over it is the shim's proof of being the shim, so the shim looks first.
//! In a pod this is certain: a sidecar is in another process namespace, and everything in the
//! shim's own descends from the shim.

use std::{fs, io, os::fd::AsFd as _, process};

use nix::{
    errno::Errno,
    sys::{
        signal::{Signal, kill},
        socket::{getsockopt, sockopt::PeerCredentials},
    },
    unistd::Pid,
};

use crate::channel::Channel;

/// Whether the listener that `channel` reached is no process that this one started, at any
/// remove. A process that cannot be looked up counts as one.
pub fn is_outside(channel: &Channel) -> io::Result<bool> {
    let listener = getsockopt(&channel.as_fd(), PeerCredentials)?.pid();
    // The kernel names no process of another namespace.
    if listener == 0 {
        return Ok(true);
    }
    Ok(!descends(
        listener,
        i32::try_from(process::id()).unwrap_or(i32::MAX),
    ))
}

/// Whether a process was started by `from`, at any remove, or is it.
fn descends(process: i32, from: i32) -> bool {
    let mut at = process;
    while at != from {
        match parent(at) {
            Some(0) => return false,
            Some(parent) => at = parent,
            None => return true,
        }
    }
    true
}

/// Ends every process that descends from this one, in whatever group or session it is: a worker
/// that is gone leaves nothing behind, and nothing that it started goes on beside the next one.
pub fn end_descendants() -> io::Result<()> {
    if process::id() == 1 {
        // Everything else in the namespace, in one step that no fork escapes.
        return match kill(Pid::from_raw(-1), Signal::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(error) => Err(error.into()),
        };
    }
    let own = i32::try_from(process::id()).unwrap_or(i32::MAX);
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let found = name.to_str().and_then(|name| name.parse().ok());
        // Not one that ended meanwhile: it counts as a descendant when it cannot be looked up.
        if let Some(found) = found.filter(|found| *found != own && parent(*found).is_some())
            && descends(found, own)
        {
            let _ = kill(Pid::from_raw(found), Signal::SIGKILL);
        }
    }
    Ok(())
}

/// The parent of a process; 0 for the first of all.
fn parent(process: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name stands in parentheses, and may hold some itself. State and parent follow.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_child_descends_from_us_and_our_parent_does_not() {
        let own = i32::try_from(process::id()).unwrap();
        let waiting = Command::new("cat").stdin(Stdio::piped()).spawn();
        let mut child = waiting.unwrap();
        assert!(descends(i32::try_from(child.id()).unwrap(), own));
        assert!(!descends(parent(own).unwrap(), own));
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(descends(i32::MAX, own), "nobody knows who that is");
    }
}
