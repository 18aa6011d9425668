//! The sidecar's end of the shim's socket: events come in, commands go out.
//!
//! The worker can reach the socket as well, and has the shim's user. A peer is believed when it
//! holds the lock of the socket's folder, which the shim takes before there is a worker and keeps
//! for as long as it lives: it sends the descriptor that holds it, and whoever else comes finds
//! the lock taken. The kernel lets go of it when the shim is gone, and the worker with it.

use std::{
    fs::{self, File, TryLockError},
    io,
    os::{
        fd::OwnedFd,
        unix::{fs::MetadataExt as _, net::UnixStream as StdStream},
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use paperclip_shim::{
    channel::{Channel, Full, Listener, Received},
    protocol::{Command, Exit, Report},
};
use tokio::{net::UnixStream, sync::mpsc};

/// How long a peer may take over its first packet, in milliseconds. The shim sends it with its
/// connection; everybody else waits behind a peer that does not.
const HELLO: u16 = 500;
/// Refused peers are logged this often at most.
const LOGGED: Duration = Duration::from_secs(1);

/// An event at the shim.
#[derive(Debug)]
pub enum ShimEvent {
    /// A shim is there: the keys of what was delivered to workers.
    Hello(Vec<u8>),
    /// A peer that is not the shim was refused.
    Stranger,
    /// A shim without a worker is there.
    Idle,
    /// A worker runs.
    Worker {
        /// Its process id, as the shim sees it.
        pid: i32,
        /// State that an earlier sidecar kept; empty for a fresh worker.
        remembered: Vec<u8>,
        /// The worker's stdin, to write.
        stdin: UnixStream,
        /// The worker's stdout, to read.
        stdout: UnixStream,
    },
    /// The worker was not started, and why.
    Refused(String),
    /// The worker ended.
    Exited(Exit),
    /// A line of its stderr.
    Stderr(String),
    /// The container is asked to stop.
    Terminating,
    /// The shim is gone.
    Lost,
}

/// A way to the shim that is there now, if one is.
#[derive(Clone, Debug, Default)]
pub struct Shim(Arc<Mutex<Option<Arc<Channel>>>>);

impl Shim {
    /// Sends a command; without a shim, or when it cannot take it, false.
    pub fn send(&self, command: &Command) -> bool {
        let channel = self.0.lock().ok().and_then(|current| current.clone());
        channel.is_some_and(|channel| {
            let sent = channel.send(&command.encode(), &[], Full::Wait);
            if let Err(error) = &sent {
                tracing::warn!(%error, "a command to the shim was not sent");
            }
            sent.is_ok()
        })
    }

    fn set(&self, channel: Option<Arc<Channel>>) {
        if let Ok(mut current) = self.0.lock() {
            *current = channel;
        }
    }
}

/// Listens for shims at `socket`, one at a time.
///
/// A thread of its own waits for packets: they come seldom, and descriptors come with them.
pub fn listen(socket: &Path) -> io::Result<(Shim, mpsc::Receiver<ShimEvent>)> {
    let listener = Listener::bind(socket)?;
    let folder = socket.parent().unwrap_or(Path::new("/")).to_owned();
    let shim = Shim::default();
    let (events, receiver) = mpsc::channel(256);
    let (runtime, current) = (tokio::runtime::Handle::current(), shim.clone());
    thread::Builder::new()
        .name("shim".into())
        .stack_size(256 * 1024)
        .spawn(move || {
            // Streams are registered with the runtime in the thread that makes them.
            let _inside = runtime.enter();
            serve(&listener, &folder, &current, &events);
        })?;
    Ok((shim, receiver))
}

/// Why a peer is not taken for the shim.
#[derive(Debug, thiserror::Error)]
enum Stranger {
    #[error("waiting for its hello: none within {HELLO} ms")]
    Silent,
    #[error("reading its hello: it said something else")]
    NoHello,
    #[error("reading its hello: {0} descriptors came with it, wanted 1")]
    NoProof(usize),
    #[error("comparing its descriptor with {}: it is of something else", .0.display())]
    OtherFolder(PathBuf),
    #[error("locking {} through its descriptor: another process holds the lock", .0.display())]
    NotHolder(PathBuf),
    #[error("reading its hello")]
    System(#[from] io::Error),
}

/// Waits for the hello of a peer that has to be the shim. Gives the keys in it.
fn admit(channel: &Channel, folder: &Path) -> Result<Vec<u8>, Stranger> {
    if !channel.is_readable_within(HELLO)? {
        return Err(Stranger::Silent);
    }
    let received = channel.receive()?.ok_or(Stranger::NoHello)?;
    let Ok(Report::Hello(keys)) = Report::decode(&received.packet) else {
        return Err(Stranger::NoHello);
    };
    let [proof] = <[OwnedFd; 1]>::try_from(received.descriptors)
        .map_err(|found| Stranger::NoProof(found.len()))?;
    let proof = File::from(proof);
    let (theirs, ours) = (proof.metadata()?, fs::metadata(folder)?);
    if (theirs.dev(), theirs.ino()) != (ours.dev(), ours.ino()) {
        return Err(Stranger::OtherFolder(folder.to_owned()));
    }
    // Taken now, or held through this very descriptor. Closing our copy leaves it to the peer.
    match proof.try_lock() {
        Ok(()) => Ok(keys),
        Err(TryLockError::WouldBlock) => Err(Stranger::NotHolder(folder.to_owned())),
        Err(TryLockError::Error(error)) => Err(error.into()),
    }
}

fn serve(listener: &Listener, folder: &Path, shim: &Shim, events: &mpsc::Sender<ShimEvent>) {
    let mut logged: Option<Instant> = None;
    while !events.is_closed() {
        let channel = match listener.accept() {
            Ok(channel) => Arc::new(channel),
            Err(error) => {
                tracing::error!(%error, "waiting for the shim failed");
                return;
            }
        };
        let keys = match admit(&channel, folder) {
            Ok(keys) => keys,
            Err(stranger) => {
                if logged.is_none_or(|at| at.elapsed() >= LOGGED) {
                    let error = anyhow::Error::new(stranger);
                    tracing::warn!("a peer at the shim's socket was refused: {error:#}");
                    logged = Some(Instant::now());
                }
                let _ = events.blocking_send(ShimEvent::Stranger);
                continue;
            }
        };
        shim.set(Some(channel.clone()));
        let _ = events.blocking_send(ShimEvent::Hello(keys));
        if let Err(error) = follow(&channel, events) {
            tracing::warn!(%error, "the connection to the shim was lost");
        }
        shim.set(None);
        let _ = events.blocking_send(ShimEvent::Lost);
    }
}

fn follow(channel: &Channel, events: &mpsc::Sender<ShimEvent>) -> io::Result<()> {
    while let Some(received) = channel.receive()? {
        if events.blocking_send(event(received)?).is_err() {
            break;
        }
    }
    Ok(())
}

fn event(received: Received) -> io::Result<ShimEvent> {
    let report = Report::decode(&received.packet)
        .map_err(|_| io::Error::other("the shim sent a report that cannot be read"))?;
    Ok(match report {
        Report::Hello(_) => return Err(io::Error::other("the shim said hello twice")),
        Report::Idle => ShimEvent::Idle,
        Report::Worker { pid, remembered } => {
            let [stdin, stdout] = <[OwnedFd; 2]>::try_from(received.descriptors)
                .map_err(|_| io::Error::other("the shim sent a worker without its pipes"))?;
            ShimEvent::Worker {
                pid,
                remembered,
                stdin: stream(stdin)?,
                stdout: stream(stdout)?,
            }
        }
        Report::Refused(why) => ShimEvent::Refused(why),
        Report::Exited(exit) => ShimEvent::Exited(exit),
        Report::Stderr(line) => ShimEvent::Stderr(line),
        Report::Terminating => ShimEvent::Terminating,
    })
}

fn stream(descriptor: OwnedFd) -> io::Result<UnixStream> {
    let stream = StdStream::from(descriptor);
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}
