//! The shipped multiplexer between a worker and hosts that are in memory: real pipes of
//! tokio's, real session loops, no process and no network.

pub mod random;
mod shared_end;

use std::sync::Arc;

use shared_end::SharedEnd;

use paperclip_bridge::v1::{HostHello, PluginHello, SessionRequest, SessionResponse};
use paperclip_sidecar::multiplexer::{self, Multiplexer, Pipes, Throttle};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, DuplexStream},
    sync::mpsc,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// Bytes that a pipe holds, as in the kernel.
const PIPE: usize = 64 * 1024;
/// Frames that a session holds, as behind the service.
const QUEUE: usize = 256;

/// A worker's ends of its pipes.
pub struct Worker {
    /// What the worker writes.
    pub stdout: DuplexStream,
    /// The lines it is sent.
    pub stdin: mpsc::UnboundedReceiver<String>,
    /// The sidecar's ends, which outlive a sidecar as the shim's duplicates do.
    ends: (SharedEnd, SharedEnd),
    /// The tasks around it; they end with this.
    pipes: Pipes,
}

#[allow(dead_code, reason = "each of the tests that share this uses a part")]
impl Worker {
    /// Starts a worker.
    pub fn start(multiplexer: &Arc<Multiplexer>) -> Self {
        let (stdin, theirs) = tokio::io::duplex(PIPE);
        let (stdout, ours) = tokio::io::duplex(PIPE);
        let (lines, queue) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut read = BufReader::new(theirs).lines();
            while let Ok(Some(line)) = read.next_line().await {
                if lines.send(line).is_err() {
                    return;
                }
            }
        });
        let ends = (SharedEnd::of(stdin), SharedEnd::of(ours));
        let (stdin, ours) = ends.clone();
        Self {
            stdout,
            stdin: queue,
            ends,
            pipes: multiplexer::run_pipes(multiplexer, stdin, ours, false, Throttle::unlimited()),
        }
    }

    /// Hands the worker over to the multiplexer of another sidecar.
    pub fn adopt(&mut self, multiplexer: &Arc<Multiplexer>) {
        let (stdin, ours) = self.ends.clone();
        self.pipes = multiplexer::run_pipes(multiplexer, stdin, ours, true, Throttle::unlimited());
    }
}

/// A host's ends of its session. Dropping it ends the session.
pub struct Host {
    /// What the host sends.
    pub requests: mpsc::Sender<Result<SessionRequest, Status>>,
    /// What it is sent.
    pub frames: mpsc::Receiver<SessionResponse>,
}

impl Host {
    /// Attaches a host.
    pub fn attach(multiplexer: &Arc<Multiplexer>, replica: &str) -> Self {
        let (requests, incoming) = mpsc::channel(QUEUE);
        let (outgoing, frames) = mpsc::channel(QUEUE);
        let hello = HostHello {
            host_namespace: "paperclip".into(),
            host_name: "main".into(),
            replica: replica.into(),
            ..HostHello::default()
        };
        tokio::spawn(multiplexer::serve_session(
            multiplexer.clone(),
            hello,
            PluginHello::default(),
            ReceiverStream::new(incoming),
            outgoing,
            CancellationToken::new(),
        ));
        Self { requests, frames }
    }
}
