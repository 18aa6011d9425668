//! A session: one host process at the bridge.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use paperclip_proto::{
    jsonrpc,
    link::{self, DEFAULT_MAX_FRAME, Event, LinkError},
    v1::{
        AttachedHost, HostHello, Notification, PluginHello, Request, Response, RpcError,
        SessionRequest, SessionResponse, Subscription, response, session_request, session_response,
    },
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tonic::Streaming;

use super::{Call, Multiplexer};
use crate::envelope::Message;

/// Requests of one host that may be under way at once; more wait in the transport.
const MAX_REQUESTS: usize = 1024;

/// Names a session in this sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(u64);

/// One host process at the bridge.
#[derive(Debug)]
pub struct Session {
    pub(super) id: SessionId,
    host: AttachedHost,
    link: link::Sender<SessionResponse>,
    open: Mutex<HashMap<u64, oneshot::Sender<Result<Bytes, RpcError>>>>,
    next_id: AtomicU64,
    over: CancellationToken,
}

impl Session {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<Result<Bytes, RpcError>>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send(&self, frame: session_response::Frame) -> bool {
        tokio::select! {
            sent = self.link.send(frame.into()) => sent.is_ok(),
            () = self.over.cancelled() => false,
        }
    }

    fn request(&self, message: &Message, timeout: Duration) -> Request {
        Request {
            id: self.next_id.fetch_add(1, Ordering::Relaxed),
            method: message.method.clone(),
            params_json: message.params.clone(),
            invocation_json: Bytes::new(),
            invocation_id: message.invocation_id.clone(),
            timeout_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
            idempotent: false,
        }
    }

    /// Asks the host. None when the session was over before the request left.
    pub(super) async fn ask(
        &self,
        message: &Message,
        timeout: Duration,
    ) -> Option<Result<Bytes, RpcError>> {
        let request = self.request(message, timeout);
        let id = request.id;
        let (answer, receiver) = oneshot::channel();
        self.lock().insert(id, answer);
        if !self.send(session_response::Frame::Request(request)).await {
            self.lock().remove(&id);
            return None;
        }
        let outcome = tokio::select! {
            outcome = tokio::time::timeout(timeout, receiver) => outcome,
            () = self.over.cancelled() => Ok(Ok(Err(RpcError::new(
                jsonrpc::WORKER_UNAVAILABLE,
                "the host detached before it answered",
            )))),
        };
        self.lock().remove(&id);
        Some(match outcome {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) | Err(_) => {
                let method = &message.method;
                let limit = timeout.as_secs();
                let message = format!("the host did not answer {method} within {limit} s");
                Err(RpcError::new(jsonrpc::TIMEOUT, message))
            }
        })
    }

    /// Tells the host of a subscription. Its answer changes nothing.
    pub(super) async fn subscribe(&self, message: &Message) {
        let request = self.request(message, super::DEFAULT_TIMEOUT);
        self.send(session_response::Frame::Request(request)).await;
    }

    pub(super) async fn tell(&self, message: Message) {
        let told = Notification {
            method: message.method,
            params_json: message.params,
            invocation_json: Bytes::new(),
            invocation_id: message.invocation_id,
        };
        self.send(session_response::Frame::Notification(told)).await;
    }

    async fn respond(&self, id: u64, outcome: Result<Bytes, RpcError>) {
        let outcome = match outcome {
            Ok(result) => response::Outcome::ResultJson(result),
            Err(error) => response::Outcome::Error(error),
        };
        let response = Response {
            id,
            outcome: Some(outcome),
        };
        self.send(session_response::Frame::Response(response)).await;
    }
}

/// Runs a session until the host leaves, falls silent or `stop` is cancelled.
///
/// `hello` is this pod's hello without what changes; `frames` is the stream to the host, with
/// nothing in it yet.
pub async fn serve(
    multiplexer: Arc<Multiplexer>,
    host: HostHello,
    hello: PluginHello,
    stream: Streaming<SessionRequest>,
    frames: mpsc::Sender<SessionResponse>,
    stop: CancellationToken,
) {
    let mut state = multiplexer.state.subscribe();
    let session = attach(&multiplexer, host, hello, frames);
    let replica = &session.host.replica;
    tracing::info!(host = session.host.host_name, replica, "a host attached");
    let mut receiver = link::Receiver::new(stream);
    let requests = Arc::new(Semaphore::new(MAX_REQUESTS));
    let mut phase = state.borrow_and_update().phase;
    loop {
        tokio::select! {
            event = receiver.next(&session.link) => match event {
                Ok(Some(Event::Frame(frame))) => take(&multiplexer, &session, &requests, frame).await,
                Ok(Some(Event::Heartbeat)) => {
                    let is_fresh = receiver.proof().is_fresh();
                    show(&multiplexer, &session.host, is_fresh);
                }
                Ok(None) => break,
                Err(error) => { log_end(&session, &error); break; }
            },
            changed = state.changed() => {
                if changed.is_err() { break; }
                let now = state.borrow_and_update().clone();
                if now.phase != phase {
                    phase = now.phase;
                    let announced = session_response::Frame::PhaseChanged(now.phase_changed());
                    session.send(announced).await;
                }
            }
            () = session.over.cancelled() => break,
            () = stop.cancelled() => break,
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
        phase: state.phase.into(),
        initialize_result_json: state.initialize_result,
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
    let _ = frames.try_send(session_response::Frame::Hello(hello).into());
    inner.next_session += 1;
    let session = Arc::new(Session {
        id: SessionId(inner.next_session),
        host: AttachedHost {
            host_namespace: host.host_namespace,
            host_name: host.host_name,
            replica: host.replica,
        },
        link: link::Sender::new(frames, host.max_frame_bytes),
        open: Mutex::default(),
        next_id: AtomicU64::new(1),
        over: CancellationToken::new(),
    });
    inner.sessions.insert(session.id, session.clone());
    drop(inner);
    multiplexer.metrics.sessions.inc();
    multiplexer
        .sessions_changed
        .send_modify(|count| *count += 1);
    session
}

fn detach(multiplexer: &Multiplexer, session: &Session) {
    session.over.cancel();
    multiplexer.lock().sessions.remove(&session.id);
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

async fn take(
    multiplexer: &Arc<Multiplexer>,
    session: &Arc<Session>,
    requests: &Arc<Semaphore>,
    frame: SessionRequest,
) {
    match frame.frame {
        Some(session_request::Frame::Request(request)) => {
            let Ok(permit) = requests.clone().acquire_owned().await else {
                return;
            };
            tokio::spawn(serve_request(
                multiplexer.clone(),
                session.clone(),
                request,
                permit,
            ));
        }
        Some(session_request::Frame::Response(response)) => settle(multiplexer, session, response),
        Some(session_request::Frame::Notification(told)) => {
            let outcome = multiplexer
                .notify(
                    &told.method,
                    &told.params_json,
                    &told.invocation_json,
                    session.id,
                )
                .await;
            if let Err(error) = outcome {
                tracing::warn!(
                    method = told.method,
                    error = error.message,
                    "a notification of a host was dropped"
                );
            }
        }
        _ => {}
    }
}

fn settle(multiplexer: &Multiplexer, session: &Session, response: Response) {
    let outcome = match response.outcome {
        Some(response::Outcome::ResultJson(result)) if crate::envelope::is_json(&result) => {
            Ok(result)
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
) {
    let id = request.id;
    let is_shutdown = request.method == "shutdown";
    let outcome = tokio::select! {
        outcome = serve_call(&multiplexer, &session, request) => outcome,
        // Nobody is left to answer; what was sent may still be done.
        () = session.over.cancelled() => return,
    };
    session.respond(id, outcome).await;
    if is_shutdown {
        session.over.cancel();
    }
    drop(permit);
}

async fn serve_call(
    multiplexer: &Multiplexer,
    session: &Session,
    request: Request,
) -> Result<Bytes, RpcError> {
    let call = Call {
        method: request.method,
        params: request.params_json,
        invocation: request.invocation_json,
        timeout: Duration::from_millis(request.timeout_ms),
        origin: Some(session.id),
    };
    match call.method.as_str() {
        // The worker belongs to the pod; a host only leaves.
        "shutdown" => Ok(Bytes::from_static(b"null")),
        "initialize" => multiplexer.initialize_result().await,
        _ => multiplexer.call(call).await,
    }
}
