//! The sidecar's end of the shim's socket: events come in, commands go out.

use std::{
    io,
    os::{fd::OwnedFd, unix::net::UnixStream as StdStream},
    path::Path,
    sync::{Arc, Mutex},
    thread,
};

use paperclip_shim::{
    channel::{Channel, Full, Listener, Received},
    protocol::{Command, Exit, Report},
};
use tokio::{net::UnixStream, sync::mpsc};

/// What happens at the shim.
#[derive(Debug)]
pub enum ShimEvent {
    /// A shim without a worker is there.
    Idle,
    /// A worker runs.
    Worker {
        /// Its process id, as the shim sees it.
        pid: i32,
        /// What an earlier sidecar wanted kept; empty for a fresh worker.
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
    let shim = Shim::default();
    let (events, receiver) = mpsc::channel(256);
    let (runtime, current) = (tokio::runtime::Handle::current(), shim.clone());
    thread::Builder::new()
        .name("shim".into())
        .stack_size(256 * 1024)
        .spawn(move || {
            // Streams are registered with the runtime in the thread that makes them.
            let _inside = runtime.enter();
            serve(&listener, &current, &events);
        })?;
    Ok((shim, receiver))
}

fn serve(listener: &Listener, shim: &Shim, events: &mpsc::Sender<ShimEvent>) {
    while !events.is_closed() {
        let channel = match listener.accept() {
            Ok(channel) => Arc::new(channel),
            Err(error) => {
                tracing::error!(%error, "waiting for the shim failed");
                return;
            }
        };
        shim.set(Some(channel.clone()));
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
