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
use paperclip_bridge::{
    link::{self, NotTaken},
    v1::{
        AttachedHost, ConfigChanged, HostHello, Notification, Request, Response, RpcError,
        SessionResponse, response, session_response,
    },
};
use paperclip_protocol::{jsonrpc, methods};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{
    lane::{Lane, Posted},
    turnstile::Turnstile,
};
use crate::{envelope::Message, session_id::SessionId};

/// How long a host may take no part of what is for it.
const SLOW_HOST: Duration = Duration::from_secs(2);

/// One host process at the bridge.
#[derive(Debug)]
pub struct Session {
    pub(super) id: SessionId,
    pub(super) host: AttachedHost,
    pub(super) link: link::Sender<SessionResponse>,
    lane: Lane,
    /// Requests of the host that wait for the worker to serve, in their order.
    pub(super) starts: Arc<Turnstile>,
    /// Requests of the host that wait to be written to it, in their order.
    pub(super) writes: Arc<Turnstile>,
    /// Requests of the host that have a task of their own; cancelled when the host gives one up.
    serving: Mutex<HashMap<u64, CancellationToken>>,
    open: Mutex<HashMap<u64, Asked>>,
    next_id: AtomicU64,
    /// Told when a call that waited was sent.
    due: Notify,
    pub(super) over: CancellationToken,
}

/// A request that the host has not answered.
#[derive(Debug)]
struct Asked {
    answer: oneshot::Sender<Result<Bytes, RpcError>>,
    /// The host may have seen it.
    is_sent: bool,
}

/// An answer that is to come.
#[derive(Debug)]
pub(super) struct Answering {
    id: u64,
    answer: oneshot::Receiver<Result<Bytes, RpcError>>,
}

impl Session {
    /// A session with a host whose stream is `frames`, and what waits for that host.
    pub(super) fn new(
        id: SessionId,
        host: HostHello,
        frames: mpsc::Sender<SessionResponse>,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<Posted>) {
        let (lane, posted) = Lane::new();
        let session = Self {
            id,
            host: AttachedHost {
                host_namespace: host.host_namespace,
                host_name: host.host_name,
                replica: host.replica,
            },
            link: link::Sender::new(frames, host.max_frame_bytes),
            lane,
            starts: Arc::default(),
            writes: Arc::default(),
            serving: Mutex::default(),
            open: Mutex::default(),
            next_id: AtomicU64::new(1),
            due: Notify::new(),
            over: CancellationToken::new(),
        };
        (Arc::new(session), posted)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Asked>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a frame at its place in the order of the session.
    pub(super) fn post(&self, frame: impl Into<SessionResponse>) {
        self.lane.post(&self.link, frame.into(), None);
    }

    /// True when requests of the host wait for the worker: another one comes after them.
    pub(super) fn has_waiting(&self) -> bool {
        !(self.starts.is_empty() && self.writes.is_empty())
    }

    /// True while the host reads its frames as fast as they come.
    pub(super) fn keeps_up(&self) -> bool {
        self.lane.keeps_up()
    }

    /// True when the host left too much unread of what it did not ask for.
    pub(super) fn is_behind(&self) -> bool {
        self.lane.is_behind()
    }

    /// Waits until the host has read some, or is gone. One that reads nothing is detached.
    pub(super) async fn caught_up(&self) {
        self.over.run_until_cancelled(self.lane.caught_up()).await;
    }

    /// The same where even answers and requests are too much.
    pub(super) async fn keep_pace(&self) {
        if self.lane.is_far_behind() {
            self.caught_up().await;
        }
    }

    /// A call that waited was sent, and has a deadline from here on.
    pub(super) fn note_due(&self) {
        self.due.notify_one();
    }

    /// Waits until a call that waited was sent.
    pub(super) async fn due_noted(&self) {
        self.due.notified().await;
    }

    /// Detaches a host that does not read its frames.
    pub(super) fn leave_behind(&self) {
        let host = &self.host.host_name;
        tracing::warn!(host, "a host that does not read was detached");
        self.over.cancel();
    }

    /// Sends what waits for the host, for as long as it reads.
    pub(super) async fn drain(self: Arc<Self>, mut queue: mpsc::UnboundedReceiver<Posted>) {
        while let Some(Some(posted)) = self.over.run_until_cancelled(queue.recv()).await {
            if let Some(request) = posted.request {
                self.mark_sent(request);
            }
            let frame = self.lane.take(posted);
            let sending = self.link.send_within(frame, SLOW_HOST);
            let sent = self.over.run_until_cancelled(sending).await;
            if sent == Some(Err(NotTaken::Slow)) {
                self.leave_behind();
            }
            self.lane.done();
        }
    }

    pub(super) fn serving(&self) -> MutexGuard<'_, HashMap<u64, CancellationToken>> {
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

    /// Asks the host, at this place in the order of the session. None when the session is over.
    pub(super) fn begin_ask(&self, message: &Message, timeout: Duration) -> Option<Answering> {
        if self.over.is_cancelled() {
            return None;
        }
        let request = self.request(message, timeout);
        let id = request.id;
        let (sender, answer) = oneshot::channel();
        let asked = Asked {
            answer: sender,
            is_sent: false,
        };
        self.lock().insert(id, asked);
        let frame = session_response::Frame::Request(request).into();
        if self.lane.post(&self.link, frame, Some(id)) {
            self.mark_sent(id);
        }
        Some(Answering { id, answer })
    }

    fn mark_sent(&self, id: u64) {
        if let Some(asked) = self.lock().get_mut(&id) {
            asked.is_sent = true;
        }
    }

    /// Waits for the answer.
    pub(super) async fn end_ask(
        &self,
        asked: Answering,
        method: &str,
        timeout: Duration,
    ) -> HostAnswer {
        let Answering { id, answer } = asked;
        let outcome = tokio::select! {
            biased;
            outcome = tokio::time::timeout(timeout, answer) => outcome,
            () = self.over.cancelled() => {
                let asked = self.lock().remove(&id);
                return match asked.is_some_and(|asked| !asked.is_sent) {
                    true => HostAnswer::NotSent,
                    false => HostAnswer::Detached,
                };
            }
        };
        self.lock().remove(&id);
        HostAnswer::Answer(match outcome {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) | Err(_) => {
                let limit = timeout.as_secs();
                let message = format!("the host did not answer {method} within {limit} s");
                Err(RpcError::new(jsonrpc::TIMEOUT, message))
            }
        })
    }

    /// Hands a host's answer to the request that waits for it. False when none does.
    pub(super) fn settle(&self, id: u64, outcome: Result<Bytes, RpcError>) -> bool {
        let asked = self.lock().remove(&id);
        asked.is_some_and(|asked| asked.answer.send(outcome).is_ok())
    }

    /// A subscription as a frame. Its answer changes nothing.
    pub(super) fn subscription(&self, message: &Message) -> SessionResponse {
        let request = self.request(message, super::DEFAULT_TIMEOUT);
        session_response::Frame::Request(request).into()
    }

    /// Answers a request of the host. False when the host has left.
    pub(super) fn respond(&self, id: u64, outcome: Result<Bytes, RpcError>) -> bool {
        if self.over.is_cancelled() {
            return false;
        }
        self.post(response(id, outcome));
        true
    }
}

/// The config that the worker runs with from now on, as a frame.
pub(super) fn config_changed(config_json: Bytes) -> SessionResponse {
    session_response::Frame::ConfigChanged(ConfigChanged { config_json }).into()
}

/// A notification of the worker, as a frame.
pub(super) fn notification(message: Message) -> SessionResponse {
    let notification = Notification {
        method: message.method,
        params_json: message.params,
        invocation_json: Bytes::new(),
        invocation_id: message.invocation_id,
        traceparent: message.traceparent,
    };
    session_response::Frame::Notification(notification).into()
}

/// The outcome of a request to a host.
#[derive(Debug)]
pub(super) enum HostAnswer {
    /// It answered, or took too long.
    Answer(Result<Bytes, RpcError>),
    /// The session was over before the request left.
    NotSent,
    /// The session ended with the request under way.
    Detached,
}

/// True for a method that may be called twice.
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
