//! Messages of the worker: answers, requests for a host, notifications.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use paperclip_bridge::{
    trace::{Span, SpanKind},
    v1::{RpcError, SessionResponse},
};
use paperclip_protocol::{
    jsonrpc,
    methods::{self, Handling},
};
use tokio::{sync::OwnedSemaphorePermit, time::Instant};

use super::{
    MAX_WORKER_REQUESTS, Multiplexer, Open, OpenKind, log,
    session::{Answering, HostAnswer, Session, is_repeatable, notification},
    stdin::Run,
    turnstile::Turn,
};
use crate::{
    envelope::Message,
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

/// A request of the worker, with all that was known when it was read.
struct Asking {
    run: Run,
    id: Bytes,
    message: Message,
    /// The session whose call or event the worker works on.
    issuer: Option<SessionId>,
    handling: Handling,
    span: Span,
    _permit: OwnedSemaphorePermit,
}

/// The way of a request to its first host.
enum Way {
    /// It has its place in the order of this session.
    Begun(Arc<Session>, Answering),
    /// Nobody is there yet, and others wait before it.
    Waits(Turn),
}

impl Multiplexer {
    /// Hands an answer of the worker to whoever waits.
    pub(super) async fn worker_answered(&self, id: Option<u64>, outcome: Result<Bytes, RpcError>) {
        let open = id.and_then(|id| self.lock().close(id));
        let outcome = match (&open, outcome) {
            (Some(open), Ok(result)) if open.kind != OpenKind::Internal => self
                .check_size(result.len(), || "the worker's result".into())
                .map(|()| result),
            (_, outcome) => outcome,
        };
        let session = open.as_ref().and_then(Open::session).cloned();
        let delivered = open.is_some_and(|open| open.answer.give(self, outcome));
        if !delivered {
            self.metrics.late_answers.inc();
            tracing::debug!(id, "an answer of the worker came late and was dropped");
        }
        if let Some(session) = session {
            session.keep_pace().await;
        }
    }

    /// Serves a request of the worker of this run. What it is made for and its place in the order of
    /// a session are fixed when this returns; only the answer is waited for elsewhere.
    pub(super) async fn worker_requested(
        self: &Arc<Self>,
        id: Bytes,
        mut message: Message,
        run: Run,
    ) {
        let known = self.invocation(&message.invocation_id);
        let is_within_ours = known.as_ref().is_some_and(|known| known.session.is_none());
        let (company, issuer, parent) = known
            .map(|known| (known.company, known.session, known.traceparent))
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
            return self.answer_worker(run, &id, &Err(error));
        }
        let size = message.params.len();
        if let Err(error) = self.check_size(size, || format!("params of {}", message.method)) {
            self.metrics.call(Direction::WorkerToHost, Outcome::Refused);
            return self.answer_worker(run, &id, &Err(error));
        }
        if message.method == "log" {
            message.params = log::redacted(message.params, &self.settings);
        }
        let handling = methods::handling(&message.method);
        if is_within_ours {
            // Hosts do not know it. The config that it tells of is here.
            message.invocation_id.clear();
            if handling == Handling::FillResult {
                self.metrics.call(Direction::WorkerToHost, Outcome::Ok);
                return self.answer_worker(run, &id, &Ok(self.settings.config_json()));
            }
        }
        if handling == Handling::Subscribe {
            let outcome = self.subscribe(&message).await;
            return self.answer_worker(run, &id, &outcome);
        }
        if handling == Handling::Secret
            && let Some(value) = self.settings.resolve(&message.params)
        {
            self.metrics.call(Direction::WorkerToHost, Outcome::Ok);
            let value = serde_json::Value::from(value).to_string().into();
            return self.answer_worker(run, &id, &Ok(value));
        }
        let Ok(permit) = self.worker_request_permits().try_acquire_owned() else {
            let refusal = Refusal::at_once(Limit::Callbacks, "the worker", MAX_WORKER_REQUESTS);
            self.metrics.call(Direction::WorkerToHost, Outcome::Refused);
            return self.answer_worker(run, &id, &Err(self.refused(refusal)));
        };
        let name = format!("host {}", message.method);
        let span = self.traces.start(name, SpanKind::Client, &parent);
        message.traceparent = span.traceparent();
        let way = self.begin_ask(issuer, &message);
        let session = match &way {
            Way::Begun(session, _) => Some(session.clone()),
            Way::Waits(_) => None,
        };
        let asking = Asking {
            run,
            id,
            message,
            issuer,
            handling,
            span,
            _permit: permit,
        };
        tokio::spawn(self.clone().end_request(asking, way));
        if let Some(session) = session {
            session.keep_pace().await;
        }
    }

    /// Gives the request its place in the order of the session that issued its invocation, or of
    /// any; where there is none, among those that wait for a first one.
    fn begin_ask(&self, issuer: Option<SessionId>, message: &Message) -> Way {
        if self.asking.is_empty()
            && let Some(session) = self.pick(issuer, &[])
            && let Some(answering) = session.begin_ask(message, HOST_TIMEOUT)
        {
            return Way::Begun(session, answering);
        }
        Way::Waits(self.asking.join())
    }

    /// Waits for the outcome of a request and answers the worker.
    async fn end_request(self: Arc<Self>, asking: Asking, way: Way) {
        let mut outcome = self.ask_hosts(&asking.message, asking.issuer, way).await;
        asking.span.ended(&outcome);
        if asking.handling == Handling::FillResult {
            outcome = outcome.map(|config| self.settings.fill(config));
        }
        let label = match &outcome {
            Ok(_) => Outcome::Ok,
            Err(error) if error.code == jsonrpc::WORKER_UNAVAILABLE => Outcome::Unavailable,
            Err(error) if error.code == jsonrpc::TIMEOUT => Outcome::Timeout,
            Err(_) => Outcome::Error,
        };
        self.metrics.call(Direction::WorkerToHost, label);
        self.answer_worker(asking.run, &asking.id, &outcome);
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
    async fn ask_hosts(
        &self,
        message: &Message,
        issuer: Option<SessionId>,
        way: Way,
    ) -> Result<Bytes, RpcError> {
        let deadline = Instant::now() + HOST_WAIT;
        let mut tried: Vec<SessionId> = Vec::new();
        let mut refusal = None;
        let (mut begun, mut turn) = match way {
            Way::Begun(session, answering) => (Some((session, answering)), None),
            Way::Waits(turn) => (None, Some(turn)),
        };
        loop {
            if let Some(turn) = &mut turn {
                let _waiting = Waiting::new(self);
                let come = tokio::time::timeout_at(deadline, turn.come()).await;
                come.map_err(|_| no_host())?;
            }
            let (session, answering) = match begun.take() {
                Some(begun) => begun,
                None => {
                    let next = self.next_host(issuer, &tried, deadline, refusal.is_some());
                    let Some(session) = next.await else {
                        return Err(refusal.unwrap_or_else(no_host));
                    };
                    let Some(answering) = session.begin_ask(message, HOST_TIMEOUT) else {
                        tried.push(session.id);
                        continue;
                    };
                    (session, answering)
                }
            };
            // The next one may ask now.
            turn = None;
            tried.push(session.id);
            let answer = session.end_ask(answering, &message.method, HOST_TIMEOUT);
            match answer.await {
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
        session.post(frame);
        if !session.is_behind() {
            return;
        }
        let another_keeps_up = {
            let inner = self.lock();
            let mut others = inner.sessions.values();
            others.any(|other| other.id != session.id && other.keeps_up())
        };
        match another_keeps_up {
            true => session.leave_behind(),
            false => session.caught_up().await,
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
