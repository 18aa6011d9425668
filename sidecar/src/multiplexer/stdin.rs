//! Lines on their way to the worker's stdin, in the order in which it reads them.
//!
//! To queue a line never waits, so nobody who has one for the worker waits for its pipe. What a
//! worker leaves unread is bounded in bytes: calls wait for room, everything else is refused by name.
//! What a host told a plugin whose worker is only starting waits here for that worker.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use paperclip_bridge::v1::{Phase, RpcError};
use paperclip_protocol::jsonrpc;
use tokio::sync::Notify;

use super::{
    Inner, Multiplexer, OpenKind,
    dedup::EventKey,
    errors::{unavailable, worker_exited},
};
use crate::envelope;

/// Bytes that may wait for the worker, beside one largest line. Design §7, *Bytes are budgeted*.
const ROOM: usize = 128 * 1024 * 1024;
/// Bytes of what was told that wait for a worker to start, as for events that wait with a host.
const HELD: usize = 16 * 1024 * 1024;
/// Lines that are joined into one write, and the bytes after which none is added.
const BATCH: usize = 64;
const BATCH_BYTES: usize = 256 * 1024;

/// A line for the worker.
#[derive(Debug)]
pub(super) struct Line {
    bytes: Bytes,
    kind: LineKind,
}

/// What a line is, as far as its way matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LineKind {
    /// A call, by the id under which it is open. It is not written once it has ended.
    Call(u64),
    /// A notification. It is kept for the next worker as long as it was not written.
    Notification(Option<EventKey>),
    /// An answer, or the end of a line of an earlier sidecar. It goes with its worker.
    Other,
}

/// The queue before one run of the worker.
#[derive(Debug)]
pub(super) struct Stdin {
    run: Run,
    lines: VecDeque<Line>,
    bytes: usize,
    /// The worker answered `initialize` and has its config: hosts may speak to it.
    is_open: bool,
    written: Arc<Notify>,
}

/// A run of the worker, among all of this sidecar. A later one never hears what is for an
/// earlier one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Run(u64);

impl Run {
    pub(super) fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// What waits for a worker to start.
#[derive(Debug, Default)]
pub(super) struct Held {
    lines: VecDeque<Line>,
    bytes: usize,
}

impl Held {
    /// Keeps a line, or gives it back where there is no room.
    fn keep(&mut self, line: Line) -> Result<(), Line> {
        if self.bytes + line.bytes.len() > HELD {
            return Err(line);
        }
        self.bytes += line.bytes.len();
        self.lines.push_back(line);
        Ok(())
    }

    fn take(&mut self) -> VecDeque<Line> {
        self.bytes = 0;
        std::mem::take(&mut self.lines)
    }
}

impl Stdin {
    pub(super) fn new(run: Run) -> Self {
        Self {
            run,
            lines: VecDeque::new(),
            bytes: 0,
            is_open: false,
            written: Arc::new(Notify::new()),
        }
    }

    /// True while another line finds room.
    pub(super) fn has_room(&self) -> bool {
        self.bytes < ROOM
    }

    /// True when hosts may speak to the worker.
    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    fn push(&mut self, line: Line) {
        self.bytes += line.bytes.len();
        self.lines.push_back(line);
        self.written.notify_one();
    }

    /// Queues a call that is open under this id.
    pub(super) fn push_call(&mut self, id: u64, bytes: Bytes) {
        let kind = LineKind::Call(id);
        self.push(Line { bytes, kind });
    }
}

/// What the writer of a worker's stdin has to do next.
pub(super) enum Write {
    /// These lines, as one.
    Lines(Vec<Bytes>),
    /// There is none yet.
    Wait(Arc<Notify>),
    /// The worker is gone.
    End,
}

impl Inner {
    /// The queue of this run, if it is still the worker's.
    fn stdin_of(&mut self, run: Run) -> Option<&mut Stdin> {
        self.worker.as_mut().filter(|stdin| stdin.run == run)
    }

    /// Queues a notification, or keeps it for a worker that is only starting.
    fn tell(&mut self, line: Line) -> Result<(), Line> {
        match &mut self.worker {
            Some(stdin) if stdin.is_open && stdin.has_room() => {
                stdin.push(line);
                Ok(())
            }
            Some(stdin) if stdin.is_open => Err(line),
            _ => self.held.keep(line),
        }
    }
}

impl Multiplexer {
    /// A new run of the worker, whose stdin is written by who asks for its lines.
    pub(super) fn attach_worker(&self) -> Run {
        let mut inner = self.lock();
        let run = inner.run.next();
        inner.run = run;
        inner.worker = Some(Stdin::new(run));
        run
    }

    /// Ends a line that an earlier sidecar may have left half written.
    pub(super) fn end_line(&self, run: Run) {
        let bytes = Bytes::from_static(b"\n");
        let kind = LineKind::Other;
        if let Some(stdin) = self.lock().stdin_of(run) {
            stdin.push(Line { bytes, kind });
        }
    }

    /// Hosts may speak to the worker from here on; what they told it meanwhile comes first.
    pub fn serve(&self) {
        let mut inner = self.lock();
        let held = inner.held.take();
        let missed = match &mut inner.worker {
            Some(stdin) => {
                stdin.is_open = true;
                held.into_iter().for_each(|line| stdin.push(line));
                None
            }
            None => Some(held),
        };
        for line in missed.into_iter().flatten() {
            // They were within the bound before.
            let _ = inner.held.keep(line);
        }
        drop(inner);
        self.state.set_phase(Phase::Serving);
    }

    /// The worker gets nothing new of hosts, until it serves again. What it has may still be answered.
    pub fn suspend(&self) {
        if let Some(stdin) = &mut self.lock().worker {
            stdin.is_open = false;
        }
        self.state.set_phase(Phase::Unresponsive);
    }

    /// The worker is gone: its open calls fail, those that it has not seen so that they may be made
    /// again. What it was told and has not seen is kept for the next.
    pub fn detach_worker(&self, why: &str) {
        let (open, lost) = {
            let mut inner = self.lock();
            let stdin = inner.worker.take();
            inner.invocations.end_calls();
            inner.due.clear();
            let mut lost = 0;
            if let Some(stdin) = stdin {
                stdin.written.notify_one();
                for line in stdin.lines {
                    let LineKind::Notification(event) = line.kind else {
                        continue;
                    };
                    if inner.held.keep(line).is_err() {
                        lost += 1;
                        event
                            .into_iter()
                            .for_each(|event| inner.events.forget(event));
                    }
                }
            }
            (std::mem::take(&mut inner.open), lost)
        };
        self.metrics.lost_notifications.inc_by(lost);
        for (_, call) in open {
            let error = match call.is_written {
                true => worker_exited(why),
                false => RpcError::not_sent(why),
            };
            call.answer.give(self, Err(error));
        }
        self.room.notify_waiters();
        self.settled.notify_waiters();
    }

    /// Answers a request of the worker of this run; a later one gives the same ids. An answer for
    /// which there is no room becomes an error that says so.
    pub(super) fn answer_worker(&self, run: Run, id: &[u8], outcome: &Result<Bytes, RpcError>) {
        let mut inner = self.lock();
        let Some(stdin) = inner.stdin_of(run) else {
            return;
        };
        let bytes = match stdin.has_room() {
            true => envelope::answer(id, outcome),
            false => envelope::answer(id, &Err(does_not_read())),
        };
        let kind = LineKind::Other;
        stdin.push(Line { bytes, kind });
    }

    /// Queues a notification of a host.
    pub(super) fn tell_worker(
        &self,
        bytes: Bytes,
        event: Option<EventKey>,
    ) -> Result<(), RpcError> {
        let kind = LineKind::Notification(event);
        let mut inner = self.lock();
        let told = inner.tell(Line { bytes, kind });
        let is_there = inner.worker.as_ref().is_some_and(Stdin::is_open);
        if told.is_ok() {
            return Ok(());
        }
        event
            .into_iter()
            .for_each(|event| inner.events.forget(event));
        drop(inner);
        self.metrics.lost_notifications.inc();
        Err(match is_there {
            true => does_not_read(),
            false => unavailable(),
        })
    }

    /// True when hosts may speak to the worker.
    pub(super) fn is_open(&self) -> bool {
        self.lock().worker.as_ref().is_some_and(Stdin::is_open)
    }

    /// Waits until a line finds room before the worker, or there is no worker.
    pub(super) async fn wait_for_room(&self) {
        loop {
            let room = self.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            if self.lock().worker.as_ref().is_none_or(Stdin::has_room) {
                return;
            }
            room.await;
        }
    }

    /// What is to be written next. A call that has ended meanwhile is left out; one that is given
    /// counts as seen by the worker. The key of an event is kept before the event is given: a sidecar
    /// that ends between the two has told too little, never twice.
    pub(super) fn next_lines(&self, run: Run) -> Write {
        let mut inner = self.lock();
        let Inner { worker, open, .. } = &mut *inner;
        let Some(stdin) = worker.as_mut().filter(|stdin| stdin.run == run) else {
            return Write::End;
        };
        let had_room = stdin.has_room();
        let mut taken = Vec::new();
        let mut size = 0;
        while taken.len() < BATCH && size < BATCH_BYTES {
            let Some(line) = stdin.lines.pop_front() else {
                break;
            };
            stdin.bytes -= line.bytes.len();
            if let LineKind::Call(id) = line.kind {
                let Some(call) = open.get_mut(&id) else {
                    continue;
                };
                call.is_written = true;
            }
            size += line.bytes.len();
            taken.push(line);
        }
        let (written, has_room) = (stdin.written.clone(), stdin.has_room());
        drop(inner);
        if has_room && !had_room {
            self.room.notify_waiters();
        }
        match taken.is_empty() {
            true => Write::Wait(written),
            false => Write::Lines(self.journalled(taken)),
        }
    }

    /// The lines without those of events whose keys cannot be kept.
    fn journalled(&self, lines: Vec<Line>) -> Vec<Bytes> {
        let is_kept = |line: &Line| match line.kind {
            LineKind::Notification(Some(event)) => {
                let is_kept = self.journal.keep_event(event);
                if !is_kept {
                    self.lock().events.forget(event);
                    self.metrics.lost_notifications.inc();
                }
                is_kept
            }
            _ => true,
        };
        let kept = lines.into_iter().filter(is_kept);
        kept.map(|line| line.bytes).collect()
    }

    /// Notes a call that is to be written to the worker, if hosts may speak to it now or `kind` is the
    /// sidecar's own.
    pub(super) fn stdin_for(inner: &mut Inner, kind: OpenKind) -> Result<&mut Stdin, RpcError> {
        let stdin = inner.worker.as_mut().ok_or_else(unavailable)?;
        match stdin.is_open || kind == OpenKind::Internal {
            true => Ok(stdin),
            false => Err(unavailable()),
        }
    }
}

fn does_not_read() -> RpcError {
    let room = ROOM / (1024 * 1024);
    let message = format!("the worker does not read its stdin: {room} MiB wait for it");
    RpcError::new(jsonrpc::LIMIT_EXCEEDED, message)
}
