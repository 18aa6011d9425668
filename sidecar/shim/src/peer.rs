//! Which processes are the worker's: the one that listens at the socket, and all that it left.
//!
//! The socket's folder is open to the worker, so the worker can put a socket of its own at the
//! path. What it would get over it is the shim's proof of being the shim, so the shim looks first.
//! In a pod this is certain: a sidecar is in another process namespace, and everything that the
//! worker starts descends from the shim.

use std::{collections::HashSet, fs, io, os::fd::AsFd as _, process};

use nix::{
    sys::{
        signal::{Signal, kill},
        socket::{getsockopt, sockopt::PeerCredentials},
    },
    unistd::Pid,
};

use crate::channel::Channel;

/// How often what a worker left is looked for.
const ROUNDS: usize = 100;

/// True when the listener that `channel` reached is no process that this one started, at any
/// remove. A process that cannot be looked up counts as one.
pub fn is_outside(channel: &Channel) -> io::Result<bool> {
    let listener = getsockopt(&channel.as_fd(), PeerCredentials)?.pid();
    // The kernel names no process of another namespace.
    if listener == 0 {
        return Ok(true);
    }
    Ok(descends(listener, own()) == Some(false))
}

fn own() -> i32 {
    // The kernel gives no greater one.
    i32::try_from(process::id()).unwrap_or(i32::MAX)
}

/// True when a process was started by `from`, at any remove, or is it. None when one on the way is
/// gone.
fn descends(process: i32, from: i32) -> Option<bool> {
    let mut at = process;
    while at != from {
        match parent(at)? {
            0 => return Some(false),
            parent => at = parent,
        }
    }
    Some(true)
}

/// Ends every process that descends from this one, in whatever group or session it is: a worker
/// that is gone leaves nothing behind, and nothing that it started goes on beside the next one.
///
/// Looks again until nothing new is there, since what is being ended may start others. Processes
/// of people, who come into the container from outside, stay.
pub fn end_descendants() -> io::Result<()> {
    let own = own();
    let mut ended = HashSet::new();
    for _ in 0..ROUNDS {
        let mut is_done = true;
        for found in processes()? {
            if found == own || ended.contains(&found) || !lives(found) {
                continue;
            }
            match descends(found, own) {
                Some(true) => {
                    // It may be gone by now, which is as good.
                    let _ = kill(Pid::from_raw(found), Signal::SIGKILL);
                    ended.insert(found);
                    is_done = false;
                }
                Some(false) => {}
                // Its family is changing; who it belongs to is seen in the next round.
                None => is_done = false,
            }
        }
        if is_done {
            return Ok(());
        }
    }
    Err(io::Error::other("it starts processes faster than they end"))
}

fn processes() -> io::Result<Vec<i32>> {
    let names = fs::read_dir("/proc")?.map(|entry| entry.map(|entry| entry.file_name()));
    let names = names.collect::<io::Result<Vec<_>>>()?;
    let numbers = names.iter().filter_map(|name| name.to_str()?.parse().ok());
    Ok(numbers.collect())
}

/// True when a process is there and not only waits to be reaped.
fn lives(process: i32) -> bool {
    stat(process, 0).is_some_and(|state| !matches!(&*state, "Z" | "X"))
}

/// The parent of a process; 0 for the first of all.
fn parent(process: i32) -> Option<i32> {
    stat(process, 1)?.parse().ok()
}

/// The fields of a process in /proc behind its name: its state first, then its parent.
fn stat(process: i32, at: usize) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name stands in parentheses, and may hold some itself.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(at).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_child_descends_from_us_and_our_parent_does_not() {
        let waiting = Command::new("cat").stdin(Stdio::piped()).spawn();
        let mut child = waiting.unwrap();
        let number = i32::try_from(child.id()).unwrap();
        assert_eq!(descends(number, own()), Some(true));
        assert_eq!(descends(parent(own()).unwrap(), own()), Some(false));
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(descends(number, own()), None, "it is gone");
    }
}
