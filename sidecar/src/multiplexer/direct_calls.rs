//! Calls that pass without a task of their own.
//!
//! A call whose method asks nothing of the sidecar, to a worker that serves and has room in
//! its queue, need not wait for anything here: its line goes out at once, and the answer goes
//! from the worker's stdout straight into the session. What has to wait is left to a task.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use paperclip_bridge::v1::{Phase, Request, RpcError};
use paperclip_protocol::methods::{self, Handling};
use tokio::{sync::OwnedSemaphorePermit, time::Instant};

use super::{
    Answer, Inner, MAX_TIMEOUT, Multiplexer, Open, OpenKind, errors::timed_out, invocations::note,
    session::Session,
};
use crate::{envelope, limits::Place, session_id::SessionId};

/// Larger params are copied by a task, away from the lock.
const LARGE: usize = 64 * 1024;

/// The outcome of trying to send a request at once.
#[derive(Debug)]
pub(super) enum Admission {
    /// It is with the worker, until then.
    Sent(Instant),
    /// It has to wait or to be looked at.
    NeedsTask(Request, OwnedSemaphorePermit),
}

/// An open call of a session.
#[derive(Debug)]
pub struct DirectCall {
    pub(super) session: Arc<Session>,
    /// The host's own id of the request.
    request: u64,
    method: String,
    timeout: Duration,
    deadline: Instant,
    invocation: Option<String>,
    permit: OwnedSemaphorePermit,
    /// Given back when the call ends.
    _place: Place,
}

impl DirectCall {
    /// Gives the host its answer. False when the host has left.
    pub(super) fn settle(
        self,
        multiplexer: &Multiplexer,
        outcome: Result<Bytes, RpcError>,
    ) -> bool {
        multiplexer.count(&outcome);
        multiplexer.settled.notify_waiters();
        self.session.give(self.request, outcome, self.permit)
    }
}

impl Inner {
    /// Ends a call: what was noted with it goes too.
    pub(super) fn close(&mut self, id: u64) -> Option<Open> {
        let open = self.open.remove(&id)?;
        if let Answer::Session(call) = &open.answer {
            self.due.remove(&(call.deadline, id));
            if let Some(invocation) = &call.invocation {
                self.invocations.remove(invocation);
            }
        }
        Some(open)
    }

    /// Ends the calls of a session that is over. Its host has nobody left to hear of them.
    pub(super) fn close_all(&mut self, session: SessionId) -> Vec<Open> {
        let is_its = |open: &Open| match &open.answer {
            Answer::Session(call) => call.session.id == session,
            Answer::Waiting(_) => false,
        };
        let its = self.open.iter().filter(|(_, open)| is_its(open));
        let its: Vec<u64> = its.map(|(id, _)| *id).collect();
        its.into_iter().filter_map(|id| self.close(id)).collect()
    }
}

impl Multiplexer {
    /// Passes a request of a host to the worker, or gives it back.
    pub(super) fn try_direct(
        &self,
        session: &Arc<Session>,
        phase: Phase,
        request: Request,
        permit: OwnedSemaphorePermit,
    ) -> Admission {
        if phase != Phase::Serving || self.traces.are_on() || !is_plain(&request) {
            return Admission::NeedsTask(request, permit);
        }
        let limits = self.gate.limits();
        if !limits.admits(request.params_json.len()) {
            return Admission::NeedsTask(request, permit);
        }
        let noted = note(&request.invocation_json, Some(session.id), None);
        let timeout = limits.timeout(false, Duration::from_millis(request.timeout_ms));
        let deadline = Instant::now() + timeout.min(MAX_TIMEOUT);
        let mut inner = self.lock();
        let Inner {
            worker,
            open,
            next_id,
            invocations,
            due,
            ..
        } = &mut *inner;
        let slot = worker.as_ref().and_then(|lines| lines.try_reserve().ok());
        let entered = slot.and_then(|slot| Some((slot, self.gate.try_enter()?)));
        let Some((slot, place)) = entered else {
            return Admission::NeedsTask(request, permit);
        };
        let id = *next_id;
        *next_id += 1;
        let (params, invocation) = (&request.params_json, &request.invocation_json);
        slot.send(envelope::call(
            Some(id),
            &request.method,
            params,
            invocation,
        ));
        let call = DirectCall {
            session: session.clone(),
            request: request.id,
            method: request.method,
            timeout,
            deadline,
            invocation: noted.as_ref().map(|(name, _)| name.clone()),
            permit,
            _place: place,
        };
        let answer = Answer::Session(call);
        let kind = OpenKind::Call;
        open.insert(id, Open { answer, kind });
        due.insert((deadline, id));
        invocations.extend(noted);
        Admission::Sent(deadline)
    }

    /// Ends a passing call that its host no longer waits for.
    pub(super) fn give_up(&self, session: SessionId, request: u64) {
        let is_it = |open: &Open| match &open.answer {
            Answer::Session(call) => call.session.id == session && call.request == request,
            Answer::Waiting(_) => false,
        };
        let closed = {
            let mut inner = self.lock();
            let found = inner.open.iter().find(|(_, open)| is_it(open));
            let id = found.map(|(id, _)| *id);
            id.and_then(|id| inner.close(id))
        };
        if closed.is_some() {
            self.metrics.cancelled.inc();
            self.settled.notify_waiters();
        }
    }

    /// Ends the passing calls whose time is over. Gives when the next one is due.
    pub(super) fn expire(&self) -> Option<Instant> {
        loop {
            let now = Instant::now();
            let mut inner = self.lock();
            let &(deadline, id) = inner.due.first()?;
            if deadline > now {
                return Some(deadline);
            }
            let open = inner.close(id);
            drop(inner);
            if let Some(Open {
                answer: Answer::Session(call),
                ..
            }) = open
            {
                let error = timed_out(&call.method, call.timeout);
                call.settle(self, Err(error));
            }
        }
    }
}

/// True for a request that the sidecar has nothing to do for.
fn is_plain(request: &Request) -> bool {
    let is_json = |bytes: &[u8]| bytes.is_empty() || envelope::is_json(bytes);
    request.params_json.len() + request.invocation_json.len() <= LARGE
        && methods::handling(&request.method) == Handling::Direct
        && is_json(&request.params_json)
        && is_json(&request.invocation_json)
}
