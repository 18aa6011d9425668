//! A worker on plain pipes under the very load that the bridge has: tasks that call and wait.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{ChildStdin, ChildStdout},
    sync::{mpsc, oneshot},
};

use crate::{
    load::Caller,
    raw::{self, Process, RawWorker},
};

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(120);
/// Lines that wait for the pipe, and that are written at once.
const QUEUE: usize = 256;

type Open = Mutex<HashMap<u64, oneshot::Sender<Bytes>>>;

/// A started worker that many tasks call at once.
#[derive(Clone)]
pub struct Stdio {
    lines: mpsc::Sender<String>,
    open: Arc<Open>,
    next_id: Arc<AtomicU64>,
    // Ends the worker when the last caller is gone.
    _worker: Arc<Process>,
}

impl Stdio {
    /// Takes a worker over that has no call open.
    pub fn new(worker: RawWorker) -> Result<Self> {
        let (worker, stdin, stdout, next_id) = worker.into_parts();
        let (lines, queue) = mpsc::channel(QUEUE);
        let open = Arc::new(Open::default());
        tokio::spawn(write(ChildStdin::from_std(stdin)?, queue));
        tokio::spawn(read(ChildStdout::from_std(stdout)?, open.clone()));
        Ok(Self {
            lines,
            open,
            next_id: Arc::new(AtomicU64::new(next_id)),
            _worker: Arc::new(worker),
        })
    }

    async fn exchange(&self, params: &str) -> Result<Bytes> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        lock(&self.open).insert(id, answer);
        let line = raw::request(id, "getData", params);
        let sent = self.lines.send(line).await;
        sent.ok().context("write to the worker")?;
        answered.await.context("read from the worker")
    }
}

impl Caller for Stdio {
    async fn answer(&self, params: Bytes) -> Result<Bytes> {
        let exchange = self.exchange(std::str::from_utf8(&params)?);
        tokio::time::timeout(PATIENCE, exchange)
            .await
            .context("wait for the worker")?
    }
}

fn lock(open: &Open) -> std::sync::MutexGuard<'_, HashMap<u64, oneshot::Sender<Bytes>>> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes what waits, all of it at once: a write for each line would cost more than the line.
async fn write(mut stdin: ChildStdin, mut queue: mpsc::Receiver<String>) {
    let mut lines = Vec::with_capacity(QUEUE);
    while queue.recv_many(&mut lines, QUEUE).await > 0 {
        if stdin.write_all(lines.concat().as_bytes()).await.is_err() {
            return;
        }
        lines.clear();
    }
}

/// Settles what is answered; what is open when the worker ends is answered by nobody.
async fn read(stdout: ChildStdout, open: Arc<Open>) -> Result<()> {
    let mut stdout = BufReader::with_capacity(64 * 1024, stdout);
    let mut line = String::new();
    loop {
        line.clear();
        if stdout.read_line(&mut line).await? == 0 {
            lock(&open).clear();
            bail!("the worker ended");
        }
        if let Some((id, result)) = raw::answer(&line)? {
            let waiting = lock(&open).remove(&id);
            let waiting = waiting.context("an answer to no call")?;
            let _ = waiting.send(Bytes::copy_from_slice(result.as_bytes()));
        }
    }
}
