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
    link,
    v1::{
        AttachedHost, ConfigChanged, HostHello, Notification, Request, Response, RpcError,
        SessionResponse, response, session_response,
    },
};
use paperclip_protocol::{jsonrpc, methods};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::outbox::{Outbox, Posted};
use crate::{envelope::Message, session_id::SessionId};

/// How long a host may leave what the worker tells it unread.
const SLOW_HOST: Duration = Duration::from_secs(2);

/// One host process at the bridge.
#[derive(Debug)]
pub struct Session {
    pub(super) id: SessionId,
    pub(super) host: AttachedHost,
    pub(super) link: link::Sender<SessionResponse>,
    outbox: Outbox,
    /// Requests of the host that have a task of their own; cancelled when the host gives one up.
    serving: Mutex<HashMap<u64, CancellationToken>>,
    open: Mutex<HashMap<u64, oneshot::Sender<Result<Bytes, RpcError>>>>,
    next_id: AtomicU64,
    pub(super) over: CancellationToken,
}

impl Session {
    /// A session with a host whose stream is `frames`, and what waits for that host.
    pub(super) fn new(
        id: SessionId,
        host: HostHello,
        frames: mpsc::Sender<SessionResponse>,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<Posted>) {
        let (outbox, posted) = Outbox::new();
        let session = Self {
            id,
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
        };
        (Arc::new(session), posted)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<Result<Bytes, RpcError>>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn send(&self, frame: session_response::Frame) -> bool {
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

    /// True while the host reads its frames as fast as they come.
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

    /// Detaches a host that does not read its frames.
    pub(super) fn leave_behind(&self) {
        let host = &self.host.host_name;
        tracing::warn!(host, "a host that does not read was detached");
        self.over.cancel();
    }

    /// Sends what waits for the host, for as long as it reads.
    pub(super) async fn empty(self: Arc<Self>, mut outbox: mpsc::UnboundedReceiver<Posted>) {
        while let Some(Some((frame, room))) = self.over.run_until_cancelled(outbox.recv()).await {
            let sent = tokio::time::timeout(SLOW_HOST, self.send_in_turn(frame)).await;
            if sent.is_err() {
                self.leave_behind();
            }
            drop(room);
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

    /// Hands a host's answer to the request that waits for it. False when none does.
    pub(super) fn settle(&self, id: u64, outcome: Result<Bytes, RpcError>) -> bool {
        let waiting = self.lock().remove(&id);
        waiting.is_some_and(|waiting| waiting.send(outcome).is_ok())
    }

    /// A subscription as a frame. Its answer changes nothing.
    pub(super) fn subscription(&self, message: &Message) -> SessionResponse {
        let request = self.request(message, super::DEFAULT_TIMEOUT);
        session_response::Frame::Request(request).into()
    }

    pub(super) async fn respond(&self, id: u64, outcome: Result<Bytes, RpcError>) {
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
