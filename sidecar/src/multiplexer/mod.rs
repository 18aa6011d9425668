//! The multiplexer: joins one worker and the sessions of many hosts.
//!
//! Ids are rewritten here, calls are matched with answers, and what a worker asks finds a
//! host. All state sits behind one lock that is never held across a wait.

mod dedup;
mod direct_calls;
mod lines;
mod log;
mod log_forwarding;
mod outbox;
mod pipes;
mod session;
mod throttle;
mod worker_requests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use paperclip_bridge::{
    trace::{Span, SpanKind, Traces},
    v1::{Notification, Phase, RpcError},
};
use paperclip_protocol::{
    jsonrpc,
    methods::{self, Handling},
};
use serde::Deserialize;
use tokio::{
    sync::{Notify, Semaphore, mpsc, oneshot, watch},
    time::Instant,
};

use crate::{
    config::Settings,
    envelope,
    grants::{Grants, Scraped},
    limits::{Gate, Place, Refusal},
    metrics::{Direction, Metrics, Outcome},
    state::StateBoard,
};

pub use pipes::{Pipes, run as run_pipes};
pub use session::{SessionId, serve as serve_session};
pub use throttle::Throttle;

/// Timeout of what names none.
const DEFAULT_TIMEOUT: Duration = paperclip_protocol::limits::CALL_TIMEOUT;
/// Longest timeout of a call: 2^31-1 ms.
const MAX_TIMEOUT: Duration = Duration::from_millis(i32::MAX as u64);
/// Calls of the worker that may be open at once.
const MAX_WORKER_REQUESTS: usize = 4096;
/// How long a call waits for a worker that is starting. It was not sent, so waiting is safe.
const HOLD: Duration = Duration::from_secs(10);
/// How long the scope of a notification lives.
const NOTIFICATION_LIFE: Duration = Duration::from_secs(15 * 60);

/// A call to the worker.
#[derive(Clone, Debug, Default)]
pub struct Call {
    /// The method.
    pub method: String,
    /// `params` as JSON; empty for `{}`.
    pub params: Bytes,
    /// The `paperclipInvocation` object as JSON; empty for none.
    pub invocation: Bytes,
    /// How long the caller waits; zero for the default.
    pub timeout: Duration,
    /// W3C trace context of who asks. Empty for that of the invocation, or none.
    pub traceparent: String,
    /// The session that asks; none for the sidecar itself and for single calls.
    pub origin: Option<SessionId>,
}

/// Joins one worker and the sessions of hosts.
#[derive(Debug)]
pub struct Multiplexer {
    inner: Mutex<Inner>,
    /// What the worker may ask hosts for.
    pub grants: Arc<Grants>,
    /// The state of the pod.
    pub state: StateBoard,
    /// What /metrics says.
    pub metrics: Metrics,
    /// Where spans go.
    traces: Traces,
    /// Config and secrets that the worker runs with.
    pub settings: Settings,
    /// What calls have to pass before the worker sees them.
    pub gate: Arc<Gate>,
    /// Told when sessions come and go.
    sessions_changed: watch::Sender<u64>,
    /// Told when a call settles.
    settled: Notify,
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
    worker: Option<mpsc::Sender<Bytes>>,
    next_id: u64,
    open: BTreeMap<u64, Open>,
    /// When the calls end that no task waits for.
    due: BTreeSet<(Instant, u64)>,
    sessions: BTreeMap<SessionId, Arc<session::Session>>,
    next_session: u64,
    invocations: HashMap<String, Invocation>,
    subscriptions: Vec<Bytes>,
    events: dedup::Events,
    slots: dedup::Slots,
}

#[derive(Debug)]
struct Open {
    answer: Answer,
    kind: OpenKind,
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

#[derive(Clone, Debug)]
struct Invocation {
    traceparent: String,
    session: Option<SessionId>,
    company: Option<String>,
    until: Option<Instant>,
}

#[derive(Deserialize)]
struct InvocationObject {
    #[serde(default)]
    traceparent: Option<String>,
    id: String,
    #[serde(default)]
    scope: Option<Scope>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Scope {
    #[serde(default)]
    company_id: Option<String>,
}

/// What must outlive a sidecar, beside the worker itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remembered {
    /// Ids below this were given out.
    pub next_id: u64,
    /// The subscriptions of the worker.
    pub subscriptions: Vec<Bytes>,
    /// Number of the revision whose config the worker was told of.
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
            remember: Notify::new(),
            journal: dedup::Journal::default(),
            waiting_for_host: AtomicUsize::new(0),
            logs: log_forwarding::LogForwarding::default(),
            worker_requests: Mutex::new(Arc::new(Semaphore::new(MAX_WORKER_REQUESTS))),
            max_line: lines::MAX_LINE,
        })
    }

    /// What the worker's calls to hosts take their permits from.
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
    pub async fn announce_config(&self) {
        let config_json = self.state.now().config_json;
        let sessions: Vec<_> = self.lock().sessions.values().cloned().collect();
        for session in sessions {
            let frame = session::config_changed(config_json.clone());
            self.hand(&session, frame).await;
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

    /// What a successor of this sidecar needs.
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

    /// Connects the multiplexer with the stdin of a worker.
    fn attach_worker(&self, lines: mpsc::Sender<Bytes>) {
        *self
            .worker_requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner) =
            Arc::new(Semaphore::new(MAX_WORKER_REQUESTS));
        self.lock().worker = Some(lines);
    }

    /// The worker is gone: its open calls fail.
    pub fn detach_worker(&self, why: &str) {
        let open = {
            let mut inner = self.lock();
            inner.worker = None;
            inner.invocations.clear();
            inner.due.clear();
            std::mem::take(&mut inner.open)
        };
        for (_, call) in open {
            let error = worker_exited(why);
            call.answer.give(self, Err(error));
        }
        self.settled.notify_waiters();
    }

    /// Calls the worker on a host's behalf.
    pub async fn call(self: &Arc<Self>, call: Call) -> Result<Bytes, RpcError> {
        let mut call = call;
        let span = self.trace(&mut call);
        let outcome = match methods::handling(&call.method) {
            Handling::Job => self.run_job(call).await,
            _ => self.checked_call(call).await,
        };
        span.ended(&outcome);
        self.count(&outcome);
        outcome
    }

    /// Begins the span of a call and hands its context to the worker, where the protocol has a
    /// place for it: in an invocation.
    fn trace(&self, call: &mut Call) -> Span {
        let (method, stated) = (&call.method, &call.traceparent);
        self.begin_span(SpanKind::Server, method, stated, &mut call.invocation)
    }

    fn begin_span(
        &self,
        kind: SpanKind,
        method: &str,
        stated: &str,
        invocation: &mut Bytes,
    ) -> Span {
        let parent = match stated {
            "" => traceparent(invocation),
            stated => stated.to_owned(),
        };
        let mut span = self.traces.start(format!("worker {method}"), kind, &parent);
        if self.traces.are_on() && !invocation.is_empty() {
            *invocation = envelope::with_traceparent(invocation, &span.traceparent());
        }
        span.note("rpc.method", method);
        span
    }

    /// Counts a call of a host that has ended.
    fn count(&self, outcome: &Result<Bytes, RpcError>) {
        let label = match outcome {
            Ok(_) => Outcome::Ok,
            Err(error) if error.code == jsonrpc::TIMEOUT => Outcome::Timeout,
            Err(error) if error.code == jsonrpc::WORKER_UNAVAILABLE => Outcome::Unavailable,
            Err(error) if is_of_a_limit(error) => Outcome::Refused,
            Err(_) => Outcome::Error,
        };
        self.metrics.call(Direction::HostToWorker, label);
    }

    async fn checked_call(&self, mut call: Call) -> Result<Bytes, RpcError> {
        check_json(&call.params, "params")?;
        check_json(&call.invocation, "the invocation")?;
        let kind = match methods::handling(&call.method) {
            Handling::Job => OpenKind::Job,
            _ => OpenKind::Call,
        };
        let limits = self.gate.limits();
        call.timeout = limits.timeout(kind == OpenKind::Job, call.timeout);
        let deadline = Instant::now() + call.timeout.min(MAX_TIMEOUT);
        self.check_size(call.params.len(), || format!("params of {}", call.method))?;
        self.wait_for_worker(deadline).await?;
        let _place = self.enter(call.origin, deadline).await?;
        self.refuse_when_draining()?;
        self.exchange(call, kind, deadline).await
    }

    async fn enter(&self, origin: Option<SessionId>, until: Instant) -> Result<Place, RpcError> {
        let entered = self.gate.enter(origin, until).await;
        entered.map_err(|refusal| self.refused(refusal))
    }

    /// Counts what a limit refused, and gives the error that says so.
    fn refused(&self, refusal: Refusal) -> RpcError {
        self.metrics.refused(refusal.limit);
        refusal.error
    }

    /// Refuses a payload that is larger than may pass. `what` says what it is of.
    fn check_size(&self, bytes: usize, what: impl FnOnce() -> String) -> Result<(), RpcError> {
        let limits = self.gate.limits();
        if limits.admits(bytes) {
            return Ok(());
        }
        let most = limits.payload_bytes.unwrap_or(u32::MAX) as usize;
        Err(self.refused(Refusal::payload(&what(), bytes, most)))
    }

    /// Calls the worker for the sidecar itself, in whatever state it is.
    pub async fn internal_call(
        &self,
        method: &str,
        params: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, RpcError> {
        let call = Call {
            method: method.to_owned(),
            params,
            timeout,
            ..Call::default()
        };
        let deadline = Instant::now() + timeout;
        self.exchange(call, OpenKind::Internal, deadline).await
    }

    /// The worker's result of `initialize`, as soon as there is one.
    async fn initialize_result(&self) -> Result<Bytes, RpcError> {
        self.wait_for_worker(Instant::now() + HOLD).await?;
        Ok(self.state.now().initialize_result)
    }

    async fn wait_for_worker(&self, deadline: Instant) -> Result<(), RpcError> {
        let mut state = self.state.subscribe();
        let is_there = state.wait_for(|state| state.phase != Phase::Starting);
        let hold = HOLD.min(deadline.saturating_duration_since(Instant::now()));
        match tokio::time::timeout(hold, is_there).await {
            Ok(_) => Ok(()),
            Err(_) => {
                let message = self.state.now().worker.message;
                Err(RpcError::not_sent(format!(
                    "the worker is not running: {message}"
                )))
            }
        }
    }

    /// Refuses a call of a host once the pod drains: another pod may take it.
    fn refuse_when_draining(&self) -> Result<(), RpcError> {
        match self.state.phase() {
            Phase::Draining => Err(RpcError::not_sent("the pod is draining")),
            _ => Ok(()),
        }
    }

    async fn exchange(
        &self,
        mut call: Call,
        kind: OpenKind,
        deadline: Instant,
    ) -> Result<Bytes, RpcError> {
        let (id, lines, answer) = self.open(kind)?;
        let mut guard = Settle {
            multiplexer: self,
            id,
            invocation: self.begin(&call.invocation, call.origin, None),
        };
        let line = envelope::call(Some(id), &call.method, &call.params, &call.invocation);
        // They stand in the line, and may be large.
        call.params = Bytes::new();
        let exchange = async {
            if lines.send(line).await.is_err() {
                return Err(unavailable());
            }
            answer
                .await
                .unwrap_or_else(|_| Err(worker_exited("the worker ended")))
        };
        let outcome = tokio::time::timeout_at(deadline, exchange).await;
        guard.settle();
        outcome.unwrap_or_else(|_| Err(timed_out(&call.method, call.timeout)))
    }

    #[allow(clippy::type_complexity)]
    fn open(
        &self,
        kind: OpenKind,
    ) -> Result<
        (
            u64,
            mpsc::Sender<Bytes>,
            oneshot::Receiver<Result<Bytes, RpcError>>,
        ),
        RpcError,
    > {
        let mut inner = self.lock();
        let lines = inner.worker.clone().ok_or_else(unavailable)?;
        let id = inner.next_id;
        inner.next_id += 1;
        let (answer, receiver) = oneshot::channel();
        let answer = Answer::Waiting(answer);
        inner.open.insert(id, Open { answer, kind });
        Ok((id, lines, receiver))
    }

    /// Notes which session and company an invocation belongs to. Gives its id.
    fn begin(
        &self,
        invocation: &[u8],
        session: Option<SessionId>,
        until: Option<Instant>,
    ) -> Option<String> {
        let (id, noted) = note(invocation, session, until)?;
        let mut inner = self.lock();
        if until.is_some() {
            let now = Instant::now();
            inner
                .invocations
                .retain(|_, known| known.until.is_none_or(|until| until > now));
        }
        inner.invocations.insert(id.clone(), noted);
        Some(id)
    }

    fn invocation(&self, id: &str) -> Option<Invocation> {
        let inner = self.lock();
        let known = inner.invocations.get(id)?;
        let is_alive = known.until.is_none_or(|until| until > Instant::now());
        is_alive.then(|| known.clone())
    }

    /// Tells the worker something. Without a worker it is dropped, as the original does; so is
    /// an event that another host told before, also to an earlier sidecar.
    pub async fn notify(&self, told: Notification, origin: SessionId) -> Result<(), RpcError> {
        let (method, params) = (&*told.method, &told.params_json);
        let mut invocation = told.invocation_json;
        check_json(params, "params")?;
        check_json(&invocation, "the invocation")?;
        self.check_size(params.len(), || format!("params of {method}"))?;
        let event = match methods::handling(method) {
            Handling::Event => dedup::event(params),
            _ => None,
        };
        let lines = {
            let mut inner = self.lock();
            let lines = inner.worker.clone().ok_or_else(unavailable)?;
            if event.is_some_and(|event| !inner.events.note(event)) {
                self.metrics.repeated_events.inc();
                return Ok(());
            }
            lines
        };
        let kind = SpanKind::Consumer;
        let span = self.begin_span(kind, method, &told.traceparent, &mut invocation);
        // Kept first: a sidecar that ends between the two has told too little, never twice.
        let is_kept = event.is_none_or(|event| self.journal.keep_event(event));
        let sent = match is_kept {
            true => {
                let until = Instant::now() + NOTIFICATION_LIFE;
                self.begin(&invocation, Some(origin), Some(until));
                let line = envelope::call(None, method, params, &invocation);
                lines.send(line).await.map_err(|_| unavailable())
            }
            false => Err(unavailable()),
        };
        if let (Err(_), Some(event)) = (&sent, event) {
            self.lock().events.forget(event);
        }
        span.ended(&sent);
        sent
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

/// What is to be known of an invocation, under its id.
fn note(
    invocation: &[u8],
    session: Option<SessionId>,
    until: Option<Instant>,
) -> Option<(String, Invocation)> {
    if invocation.is_empty() {
        return None;
    }
    let object: InvocationObject = serde_json::from_slice(invocation).ok()?;
    let noted = Invocation {
        traceparent: object.traceparent.unwrap_or_default(),
        session,
        company: object.scope.and_then(|scope| scope.company_id),
        until,
    };
    Some((object.id, noted))
}

/// The trace context of an invocation; empty without one.
fn traceparent(invocation: &[u8]) -> String {
    let object = serde_json::from_slice::<InvocationObject>(invocation).ok();
    let stated = object.and_then(|object| object.traceparent);
    stated.unwrap_or_default()
}

fn is_of_a_limit(error: &RpcError) -> bool {
    matches!(
        error.code,
        jsonrpc::LIMIT_EXCEEDED | jsonrpc::PAYLOAD_TOO_LARGE
    )
}

fn timed_out(method: &str, limit: Duration) -> RpcError {
    let limit = limit.as_millis();
    let message = format!("the worker did not answer {method} within {limit} ms");
    RpcError::new(jsonrpc::TIMEOUT, message)
}

fn unavailable() -> RpcError {
    RpcError::not_sent("the worker is not running")
}

/// The worker ended with the call under way. It may have done the work, so the call is not
/// to be repeated.
fn worker_exited(message: &str) -> RpcError {
    RpcError {
        data_json: Bytes::from_static(br#"{"workerExited":true}"#),
        ..RpcError::new(jsonrpc::WORKER_UNAVAILABLE, message)
    }
}

fn check_json(bytes: &[u8], what: &str) -> Result<(), RpcError> {
    if bytes.is_empty() || envelope::is_json(bytes) {
        return Ok(());
    }
    let message = format!("{what} of the call is not JSON");
    Err(RpcError::new(jsonrpc::INVALID_PARAMS, message))
}

/// Ends a call however it ends: answered, timed out or dropped.
struct Settle<'a> {
    multiplexer: &'a Multiplexer,
    id: u64,
    invocation: Option<String>,
}

impl Settle<'_> {
    fn settle(&mut self) {
        let mut inner = self.multiplexer.lock();
        inner.open.remove(&self.id);
        if let Some(invocation) = self.invocation.take() {
            inner.invocations.remove(&invocation);
        }
        drop(inner);
        self.multiplexer.settled.notify_waiters();
    }
}

impl Drop for Settle<'_> {
    fn drop(&mut self) {
        self.settle();
    }
}
