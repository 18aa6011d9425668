//! The worker's pipes: one task writes its stdin, one reads its stdout. Everything that a worker
//! wrote finds its place in the order of a session here, before the next line is read.

use std::sync::Arc;

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    runtime::{Handle, RuntimeFlavor},
    task::{AbortHandle, JoinHandle},
};

use super::{
    Multiplexer,
    lines::{Line, Lines},
    log,
    stdin::{Run, Write},
    throttle::{Output, Throttle},
};
use crate::envelope::{self, FromWorker};

/// A line that takes milliseconds to read.
const LARGE: usize = 4 * 1024 * 1024;

/// The tasks around a running worker.
#[derive(Debug)]
pub struct Pipes {
    writer: AbortHandle,
    reader: JoinHandle<()>,
    throttle: Arc<Throttle>,
}

impl Pipes {
    /// True when the worker was held back a moment ago, since it writes too much.
    pub fn is_throttled(&self) -> bool {
        self.throttle.is_throttling()
    }

    /// Waits until everything the worker wrote was taken, as far as its stdout closed.
    pub async fn drained(&mut self) {
        // No more comes than the pipe holds, and its last answers may stand behind a flood.
        self.throttle.release();
        let _ = (&mut self.reader).await;
    }
}

impl Drop for Pipes {
    fn drop(&mut self) {
        self.writer.abort();
        self.reader.abort();
    }
}

/// Connects the multiplexer with a worker. `adopted` when an earlier sidecar spoke to it. It is
/// read as fast as `throttle` allows.
pub fn run<W, R>(
    multiplexer: &Arc<Multiplexer>,
    stdin: W,
    stdout: R,
    adopted: bool,
    throttle: Throttle,
) -> Pipes
where
    W: AsyncWrite + Unpin + Send + 'static,
    R: AsyncRead + Unpin + Send + 'static,
{
    let run = multiplexer.attach_worker();
    multiplexer.renew_worker_permits();
    if adopted {
        multiplexer.end_line(run);
    }
    let throttle = Arc::new(throttle);
    let reader = Reader {
        multiplexer: multiplexer.clone(),
        run,
        throttle: throttle.clone(),
    };
    let writer = write(multiplexer.clone(), run, stdin);
    Pipes {
        writer: tokio::spawn(writer).abort_handle(),
        reader: tokio::spawn(reader.read(stdout)),
        throttle,
    }
}

/// Writes lines until the worker is gone, which closes its stdin.
async fn write<W: AsyncWrite + Unpin>(multiplexer: Arc<Multiplexer>, run: Run, mut stdin: W) {
    let mut joined = Vec::new();
    loop {
        let lines = match multiplexer.next_lines(run) {
            Write::Lines(lines) => lines,
            Write::Wait(more) => {
                more.notified().await;
                continue;
            }
            Write::End => return,
        };
        let written = match &lines[..] {
            [line] => stdin.write_all(line).await,
            lines => {
                joined.clear();
                lines.iter().for_each(|line| joined.extend_from_slice(line));
                stdin.write_all(&joined).await
            }
        };
        joined.shrink_to(64 * 1024);
        if let Err(error) = written {
            tracing::debug!(%error, "the worker's stdin is closed");
            return;
        }
    }
}

/// Takes what the worker writes.
struct Reader {
    multiplexer: Arc<Multiplexer>,
    run: Run,
    throttle: Arc<Throttle>,
}

impl Reader {
    async fn read<R: AsyncRead + Unpin>(self, stdout: R) {
        let mut lines = Lines::new(stdout, self.multiplexer.max_line);
        loop {
            let output = match lines.next().await {
                Ok(Some(Line::Whole(line))) => self.take(&line).await,
                Ok(Some(Line::Oversized(bytes))) => {
                    self.multiplexer.metrics.oversized.inc();
                    tracing::warn!(bytes, "a line of the worker was too long and was dropped");
                    Some(Output::Noise)
                }
                Ok(None) => return,
                Err(error) => {
                    tracing::debug!(%error, "the worker's stdout is closed");
                    return;
                }
            };
            if let Some(output) = output
                && self.throttle.next(output).await
            {
                self.multiplexer.metrics.held_back.inc();
            }
        }
    }

    /// Takes a line; gives what the worker said for itself in it.
    async fn take(&self, line: &Bytes) -> Option<Output> {
        let multiplexer = &self.multiplexer;
        match parse(line) {
            Some(FromWorker::Response { id, outcome }) => {
                multiplexer.worker_answered(id, outcome).await;
                None
            }
            Some(FromWorker::Request { id, message }) => {
                multiplexer.worker_requested(id, message, self.run).await;
                Some(Output::Message)
            }
            Some(FromWorker::Notification(message)) => {
                multiplexer.worker_notified(message).await;
                Some(Output::Message)
            }
            None => {
                if !line.iter().all(u8::is_ascii_whitespace) {
                    multiplexer.metrics.noise.inc();
                    let shown = log::worker_noise(line, &multiplexer.settings);
                    multiplexer.forward_log("stdout", &shown);
                }
                Some(Output::Noise)
            }
        }
    }
}

/// Reads a line. A large one takes long enough that other tasks have another thread meanwhile.
fn parse(line: &Bytes) -> Option<FromWorker> {
    let has_threads = || Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread;
    if line.len() >= LARGE && has_threads() {
        return tokio::task::block_in_place(|| envelope::parse(line));
    }
    envelope::parse(line)
}
