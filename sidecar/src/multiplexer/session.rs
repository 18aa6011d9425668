//! A session: one host process at the bridge.

use std::{
    collections::HashMap,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use paperclip_bridge::{
    link::{self, DEFAULT_MAX_FRAME, Event, LinkError},
    v1::{
        AttachedHost, ConfigChanged, HostHello, Notification, Phase, PluginHello, Request,
        Response, RpcError, SessionRequest, SessionResponse, Subscription, response,
        session_request, session_response,
    },
};
use paperclip_protocol::{
    jsonrpc,
    methods::{self, Handling},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch},
    time::Instant,
};
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{
    Call, Multiplexer,
    direct_calls::Admission,
    outbox::{Outbox, Posted},
};
use crate::{
    envelope::Message,
    limits::{Limit, Refusal},
    state::PodState,
};

/// Requests of one host that may be under way at once. More are refused: were they left in
/// the transport, they would stand before the answers that those under way may wait for.
const MAX_REQUESTS: usize = 4096;
/// Frames that are taken before a session looks at anything else.
const TOGETHER: usize = 64;
/// How long a host may leave what the worker tells it unread.
const SLOW_HOST: Duration = Duration::from_secs(2);
/// A time that does not come.
const NEVER: Duration = Duration::from_secs(30 * 24 * 3600);

/// Names a session in this sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(u64);

#[cfg(test)]
impl SessionId {
    /// A name for tests.
    pub fn numbered(number: u64) -> Self {
        Self(number)
    }
}

/// One host process at the bridge.
#[derive(Debug)]
pub struct Session {
    pub(super) id: SessionId,
    host: AttachedHost,
    link: link::Sender<SessionResponse>,
    outbox: Outbox,
    /// Requests of the host that have a task of their own; cancelled when the host gives one up.
    serving: Mutex<HashMap<u64, CancellationToken>>,
    open: Mutex<HashMap<u64, oneshot::Sender<Result<Bytes, RpcError>>>>,
    next_id: AtomicU64,
    over: CancellationToken,
}

impl Session {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<Result<Bytes, RpcError>>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send(&self, frame: session_response::Frame) -> bool {
        match self.link.try_send(frame.into()) {
            Ok(()) => true,
            Err(frame) => self.send_in_turn(frame).await,
        }
    }

    /// Sends a frame when there is room for it, or in chunks.
    async fn send_in_turn(&self, frame: SessionResponse) -> bool {
        tokio::select! {
            biased;
            sent = self.link.send(frame) => sent.is_ok(),
            () = self.over.cancelled() => false,
        }
    }

    /// Whether the host reads what it is told about as fast as it comes.
    pub(super) fn keeps_up(&self) -> bool {
        self.outbox.keeps_up()
    }

    /// Hands over what the host did not ask for, or gives it back when the host is far behind.
    pub(super) fn post(&self, frame: SessionResponse) -> Option<SessionResponse> {
        self.outbox.post(&self.link, frame)
    }

    /// The same once the host has read some. One that does not read in time is detached.
    pub(super) async fn post_in_turn(&self, frame: SessionResponse) {
        let posted = tokio::select! {
            biased;
            posted = tokio::time::timeout(SLOW_HOST, self.outbox.post_in_turn(frame)) => posted,
            () = self.over.cancelled() => return,
        };
        if posted.is_err() {
            self.leave_behind();
        }
    }

    /// Detaches a host that does not read what it is told.
    pub(super) fn leave_behind(&self) {
        let host = &self.host.host_name;
        tracing::warn!(host, "a host that does not read was detached");
        self.over.cancel();
    }

    /// Sends what waits for the host, for as long as it reads.
    async fn empty(self: Arc<Self>, mut outbox: mpsc::UnboundedReceiver<Posted>) {
        while let Some(Some((frame, room))) = self.over.run_until_cancelled(outbox.recv()).await {
            let sent = tokio::time::timeout(SLOW_HOST, self.send_in_turn(frame)).await;
            if sent.is_err() {
                self.leave_behind();
            }
            drop(room);
        }
    }

    fn serving(&self) -> MutexGuard<'_, HashMap<u64, CancellationToken>> {
        self.serving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn request(&self, message: &Message, timeout: Duration) -> Request {
        Request {
            id: self.next_id.fetch_add(1, Ordering::Relaxed),
            method: message.method.clone(),
            params_json: message.params.clone(),
            invocation_json: Bytes::new(),
            invocation_id: message.invocation_id.clone(),
            timeout_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
            idempotent: is_repeatable(&message.method),
            traceparent: message.traceparent.clone(),
        }
    }

    /// Asks the host.
    pub(super) async fn ask(&self, message: &Message, timeout: Duration) -> HostAnswer {
        let request = self.request(message, timeout);
        let id = request.id;
        let (answer, receiver) = oneshot::channel();
        self.lock().insert(id, answer);
        if !self.send(session_response::Frame::Request(request)).await {
            self.lock().remove(&id);
            return HostAnswer::NotSent;
        }
        let outcome = tokio::select! {
            biased;
            outcome = tokio::time::timeout(timeout, receiver) => outcome,
            () = self.over.cancelled() => {
                self.lock().remove(&id);
                return HostAnswer::Detached;
            }
        };
        self.lock().remove(&id);
        HostAnswer::Answer(match outcome {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) | Err(_) => {
                let method = &message.method;
                let limit = timeout.as_secs();
                let message = format!("the host did not answer {method} within {limit} s");
                Err(RpcError::new(jsonrpc::TIMEOUT, message))
            }
        })
    }

    /// A subscription, as the host is told of it. Its answer changes nothing.
    pub(super) fn subscription(&self, message: &Message) -> SessionResponse {
        let request = self.request(message, super::DEFAULT_TIMEOUT);
        session_response::Frame::Request(request).into()
    }

    async fn respond(&self, id: u64, outcome: Result<Bytes, RpcError>) {
        self.send(response(id, outcome)).await;
    }

    /// Answers without waiting. A host that is slow to read has a task wait for it, of which
    /// there are as many as it has requests. False when the host has left.
    pub(super) fn give(
        self: Arc<Self>,
        id: u64,
        outcome: Result<Bytes, RpcError>,
        permit: OwnedSemaphorePermit,
    ) -> bool {
        if self.over.is_cancelled() {
            return false;
        }
        if let Err(frame) = self.link.try_send(response(id, outcome).into()) {
            tokio::spawn(async move {
                self.send_in_turn(frame).await;
                drop(permit);
            });
        }
        true
    }
}

/// The config that the worker runs with from now on, as hosts are told of it.
pub(super) fn config_changed(config_json: Bytes) -> SessionResponse {
    session_response::Frame::ConfigChanged(ConfigChanged { config_json }).into()
}

/// A notification of the worker, as hosts are told of it.
pub(super) fn notification(message: Message) -> SessionResponse {
    let told = Notification {
        method: message.method,
        params_json: message.params,
        invocation_json: Bytes::new(),
        invocation_id: message.invocation_id,
        traceparent: message.traceparent,
    };
    session_response::Frame::Notification(told).into()
}

/// What became of a question to a host.
#[derive(Debug)]
pub(super) enum HostAnswer {
    /// It answered, or took too long.
    Answer(Result<Bytes, RpcError>),
    /// The session was over before the request left.
    NotSent,
    /// The session ended with the request under way.
    Detached,
}

/// Whether asking twice does no harm.
pub(super) fn is_repeatable(method: &str) -> bool {
    methods::find(method).is_some_and(|method| method.is_repeatable)
}

fn response(id: u64, outcome: Result<Bytes, RpcError>) -> session_response::Frame {
    let outcome = match outcome {
        Ok(result) => response::Outcome::ResultJson(result),
        Err(error) => response::Outcome::Error(error),
    };
    session_response::Frame::Response(Response {
        id,
        outcome: Some(outcome),
    })
}

/// Runs a session until the host leaves, falls silent or `stop` is cancelled.
///
/// `hello` is this pod's hello without what changes; `frames` is the stream to the host, with
/// nothing in it yet.
pub async fn serve<S>(
    multiplexer: Arc<Multiplexer>,
    host: HostHello,
    hello: PluginHello,
    stream: S,
    frames: mpsc::Sender<SessionResponse>,
    stop: CancellationToken,
) where
    S: Stream<Item = Result<SessionRequest, Status>> + Unpin,
{
    let mut state = multiplexer.state.subscribe();
    let mut limits = multiplexer.gate.subscribe();
    let session = attach(&multiplexer, host, hello, frames);
    let replica = &session.host.replica;
    tracing::info!(host = session.host.host_name, replica, "a host attached");
    let mut receiver = link::Receiver::new(stream);
    let handler = FrameHandler {
        multiplexer: &multiplexer,
        session: &session,
        requests: Arc::new(Semaphore::new(MAX_REQUESTS)),
    };
    let mut phase = state.borrow_and_update().phase;
    let (over, stop) = (pin!(session.over.cancelled()), pin!(stop.cancelled()));
    let mut ended = pin!(async {
        tokio::select! { biased; () = over => {} () = stop => {} }
    });
    let mut due = pin!(tokio::time::sleep(NEVER));
    loop {
        let event = tokio::select! {
            // Frames last: a host that always has more would hold up all else.
            biased;
            () = &mut ended => break,
            changed = state.changed() => {
                if changed.is_err() { break; }
                let now = state.borrow_and_update().clone();
                if now.phase != phase {
                    phase = now.phase;
                    let announced = session_response::Frame::PhaseChanged(now.phase_changed());
                    session.send(announced).await;
                }
                continue;
            }
            changed = limits.changed() => {
                if changed.is_err() { break; }
                let now = *limits.borrow_and_update();
                let announced = session_response::Frame::LimitsChanged(now.into());
                session.send(announced).await;
                continue;
            }
            () = &mut due => {
                let next = multiplexer.expire();
                due.as_mut().reset(next.unwrap_or_else(|| Instant::now() + NEVER));
                continue;
            }
            event = receiver.next(&session.link) => event,
        };
        let taken = match event {
            Ok(Some(event)) => handler.take_together(&mut receiver, event, &state).await,
            Ok(None) => break,
            Err(error) => Err(error),
        };
        match taken {
            Ok(Some(first)) if due.deadline() > first => due.as_mut().reset(first),
            Ok(_) => {}
            Err(error) => {
                log_end(&session, &error);
                break;
            }
        }
    }
    detach(&multiplexer, &session);
}

/// Sends the hello and makes the session known, in one step, so that no subscription made
/// meanwhile is missed.
fn attach(
    multiplexer: &Multiplexer,
    host: HostHello,
    hello: PluginHello,
    frames: mpsc::Sender<SessionResponse>,
) -> Arc<Session> {
    let mut inner = multiplexer.lock();
    let state = multiplexer.state.now();
    let hello = PluginHello {
        limits: Some(multiplexer.gate.limits().into()),
        phase: state.phase.into(),
        initialize_result_json: state.initialize_result,
        config_json: state.config_json,
        subscriptions: inner
            .subscriptions
            .iter()
            .cloned()
            .map(|params_json| Subscription { params_json })
            .collect(),
        max_frame_bytes: DEFAULT_MAX_FRAME as u32,
        ..hello
    };
    // The queue is new and empty, so there is room.
    let _ = frames.try_send(session_response::Frame::Hello(Box::new(hello)).into());
    inner.next_session += 1;
    let (outbox, posted) = Outbox::new();
    let session = Arc::new(Session {
        id: SessionId(inner.next_session),
        host: AttachedHost {
            host_namespace: host.host_namespace,
            host_name: host.host_name,
            replica: host.replica,
        },
        link: link::Sender::new(frames, host.max_frame_bytes),
        outbox,
        serving: Mutex::default(),
        open: Mutex::default(),
        next_id: AtomicU64::new(1),
        over: CancellationToken::new(),
    });
    inner.sessions.insert(session.id, session.clone());
    drop(inner);
    tokio::spawn(session.clone().empty(posted));
    multiplexer.flush_logs(&session);
    multiplexer.metrics.sessions.inc();
    multiplexer
        .sessions_changed
        .send_modify(|count| *count += 1);
    session
}

fn detach(multiplexer: &Multiplexer, session: &Session) {
    session.over.cancel();
    let closed = {
        let mut inner = multiplexer.lock();
        inner.sessions.remove(&session.id);
        inner.close_all(session.id)
    };
    drop(closed);
    multiplexer.settled.notify_waiters();
    multiplexer.metrics.sessions.dec();
    multiplexer
        .sessions_changed
        .send_modify(|count| *count += 1);
    show(multiplexer, &session.host, false);
    let replica = &session.host.replica;
    tracing::info!(host = session.host.host_name, replica, "a host detached");
}

/// Shows a host as attached, or no more.
fn show(multiplexer: &Multiplexer, host: &AttachedHost, is_fresh: bool) {
    multiplexer.state.update(|state| {
        let known = state.hosts.iter().position(|other| other == host);
        match known {
            None if is_fresh => state.hosts.push(host.clone()),
            Some(at) if !is_fresh => drop(state.hosts.remove(at)),
            _ => {}
        }
    });
}

fn log_end(session: &Session, error: &LinkError) {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    let host = &session.host.host_name;
    tracing::info!(host, %error, cause, "a session was lost");
}

/// Takes the frames of one session.
struct FrameHandler<'a> {
    multiplexer: &'a Arc<Multiplexer>,
    session: &'a Arc<Session>,
    requests: Arc<Semaphore>,
}

impl FrameHandler<'_> {
    /// Takes an event and what is there already: waiting for each alone would cost more than
    /// the events themselves. Gives the first deadline of the calls among them.
    async fn take_together<S>(
        &self,
        receiver: &mut link::Receiver<SessionRequest, S>,
        mut event: Event<SessionRequest>,
        state: &watch::Receiver<PodState>,
    ) -> Result<Option<Instant>, LinkError>
    where
        S: Stream<Item = Result<SessionRequest, Status>> + Unpin,
    {
        let mut first: Option<Instant> = None;
        for taken in 1.. {
            match event {
                Event::Frame(frame) => {
                    let phase = state.borrow().phase;
                    let deadline = self.take(frame, phase).await;
                    first = first.into_iter().chain(deadline).min();
                }
                Event::Heartbeat => {
                    let is_fresh = receiver.proof().is_fresh();
                    show(self.multiplexer, &self.session.host, is_fresh);
                }
            }
            if taken == TOGETHER {
                break;
            }
            match receiver.ready(&self.session.link).await {
                Some(next) => event = next?,
                None => break,
            }
        }
        Ok(first)
    }

    async fn take(&self, frame: SessionRequest, phase: Phase) -> Option<Instant> {
        match frame.frame? {
            session_request::Frame::Request(request) => return self.serve(request, phase).await,
            session_request::Frame::Response(response) => {
                settle(self.multiplexer, self.session, response);
            }
            session_request::Frame::Notification(told) => self.tell_worker(told).await,
            session_request::Frame::Cancel(cancel) => self.give_up(cancel.id),
            _ => {}
        }
        None
    }

    /// Serves a request; gives its deadline when no task does.
    async fn serve(&self, request: Request, phase: Phase) -> Option<Instant> {
        let Ok(permit) = self.requests.clone().try_acquire_owned() else {
            let refusal = Refusal::at_once(Limit::Requests, "the host", MAX_REQUESTS);
            let refusal = self.multiplexer.refused(refusal);
            self.session.respond(request.id, Err(refusal)).await;
            return None;
        };
        match self
            .multiplexer
            .try_direct(self.session, phase, request, permit)
        {
            Admission::Sent(deadline) => Some(deadline),
            Admission::NeedsTask(request, permit) => {
                let (multiplexer, session) = (self.multiplexer.clone(), self.session.clone());
                let given_up = CancellationToken::new();
                self.session.serving().insert(request.id, given_up.clone());
                tokio::spawn(serve_request(
                    multiplexer,
                    session,
                    request,
                    permit,
                    given_up,
                ));
                None
            }
        }
    }

    /// The host no longer waits for a request. What the worker was asked may still be done.
    fn give_up(&self, request: u64) {
        let served = self.session.serving().remove(&request);
        match served {
            Some(given_up) => {
                self.multiplexer.metrics.cancelled.inc();
                given_up.cancel();
            }
            None => self.multiplexer.give_up(self.session.id, request),
        }
    }

    async fn tell_worker(&self, told: Notification) {
        let method = told.method.clone();
        let outcome = self.multiplexer.notify(told, self.session.id).await;
        if let Err(error) = outcome {
            tracing::warn!(
                method,
                error = error.message,
                "a notification of a host was dropped"
            );
        }
    }
}

fn settle(multiplexer: &Multiplexer, session: &Session, response: Response) {
    let outcome = match response.outcome {
        Some(response::Outcome::ResultJson(result)) if crate::envelope::is_json(&result) => {
            multiplexer
                .check_size(result.len(), || "the host's answer".into())
                .map(|()| result)
        }
        Some(response::Outcome::ResultJson(_)) | None => Err(RpcError::new(
            jsonrpc::INTERNAL,
            "the host's answer is not JSON",
        )),
        Some(response::Outcome::Error(mut error)) => {
            if !crate::envelope::is_json(&error.data_json) {
                error.data_json = Bytes::new();
            }
            Err(error)
        }
    };
    let waiting = session.lock().remove(&response.id);
    if waiting.is_none_or(|waiting| waiting.send(outcome).is_err()) {
        // Answers to subscriptions come here as well; nobody waits for those.
        multiplexer.metrics.late_answers.inc();
    }
}

async fn serve_request(
    multiplexer: Arc<Multiplexer>,
    session: Arc<Session>,
    request: Request,
    permit: OwnedSemaphorePermit,
    given_up: CancellationToken,
) {
    let id = request.id;
    let detaches = methods::handling(&request.method) == Handling::Detach;
    let outcome = tokio::select! {
        // In this order, so that what is given up goes no further.
        biased;
        // Nobody is left to answer; what was sent may still be done.
        () = session.over.cancelled() => return,
        () = given_up.cancelled() => return,
        outcome = serve_call(&multiplexer, &session, request) => outcome,
    };
    session.serving().remove(&id);
    session.respond(id, outcome).await;
    if detaches {
        session.over.cancel();
    }
    drop(permit);
}

async fn serve_call(
    multiplexer: &Arc<Multiplexer>,
    session: &Session,
    request: Request,
) -> Result<Bytes, RpcError> {
    let handling = methods::handling(&request.method);
    let call = Call {
        params: match handling {
            Handling::FillParams => multiplexer.settings.fill_params(request.params_json),
            _ => request.params_json,
        },
        method: request.method,
        invocation: request.invocation_json,
        traceparent: request.traceparent,
        timeout: Duration::from_millis(request.timeout_ms),
        origin: Some(session.id),
    };
    match handling {
        // The worker belongs to the pod; a host only leaves.
        Handling::Detach => Ok(Bytes::from_static(b"null")),
        Handling::Initialize => multiplexer.initialize_result().await,
        _ => multiplexer.call(call).await,
    }
}
