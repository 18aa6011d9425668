//! The multiplexer: joins one worker and the sessions of many hosts.
//!
//! Ids are rewritten here, calls are matched with answers, and what a worker asks finds a
//! host. All state sits behind one lock that is never held across a wait.

mod approach;
mod calls;
mod dedup;
mod direct_calls;
mod errors;
mod invocations;
mod lane;
mod lines;
mod log;
mod log_forwarding;
mod pipes;
mod session;
mod session_loop;
mod stdin;
mod throttle;
mod turnstile;
mod worker_requests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use paperclip_bridge::{
    trace::{SpanKind, Traces},
    v1::{Notification, RpcError},
};
use paperclip_protocol::methods::{self, Handling};
use tokio::{
    sync::{Notify, Semaphore, oneshot},
    time::Instant,
};

use crate::{
    config::Settings,
    envelope,
    grants::{Grants, Scraped},
    limits::Gate,
    metrics::Metrics,
    session_id::SessionId,
    state::StateBoard,
    watch,
};

use errors::check_json;
use invocations::Invocations;
use stdin::{Held, Run, Stdin};
use turnstile::Turnstile;

pub use calls::Call;
pub use pipes::{Pipes, run as run_pipes};
pub use session_loop::serve as serve_session;
pub use throttle::Throttle;

/// Timeout of what names none.
const DEFAULT_TIMEOUT: Duration = paperclip_protocol::limits::CALL_TIMEOUT;
/// Longest timeout of a call: 2^31-1 ms.
const MAX_TIMEOUT: Duration = Duration::from_millis(i32::MAX as u64);
/// Calls of the worker that may be open at once.
const MAX_WORKER_REQUESTS: usize = 4096;

/// Joins one worker and the sessions of hosts.
#[derive(Debug)]
pub struct Multiplexer {
    inner: Mutex<Inner>,
    /// Capabilities of the worker.
    pub grants: Arc<Grants>,
    /// The state of the pod.
    pub state: StateBoard,
    /// The metrics of /metrics.
    pub metrics: Metrics,
    /// Where spans go.
    traces: Traces,
    /// Config and secrets that the worker runs with.
    pub settings: Settings,
    /// The gate that calls pass before the worker sees them.
    pub gate: Arc<Gate>,
    /// Told when sessions come and go.
    sessions_changed: watch::Sender<u64>,
    /// Told when a call settles.
    settled: Notify,
    /// Told when there is room before the worker again.
    room: Notify,
    /// Requests of the worker that wait for a first host, in their order.
    asking: Arc<Turnstile>,
    /// Told when there is something new to remember.
    remember: Notify,
    /// Where the keys of events are kept.
    journal: dedup::Journal,
    waiting_for_host: AtomicUsize,
    /// Lines of the worker for a host to keep.
    logs: log_forwarding::LogForwarding,
    /// One permit for each call that the worker may have open. Each worker has its own: what its
    /// predecessor asked may be with hosts for minutes.
    worker_requests: Mutex<Arc<Semaphore>>,
    max_line: usize,
}

#[derive(Debug, Default)]
struct Inner {
    worker: Option<Stdin>,
    /// The last run of the worker.
    run: Run,
    /// What hosts told a worker that is only starting.
    held: Held,
    next_id: u64,
    open: BTreeMap<u64, Open>,
    /// When the calls end that no task waits for.
    due: BTreeSet<(Instant, u64)>,
    sessions: BTreeMap<SessionId, Arc<session::Session>>,
    next_session: u64,
    invocations: Invocations,
    subscriptions: Vec<Bytes>,
    events: dedup::Events,
    slots: dedup::Slots,
}

#[derive(Debug)]
struct Open {
    answer: Answer,
    kind: OpenKind,
    /// The worker may have seen it.
    is_written: bool,
}

/// Where the answer to an open call goes.
#[derive(Debug)]
enum Answer {
    /// To a task that waits for it.
    Waiting(oneshot::Sender<Result<Bytes, RpcError>>),
    /// Straight to a session.
    Session(direct_calls::DirectCall),
}

impl Answer {
    /// Hands an outcome over. False when nobody wants it any more.
    fn give(self, multiplexer: &Multiplexer, outcome: Result<Bytes, RpcError>) -> bool {
        match self {
            Self::Waiting(waiting) => waiting.send(outcome).is_ok(),
            Self::Session(call) => call.settle(multiplexer, outcome),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OpenKind {
    Call,
    Job,
    Internal,
}

/// State that must outlive a sidecar, beside the worker itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remembered {
    /// Ids below this were given out.
    pub next_id: u64,
    /// The subscriptions of the worker.
    pub subscriptions: Vec<Bytes>,
    /// Number of the revision whose config was sent to the worker.
    pub config_revision: u64,
}

impl Multiplexer {
    /// A multiplexer without worker or session. `grants` is what the worker may ask hosts for.
    pub fn new(grants: Grants) -> Arc<Self> {
        Self::traced(grants, Traces::default())
    }

    /// The same, with spans of its calls.
    pub fn traced(grants: Grants, traces: Traces) -> Arc<Self> {
        let grants = Arc::new(grants);
        let metrics = Metrics::new(Scraped(grants.clone()));
        Arc::new(Self {
            inner: Mutex::new(Inner {
                next_id: 1,
                ..Inner::default()
            }),
            grants,
            state: StateBoard::default(),
            metrics,
            traces,
            settings: Settings::default(),
            gate: Gate::new(),
            sessions_changed: watch::Sender::new(0),
            settled: Notify::new(),
            room: Notify::new(),
            asking: Arc::default(),
            remember: Notify::new(),
            journal: dedup::Journal::default(),
            waiting_for_host: AtomicUsize::new(0),
            logs: log_forwarding::LogForwarding::default(),
            worker_requests: Mutex::new(Arc::new(Semaphore::new(MAX_WORKER_REQUESTS))),
            max_line: lines::MAX_LINE,
        })
    }

    /// The permits of the worker's calls to hosts.
    fn worker_request_permits(&self) -> Arc<Semaphore> {
        let permits = self
            .worker_requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        permits.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while it holds the lock; if it did, the state would still be whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls that a worker waits for while no host is there.
    pub fn waiting_for_host(&self) -> usize {
        self.waiting_for_host.load(Ordering::Relaxed)
    }

    /// Waits until there is something new to remember.
    pub async fn remember_changed(&self) {
        self.remember.notified().await;
    }

    /// There is something new to remember.
    pub fn remember(&self) {
        self.remember.notify_one();
    }

    /// Tells every session which config the worker runs with. One that begins meanwhile has
    /// it in its hello.
    pub fn announce_config(&self) {
        let inner = self.lock();
        let config_json = self.state.now().config_json;
        for session in inner.sessions.values() {
            session.post(session::config_changed(config_json.clone()));
        }
    }

    /// A line of the worker's stderr becomes a record. Too many of them are counted alone.
    pub fn worker_stderr(&self, line: &str) {
        if !self.logs.is_logged() {
            self.metrics.dropped_records.inc();
            return;
        }
        let line = self.settings.redact(line);
        log::worker_stderr(&line);
        self.forward_log("stderr", &line);
    }

    /// The state for the next sidecar.
    pub fn remembered(&self) -> Remembered {
        let inner = self.lock();
        Remembered {
            next_id: inner.next_id,
            subscriptions: inner.subscriptions.clone(),
            config_revision: self.settings.sent(),
        }
    }

    /// Takes up where an earlier sidecar left. Its ids are never given again: how many it
    /// gave after it was last remembered is unknown, so a wide gap is left.
    pub fn restore(&self, remembered: Remembered) {
        let mut inner = self.lock();
        inner.next_id = (remembered.next_id | 0xFFFF_FFFF) + 1;
        inner.subscriptions = remembered.subscriptions;
    }

    /// Forgets the subscriptions of a worker that is gone; the next makes its own.
    pub fn forget_subscriptions(&self) {
        self.lock().subscriptions.clear();
    }

    /// The worker that is attached now may have so many requests of its own open.
    fn renew_worker_permits(&self) {
        let mut permits = self
            .worker_requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *permits = Arc::new(Semaphore::new(MAX_WORKER_REQUESTS));
    }

    /// Notifies the worker, or keeps the notification for one that is only starting. An event that
    /// another host sent before, also to an earlier sidecar, is dropped.
    pub fn notify(&self, notification: Notification, origin: SessionId) -> Result<(), RpcError> {
        let (method, params) = (&*notification.method, &notification.params_json);
        let mut invocation = notification.invocation_json;
        check_json(params, "params")?;
        check_json(&invocation, "the invocation")?;
        self.check_size(params.len(), || format!("params of {method}"))?;
        let event = match methods::handling(method) {
            Handling::Event => dedup::event(params),
            _ => None,
        };
        if event.is_some_and(|event| !self.lock().events.note(event)) {
            self.metrics.repeated_events.inc();
            return Ok(());
        }
        let kind = SpanKind::Consumer;
        let span = self.begin_span(kind, method, &notification.traceparent, &mut invocation);
        self.lock().invocations.note_told(&invocation, origin);
        let told = self.tell_worker(envelope::call(None, method, params, &invocation), event);
        span.ended(&told);
        told
    }

    /// Waits until no call, or with `jobs` no job, is open.
    pub async fn idle(&self, jobs: bool) {
        loop {
            let settled = self.settled.notified();
            tokio::pin!(settled);
            settled.as_mut().enable();
            let kind = if jobs { OpenKind::Job } else { OpenKind::Call };
            if !self.lock().open.values().any(|open| open.kind == kind) {
                return;
            }
            settled.await;
        }
    }
}
