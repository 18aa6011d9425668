//! Calls to the worker that have to wait for something: for the worker, for their turn, for an answer.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use paperclip_bridge::{
    trace::{Span, SpanKind},
    v1::{Phase, RpcError},
};
use paperclip_protocol::{
    jsonrpc,
    methods::{self, Handling},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{
    Answer, MAX_TIMEOUT, Multiplexer, Open, OpenKind,
    errors::{check_json, is_of_a_limit, timed_out, unavailable, worker_exited},
    invocations::traceparent,
};
use crate::{
    envelope,
    limits::{Place, Refusal},
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

impl Multiplexer {
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

    pub(super) async fn checked_call(&self, mut call: Call) -> Result<Bytes, RpcError> {
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

    pub(super) async fn enter(
        &self,
        origin: Option<SessionId>,
        until: Instant,
    ) -> Result<Place, RpcError> {
        let entered = self.gate.enter(origin, until).await;
        entered.map_err(|refusal| self.refused(refusal))
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
        self.exchange(call, OpenKind::Internal, deadline).await
    }

    /// The worker's result of `initialize`, as soon as there is one.
    pub(super) async fn initialize_result(&self) -> Result<Bytes, RpcError> {
        self.wait_for_worker(Instant::now() + HOLD).await?;
        Ok(self.state.now().initialize_result)
    }

    pub(super) async fn wait_for_worker(&self, deadline: Instant) -> Result<(), RpcError> {
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
    pub(super) fn open(
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
