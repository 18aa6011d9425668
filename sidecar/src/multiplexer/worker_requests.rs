//! Messages of the worker: answers, requests for a host, notifications.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use paperclip_bridge::{
    trace::SpanKind,
    v1::{RpcError, SessionResponse},
};
use paperclip_protocol::{
    jsonrpc,
    methods::{self, Handling},
};
use tokio::{sync::mpsc, time::Instant};

use super::{
    MAX_WORKER_REQUESTS, Multiplexer, OpenKind, log,
    session::{HostAnswer, Session, is_repeatable, notification},
};
use crate::{
    envelope::{self, Message},
    limits::{Limit, Refusal},
    metrics::{Direction, Outcome},
    session_id::SessionId,
};

/// How long a worker's call waits for a host.
const HOST_WAIT: Duration = Duration::from_secs(25);
/// How long a host may take over a worker's call. Workers give up sooner.
const HOST_TIMEOUT: Duration = Duration::from_secs(300);
/// Subscriptions that one worker may make.
const MAX_SUBSCRIPTIONS: usize = 1024;

impl Multiplexer {
    /// Hands an answer of the worker to whoever waits.
    pub(super) fn worker_answered(&self, id: Option<u64>, outcome: Result<Bytes, RpcError>) {
        let open = id.and_then(|id| self.lock().close(id));
        let outcome = match (&open, outcome) {
            (Some(open), Ok(result)) if open.kind != OpenKind::Internal => self
                .check_size(result.len(), || "the worker's result".into())
                .map(|()| result),
            (_, outcome) => outcome,
        };
        let delivered = open.is_some_and(|open| open.answer.give(self, outcome));
        if !delivered {
            self.metrics.late_answers.inc();
            tracing::debug!(id, "an answer of the worker came late and was dropped");
        }
    }

    /// Serves a request of the worker.
    ///
    /// The answer goes to the worker that asked or to nobody: its successor gives the same ids.
    pub(super) async fn worker_requested(
        self: &Arc<Self>,
        id: Bytes,
        mut message: Message,
        worker: &mpsc::WeakSender<Bytes>,
    ) {
        let known = self.invocation(&message.invocation_id);
        let (company, parent) = known
            .map(|known| (known.company, known.traceparent))
            .unwrap_or_default();
        let checked = self
            .grants
            .check(&message.method, &message.params, company.as_deref());
        if let Err(error) = checked {
            self.metrics.call(Direction::WorkerToHost, Outcome::Denied);
            tracing::warn!(
                method = message.method,
                code = error.code,
                "{}",
                error.message
            );
            return answer(worker, &id, Err(error)).await;
        }
        let size = message.params.len();
        if let Err(error) = self.check_size(size, || format!("params of {}", message.method)) {
            self.metrics.call(Direction::WorkerToHost, Outcome::Refused);
            return answer(worker, &id, Err(error)).await;
        }
        if message.method == "log" {
            message.params = log::redacted(message.params, &self.settings);
        }
        let handling = methods::handling(&message.method);
        if handling == Handling::Subscribe {
            let outcome = self.subscribe(&message).await;
            return answer(worker, &id, outcome).await;
        }
        if handling == Handling::Secret
            && let Some(value) = self.settings.resolve(&message.params)
        {
            self.metrics.call(Direction::WorkerToHost, Outcome::Ok);
            let value = serde_json::Value::from(value).to_string().into();
            return answer(worker, &id, Ok(value)).await;
        }
        let Ok(permit) = self.worker_request_permits().try_acquire_owned() else {
            let refusal = Refusal::at_once(Limit::Callbacks, "the worker", MAX_WORKER_REQUESTS);
            self.metrics.call(Direction::WorkerToHost, Outcome::Refused);
            return answer(worker, &id, Err(self.refused(refusal))).await;
        };
        let (multiplexer, worker) = (self.clone(), worker.clone());
        tokio::spawn(async move {
            let name = format!("host {}", message.method);
            let span = multiplexer.traces.start(name, SpanKind::Client, &parent);
            message.traceparent = span.traceparent();
            let mut outcome = multiplexer.ask_hosts(&message).await;
            span.ended(&outcome);
            if handling == Handling::FillResult {
                outcome = outcome.map(|config| multiplexer.settings.fill(config));
            }
            let label = match &outcome {
                Ok(_) => Outcome::Ok,
                Err(error) if error.code == jsonrpc::WORKER_UNAVAILABLE => Outcome::Unavailable,
                Err(error) if error.code == jsonrpc::TIMEOUT => Outcome::Timeout,
                Err(_) => Outcome::Error,
            };
            multiplexer.metrics.call(Direction::WorkerToHost, label);
            answer(&worker, &id, outcome).await;
            drop(permit);
        });
    }

    /// Records a subscription, once, and tells the sessions.
    async fn subscribe(&self, message: &Message) -> Result<Bytes, RpcError> {
        let sessions = {
            let mut inner = self.lock();
            if inner.subscriptions.contains(&message.params) {
                return Ok(Bytes::from_static(b"null"));
            }
            if inner.subscriptions.len() >= MAX_SUBSCRIPTIONS {
                let limit = format!("a worker may make {MAX_SUBSCRIPTIONS} subscriptions");
                return Err(RpcError::new(jsonrpc::INTERNAL, limit));
            }
            // A copy: the line it came in should not live as long as the subscription.
            inner
                .subscriptions
                .push(Bytes::copy_from_slice(&message.params));
            inner.sessions.values().cloned().collect::<Vec<_>>()
        };
        self.remember.notify_one();
        for session in sessions {
            let frame = session.subscription(message);
            self.hand(&session, frame).await;
        }
        Ok(Bytes::from_static(b"null"))
    }

    /// Asks the host that issued the invocation, or one host after the other.
    async fn ask_hosts(&self, message: &Message) -> Result<Bytes, RpcError> {
        let issuer = self
            .invocation(&message.invocation_id)
            .and_then(|known| known.session);
        let deadline = Instant::now() + HOST_WAIT;
        let mut tried: Vec<SessionId> = Vec::new();
        let mut refusal = None;
        loop {
            let Some(session) = self
                .next_host(issuer, &tried, deadline, refusal.is_some())
                .await
            else {
                return Err(refusal.unwrap_or_else(no_host));
            };
            tried.push(session.id);
            match session.ask(message, HOST_TIMEOUT).await {
                // Another host may know the company; this one was certain that it does not.
                HostAnswer::Answer(Err(error))
                    if error.code == jsonrpc::INVOCATION_SCOPE_DENIED
                        && message.invocation_id.is_empty() =>
                {
                    refusal = Some(error);
                }
                HostAnswer::Answer(outcome) => return outcome,
                HostAnswer::NotSent => {}
                // It may have been done. Where that does no harm, another host is asked.
                HostAnswer::Detached if is_repeatable(&message.method) => {
                    refusal = Some(detached());
                }
                HostAnswer::Detached => return Err(detached()),
            }
        }
    }

    /// The next host to ask. Waits for one unless a host already refused.
    async fn next_host(
        &self,
        issuer: Option<SessionId>,
        tried: &[SessionId],
        deadline: Instant,
        refused: bool,
    ) -> Option<Arc<Session>> {
        let mut changes = self.sessions_changed.subscribe();
        loop {
            drop(changes.borrow_and_update());
            if let Some(session) = self.pick(issuer, tried) {
                return Some(session);
            }
            if refused {
                return None;
            }
            let _waiting = Waiting::new(self);
            let changed = tokio::time::timeout_at(deadline, changes.changed()).await;
            changed.ok()?.ok()?;
        }
    }

    fn pick(&self, issuer: Option<SessionId>, tried: &[SessionId]) -> Option<Arc<Session>> {
        let inner = self.lock();
        if let Some(issuer) = issuer.and_then(|id| inner.sessions.get(&id)) {
            return (!tried.contains(&issuer.id)).then(|| issuer.clone());
        }
        let mut untried = inner.sessions.values().filter(|s| !tried.contains(&s.id));
        untried.next().cloned()
    }

    /// Hands a host what it did not ask for. One that is far behind is left there where another
    /// keeps up, so that it stalls nobody; else the worker waits, who is too fast for all.
    pub(super) async fn hand(&self, session: &Arc<Session>, frame: SessionResponse) {
        let Some(frame) = session.post(frame) else {
            return;
        };
        let another_keeps_up = {
            let inner = self.lock();
            let mut others = inner.sessions.values();
            others.any(|other| other.id != session.id && other.keeps_up())
        };
        match another_keeps_up {
            true => session.leave_behind(),
            false => session.post_in_turn(frame).await,
        }
    }

    /// Passes a notification of the worker on.
    pub(super) async fn worker_notified(&self, mut message: Message) {
        let size = message.params.len();
        if let Err(error) = self.check_size(size, || format!("params of {}", message.method)) {
            tracing::warn!(
                "a notification of the worker was dropped: {}",
                error.message
            );
            return;
        }
        if message.method == "log" {
            message.params = log::redacted(message.params, &self.settings);
            log::worker_log(&message.params, &self.settings);
        }
        let known = self.invocation(&message.invocation_id);
        let issuer = known.as_ref().and_then(|known| known.session);
        message.traceparent = known.map(|known| known.traceparent).unwrap_or_default();
        if methods::handling(&message.method) == Handling::Streams {
            let sessions: Vec<_> = self.lock().sessions.values().cloned().collect();
            for session in sessions {
                let mut copy = message.clone();
                if Some(session.id) != issuer {
                    copy.invocation_id.clear();
                }
                self.hand(&session, notification(copy)).await;
            }
        } else if let Some(session) = self.pick(issuer, &[]) {
            self.hand(&session, notification(message)).await;
        }
    }
}

async fn answer(worker: &mpsc::WeakSender<Bytes>, id: &[u8], outcome: Result<Bytes, RpcError>) {
    if let Some(lines) = worker.upgrade() {
        let _ = lines.send(envelope::answer(id, &outcome)).await;
    }
}

fn detached() -> RpcError {
    let message = "the host detached before it answered";
    RpcError::new(jsonrpc::WORKER_UNAVAILABLE, message)
}

fn no_host() -> RpcError {
    let waited = HOST_WAIT.as_secs();
    let message = format!("no host attached to the plugin within {waited} s");
    RpcError::new(jsonrpc::WORKER_UNAVAILABLE, message)
}

/// Counts a call that waits for a host.
struct Waiting<'a>(&'a Multiplexer);

impl<'a> Waiting<'a> {
    fn new(multiplexer: &'a Multiplexer) -> Self {
        multiplexer.waiting_for_host.fetch_add(1, Ordering::Relaxed);
        Self(multiplexer)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting_for_host.fetch_sub(1, Ordering::Relaxed);
    }
}
