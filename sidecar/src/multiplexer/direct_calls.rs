//! Calls of sessions, whose answers go from the worker's stdout straight into the session.
//!
//! A call to a worker that serves and has room is written at once, by the task that reads the
//! session. What has to wait for something takes a turn and is written by a task of its own, in the
//! order in which it came.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use paperclip_bridge::{
    trace::{Span, SpanKind},
    v1::{Request, RpcError},
};
use paperclip_protocol::methods::{self, Handling};
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::OwnedSemaphorePermit,
    task,
    time::Instant,
};

use super::{
    Answer, Inner, MAX_TIMEOUT, Multiplexer, Open, OpenKind,
    approach::Approach,
    errors::{timed_out, unavailable},
    invocations::note,
    session::Session,
};
use crate::{envelope, limits::Place, session_id::SessionId};

/// Params that take milliseconds to look at and to copy.
const LARGE: usize = 4 * 1024 * 1024;

/// The outcome of trying to send a request at once.
#[derive(Debug)]
pub(super) enum Admission {
    /// It has its place before the worker, and until then to be answered.
    Sent(Instant),
    /// It has to wait or to be looked at.
    NeedsTask(Request, OwnedSemaphorePermit),
    /// It is refused.
    Refused(RpcError),
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
    span: Span,
    /// Both are given back when the call ends. What belongs to a channel that is open has no place.
    _permit: OwnedSemaphorePermit,
    _place: Option<Place>,
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
        self.span.ended(&outcome);
        self.session.respond(self.request, outcome)
    }
}

impl Open {
    /// The session whose call this is.
    pub(super) fn session(&self) -> Option<&Arc<Session>> {
        match &self.answer {
            Answer::Session(call) => Some(&call.session),
            Answer::Waiting(_) => None,
        }
    }
}

impl Inner {
    /// The id of the next call.
    pub(super) fn take_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    /// Ends a call: what was noted with it goes too.
    pub(super) fn close(&mut self, id: u64) -> Option<Open> {
        let open = self.open.remove(&id)?;
        if let Answer::Session(call) = &open.answer {
            self.due.remove(&(call.deadline, id));
            if let Some(invocation) = &call.invocation {
                self.invocations.end(invocation);
            }
        }
        Some(open)
    }

    /// Ends the calls of a session that is over. Its host has nobody left to hear of them.
    pub(super) fn close_all(&mut self, session: SessionId) -> Vec<Open> {
        let is_its = |open: &Open| open.session().is_some_and(|its| its.id == session);
        let its = self.open.iter().filter(|(_, open)| is_its(open));
        let its: Vec<u64> = its.map(|(id, _)| *id).collect();
        its.into_iter().filter_map(|id| self.close(id)).collect()
    }
}

impl Multiplexer {
    /// Passes a request of a host to the worker, or gives it back. Other tasks have another thread
    /// while a large one is looked at.
    pub(super) fn try_direct(
        &self,
        session: &Arc<Session>,
        request: Request,
        permit: OwnedSemaphorePermit,
    ) -> Admission {
        let has_threads = || Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread;
        match request.params_json.len() >= LARGE && has_threads() {
            true => task::block_in_place(|| self.send_or_return(session, request, permit)),
            false => self.send_or_return(session, request, permit),
        }
    }

    fn send_or_return(
        &self,
        session: &Arc<Session>,
        request: Request,
        permit: OwnedSemaphorePermit,
    ) -> Admission {
        if let Err(refusal) = self.check_request(&request) {
            return Admission::Refused(refusal);
        }
        if methods::handling(&request.method) == Handling::Channel {
            let sent = self.send_call(session, request, permit, None);
            return sent.map_or_else(Admission::Refused, Admission::Sent);
        }
        let has_to_wait = {
            let inner = self.lock();
            let stdin = inner.worker.as_ref();
            !stdin.is_some_and(|stdin| stdin.is_open() && stdin.has_room())
        };
        if has_to_wait
            || session.has_waiting()
            || !passes(&request.method)
            || self.refuse_when_draining().is_err()
        {
            return Admission::NeedsTask(request, permit);
        }
        let Some(place) = self.gate.try_enter() else {
            return Admission::NeedsTask(request, permit);
        };
        let sent = self.send_call(session, request, permit, Some(place));
        sent.map_or_else(Admission::Refused, Admission::Sent)
    }

    /// Passes a request to the worker once all is there that it has to wait for. Gives its deadline.
    pub(super) async fn call_of_session(
        &self,
        session: &Arc<Session>,
        request: Request,
        permit: OwnedSemaphorePermit,
        approach: Approach,
    ) -> Result<Instant, RpcError> {
        let deadline = self.deadline(&request).1;
        let (place, turn) = self.admit(approach, deadline).await?;
        let sent = self.send_call(session, request, permit, Some(place));
        drop(turn);
        sent
    }

    fn check_request(&self, request: &Request) -> Result<(), RpcError> {
        self.check(
            &request.method,
            &request.params_json,
            &request.invocation_json,
        )
    }

    /// How long a request may take, and until when.
    fn deadline(&self, request: &Request) -> (Duration, Instant) {
        let stated = Duration::from_millis(request.timeout_ms);
        let timeout = self.gate.limits().timeout(false, stated);
        (timeout, Instant::now() + timeout.min(MAX_TIMEOUT))
    }

    /// Opens a call of a session and puts its line at its place before the worker.
    fn send_call(
        &self,
        session: &Arc<Session>,
        request: Request,
        permit: OwnedSemaphorePermit,
        place: Option<Place>,
    ) -> Result<Instant, RpcError> {
        let (timeout, deadline) = self.deadline(&request);
        let Request {
            id: number,
            method,
            params_json: params,
            invocation_json: mut invocation,
            traceparent,
            ..
        } = request;
        let span = self.begin_span(SpanKind::Server, &method, &traceparent, &mut invocation);
        let noted = note(&invocation, Some(session.id));
        let id = self.lock().take_id();
        let line = envelope::call(Some(id), &method, &params, &invocation);
        let call = DirectCall {
            session: session.clone(),
            request: number,
            method,
            timeout,
            deadline,
            invocation: noted.as_ref().map(|(name, _)| name.clone()),
            span,
            _permit: permit,
            _place: place,
        };
        let mut inner = self.lock();
        let stdin = match Self::stdin_for(&mut inner, OpenKind::Call) {
            Ok(stdin) if stdin.has_room() || call._place.is_some() => stdin,
            // The place is given back with the call, which takes a lock of its own.
            Ok(_) | Err(_) => {
                drop(inner);
                return Err(unavailable());
            }
        };
        stdin.push_call(id, line);
        let open = Open {
            answer: Answer::Session(call),
            kind: OpenKind::Call,
            is_written: false,
        };
        inner.open.insert(id, open);
        inner.due.insert((deadline, id));
        if let Some(noted) = noted {
            inner.invocations.note_call(noted);
        }
        Ok(deadline)
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

/// True for a method that the sidecar has nothing to do for but to pass it on.
pub(super) fn passes(method: &str) -> bool {
    matches!(methods::handling(method), Handling::Direct | Handling::Pass)
}
