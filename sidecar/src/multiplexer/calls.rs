//! Calls to the worker that have to wait for something: for the worker, for their turn, for an answer.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use paperclip_bridge::{
    trace::{Span, SpanKind},
    v1::{Phase, RpcError},
};
use paperclip_protocol::{
    DEFAULT_COMPANY, jsonrpc,
    methods::{self, Handling},
};
use serde_json::json;
use tokio::{sync::oneshot, time::Instant};

use super::{
    Answer, MAX_TIMEOUT, Multiplexer, Open, OpenKind,
    approach::Approach,
    errors::{check_json, is_of_a_limit, timed_out, worker_exited},
    invocations::{note, traceparent},
    turnstile::Turn,
};
use crate::{
    envelope,
    limits::Refusal,
    metrics::{Direction, Outcome},
    session_id::SessionId,
};

/// How long a call waits for a worker that is starting. It was not sent, so waiting is safe.
const HOLD: Duration = Duration::from_secs(10);

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

/// An open call: its id, that of its invocation, and its answer.
type Opened = (
    u64,
    Option<String>,
    oneshot::Receiver<Result<Bytes, RpcError>>,
);

impl Multiplexer {
    /// Calls the worker on a host's behalf.
    pub async fn call(self: &Arc<Self>, call: Call) -> Result<Bytes, RpcError> {
        self.call_on(call, Approach::Single).await
    }

    /// The same for a call that is on its way already.
    pub(super) async fn call_on(
        self: &Arc<Self>,
        call: Call,
        approach: Approach,
    ) -> Result<Bytes, RpcError> {
        let mut call = call;
        let span = self.trace(&mut call);
        let outcome = match methods::handling(&call.method) {
            Handling::Job => self.run_job(call, approach).await,
            Handling::FillParams => {
                call.params = self.settings.fill_params(call.params);
                self.checked_call(call, approach).await
            }
            _ => self.checked_call(call, approach).await,
        };
        span.ended(&outcome);
        self.count(&outcome);
        outcome
    }

    /// Begins the span of a call and hands its context to the worker, where the protocol has a
    /// place for it: in an invocation.
    pub(super) fn trace(&self, call: &mut Call) -> Span {
        let (method, stated) = (&call.method, &call.traceparent);
        self.begin_span(SpanKind::Server, method, stated, &mut call.invocation)
    }

    pub(super) fn begin_span(
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
    pub(super) fn count(&self, outcome: &Result<Bytes, RpcError>) {
        let label = match outcome {
            Ok(_) => Outcome::Ok,
            Err(error) if error.code == jsonrpc::TIMEOUT => Outcome::Timeout,
            Err(error) if error.code == jsonrpc::WORKER_UNAVAILABLE => Outcome::Unavailable,
            Err(error) if is_of_a_limit(error) => Outcome::Refused,
            Err(_) => Outcome::Error,
        };
        self.metrics.call(Direction::HostToWorker, label);
    }

    pub(super) async fn checked_call(
        &self,
        mut call: Call,
        approach: Approach,
    ) -> Result<Bytes, RpcError> {
        let kind = match methods::handling(&call.method) {
            Handling::Job => OpenKind::Job,
            _ => OpenKind::Call,
        };
        call.timeout = self
            .gate
            .limits()
            .timeout(kind == OpenKind::Job, call.timeout);
        let deadline = Instant::now() + call.timeout.min(MAX_TIMEOUT);
        self.check(&call.method, &call.params, &call.invocation)?;
        let (_place, turn) = self.admit(approach, deadline).await?;
        self.exchange(call, kind, deadline, turn).await
    }

    /// Refuses what is no call.
    pub(super) fn check(
        &self,
        method: &str,
        params: &[u8],
        invocation: &[u8],
    ) -> Result<(), RpcError> {
        check_json(params, "params")?;
        check_json(invocation, "the invocation")?;
        self.check_size(params.len(), || format!("params of {method}"))
    }

    /// Counts what a limit refused, and gives the error that says so.
    pub(super) fn refused(&self, refusal: Refusal) -> RpcError {
        self.metrics.refused(refusal.limit);
        refusal.error
    }

    /// Refuses a payload that is larger than may pass. `what` says what it is of.
    pub(super) fn check_size(
        &self,
        bytes: usize,
        what: impl FnOnce() -> String,
    ) -> Result<(), RpcError> {
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
        self.exchange(call, OpenKind::Internal, deadline, None)
            .await
    }

    /// Calls the worker's `configChanged` on behalf of the one company that has config, within an
    /// invocation of the sidecar's own.
    pub async fn tell_config(
        &self,
        revision: u64,
        params: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, RpcError> {
        let invocation = json!({
            "id": format!("config-{revision}"),
            "scope": {"companyId": DEFAULT_COMPANY},
        });
        let call = Call {
            method: "configChanged".into(),
            params,
            invocation: invocation.to_string().into(),
            timeout,
            ..Call::default()
        };
        let deadline = Instant::now() + timeout;
        self.exchange(call, OpenKind::Internal, deadline, None)
            .await
    }

    /// The worker's result of `initialize`, as soon as there is one.
    pub(super) async fn initialize_result(&self) -> Result<Bytes, RpcError> {
        self.wait_for_worker(Instant::now() + HOLD).await?;
        Ok(self.state.now().initialize_result)
    }

    pub(super) async fn wait_for_worker(&self, deadline: Instant) -> Result<(), RpcError> {
        let mut state = self.state.subscribe();
        let waits = |phase| matches!(phase, Phase::Starting | Phase::Unresponsive);
        let is_there = state.wait_for(|state| !waits(state.phase));
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
    pub(super) fn refuse_when_draining(&self) -> Result<(), RpcError> {
        match self.state.phase() {
            Phase::Draining => Err(RpcError::not_sent("the pod is draining")),
            _ => Ok(()),
        }
    }

    pub(super) async fn exchange(
        &self,
        mut call: Call,
        kind: OpenKind,
        deadline: Instant,
        turn: Option<Turn>,
    ) -> Result<Bytes, RpcError> {
        let (id, invocation, answer) = self.open(&call, kind)?;
        let mut guard = Settle {
            multiplexer: self,
            id,
            invocation,
        };
        drop(turn);
        // They stand in the line, and may be large.
        call.params = Bytes::new();
        let outcome = tokio::time::timeout_at(deadline, answer).await;
        guard.settle();
        match outcome {
            Ok(answer) => answer.unwrap_or_else(|_| Err(worker_exited("the worker ended"))),
            Err(_) => Err(timed_out(&call.method, call.timeout)),
        }
    }

    /// Opens a call and puts its line at its place before the worker.
    fn open(&self, call: &Call, kind: OpenKind) -> Result<Opened, RpcError> {
        let noted = note(&call.invocation, call.origin);
        let id = self.lock().take_id();
        // It may be large, so it is put together away from the lock.
        let line = envelope::call(Some(id), &call.method, &call.params, &call.invocation);
        let mut inner = self.lock();
        Self::stdin_for(&mut inner, kind)?.push_call(id, line);
        let (answer, receiver) = oneshot::channel();
        let open = Open {
            answer: Answer::Waiting(answer),
            kind,
            is_written: false,
        };
        inner.open.insert(id, open);
        let invocation = noted.as_ref().map(|(name, _)| name.clone());
        noted
            .into_iter()
            .for_each(|noted| inner.invocations.note_call(noted));
        Ok((id, invocation, receiver))
    }
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
            inner.invocations.end(&invocation);
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
