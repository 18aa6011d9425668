//! The loop of a session: frames of one host come in, its pod's changes go out.

use std::{pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use paperclip_bridge::{
    link::{self, DEFAULT_MAX_FRAME, Event, LinkError},
    v1::{
        AttachedHost, HostHello, Notification, PluginHello, Request, Response, RpcError,
        SessionRequest, SessionResponse, Subscription, response, session_request, session_response,
    },
};
use paperclip_protocol::{
    jsonrpc,
    methods::{self, Handling},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::Instant,
};
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{
    Call, Multiplexer,
    approach::Approach,
    direct_calls::{Admission, passes},
    session::Session,
};
use crate::{
    envelope,
    limits::{Limit, Refusal},
    session_id::SessionId,
};

/// Requests of one host that may be under way at once. More are refused: were they left in
/// the transport, they would stand before the answers that those under way may wait for.
const MAX_REQUESTS: usize = 4096;
/// Frames that are taken before a session looks at anything else.
const TOGETHER: usize = 64;
/// A time that does not come.
const NEVER: Duration = Duration::from_secs(30 * 24 * 3600);

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
                    session.post(announced);
                }
                continue;
            }
            changed = limits.changed() => {
                if changed.is_err() { break; }
                let now = *limits.borrow_and_update();
                let announced = session_response::Frame::LimitsChanged(now.into());
                session.post(announced);
                continue;
            }
            () = &mut due => {
                let next = multiplexer.expire();
                due.as_mut().reset(next.unwrap_or_else(|| Instant::now() + NEVER));
                continue;
            }
            () = session.due_noted() => {
                let next = multiplexer.expire();
                due.as_mut().reset(next.unwrap_or_else(|| Instant::now() + NEVER));
                continue;
            }
            event = receiver.next(&session.link) => event,
        };
        let taken = match event {
            Ok(Some(event)) => handler.take_together(&mut receiver, event).await,
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
    let id = SessionId::numbered(inner.next_session);
    let (session, posted) = Session::new(id, host, frames);
    inner.sessions.insert(session.id, session.clone());
    drop(inner);
    tokio::spawn(session.clone().drain(posted));
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
    ) -> Result<Option<Instant>, LinkError>
    where
        S: Stream<Item = Result<SessionRequest, Status>> + Unpin,
    {
        let mut first: Option<Instant> = None;
        for taken in 1.. {
            match event {
                Event::Frame(frame) => {
                    let deadline = self.take(frame);
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

    /// Takes a frame without waiting: what it is for finds its place in the order of the session.
    fn take(&self, frame: SessionRequest) -> Option<Instant> {
        match frame.frame? {
            session_request::Frame::Request(request) => return self.serve(request),
            session_request::Frame::Response(response) => {
                settle(self.multiplexer, self.session, response);
            }
            session_request::Frame::Notification(notification) => {
                self.notify_worker(notification);
            }
            session_request::Frame::Cancel(cancel) => self.give_up(cancel.id),
            _ => {}
        }
        None
    }

    /// Serves a request; gives its deadline when no task does.
    fn serve(&self, request: Request) -> Option<Instant> {
        let id = request.id;
        let Ok(permit) = self.requests.clone().try_acquire_owned() else {
            let refusal = Refusal::at_once(Limit::Requests, "the host", MAX_REQUESTS);
            self.session
                .respond(id, Err(self.multiplexer.refused(refusal)));
            return None;
        };
        match self.multiplexer.try_direct(self.session, request, permit) {
            Admission::Sent(deadline) => Some(deadline),
            Admission::Refused(refusal) => {
                self.session.respond(id, Err(refusal));
                None
            }
            Admission::NeedsTask(request, permit) => {
                let given_up = CancellationToken::new();
                self.session.serving().insert(id, given_up.clone());
                let waiting = WaitingRequest {
                    multiplexer: self.multiplexer.clone(),
                    session: self.session.clone(),
                    approach: self.approach(&request),
                    request,
                    permit,
                };
                tokio::spawn(waiting.run(given_up));
                None
            }
        }
    }

    /// Sets a request that is for the worker on its way to it.
    fn approach(&self, request: &Request) -> Option<Approach> {
        match methods::handling(&request.method) {
            Handling::Detach | Handling::Initialize => None,
            _ => Some(self.multiplexer.approach(self.session)),
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

    /// Tells the worker, after the calls before it that are about to be written. One that a limit
    /// holds up is not waited for: what it waits for may be what is told.
    fn notify_worker(&self, notification: Notification) {
        let (multiplexer, session) = (self.multiplexer.clone(), self.session);
        let is_behind = session.has_waiting()
            && multiplexer.is_open()
            && !multiplexer.gate.holds_up(Some(session.id));
        let permit = is_behind.then(|| self.requests.clone().try_acquire_owned());
        let Some(Ok(permit)) = permit else {
            return tell(&multiplexer, notification, session.id);
        };
        let (mut turn, origin) = (session.writes.join(), session.id);
        tokio::spawn(async move {
            turn.come().await;
            tell(&multiplexer, notification, origin);
            drop((turn, permit));
        });
    }
}

fn tell(multiplexer: &Multiplexer, notification: Notification, origin: SessionId) {
    let method = notification.method.clone();
    if let Err(error) = multiplexer.notify(notification, origin) {
        let error = error.message;
        tracing::warn!(method, error, "a notification of a host was dropped");
    }
}

fn settle(multiplexer: &Multiplexer, session: &Session, response: Response) {
    let outcome = match response.outcome {
        Some(response::Outcome::ResultJson(result)) if envelope::is_json(&result) => multiplexer
            .check_size(result.len(), || "the host's answer".into())
            .map(|()| result),
        Some(response::Outcome::ResultJson(_)) | None => Err(RpcError::new(
            jsonrpc::INTERNAL,
            "the host's answer is not JSON",
        )),
        Some(response::Outcome::Error(mut error)) => {
            if !envelope::is_json(&error.data_json) {
                error.data_json = Bytes::new();
            }
            Err(error)
        }
    };
    if !session.settle(response.id, outcome) {
        // Answers to subscriptions come here as well; nobody waits for those.
        multiplexer.metrics.late_answers.inc();
    }
}

/// A request of a host that has to wait for something, or that the sidecar itself answers.
struct WaitingRequest {
    multiplexer: Arc<Multiplexer>,
    session: Arc<Session>,
    request: Request,
    permit: OwnedSemaphorePermit,
    /// Its way to the worker; none for what the sidecar itself answers.
    approach: Option<Approach>,
}

impl WaitingRequest {
    async fn run(self, given_up: CancellationToken) {
        let (session, multiplexer) = (self.session.clone(), self.multiplexer.clone());
        let id = self.request.id;
        let detaches = methods::handling(&self.request.method) == Handling::Detach;
        let outcome = tokio::select! {
            // In this order, so that what is given up goes no further.
            biased;
            // Nobody is left to answer; what was sent may still be done.
            () = session.over.cancelled() => return,
            () = given_up.cancelled() => return,
            outcome = self.serve() => outcome,
        };
        let was_given_up = session.serving().remove(&id).is_none();
        match outcome {
            Some(outcome) => drop(session.respond(id, outcome)),
            // It was given up in the moment in which it was sent.
            None if was_given_up => multiplexer.give_up(session.id, id),
            None => {}
        }
        if detaches {
            session.over.cancel();
        }
    }

    /// Serves the request; none when its answer comes from the worker's stdout.
    async fn serve(self) -> Option<Result<Bytes, RpcError>> {
        let Self {
            multiplexer,
            session,
            request,
            permit,
            approach,
        } = self;
        let approach = approach.unwrap_or(Approach::Single);
        match methods::handling(&request.method) {
            // The worker belongs to the pod; a host only leaves.
            Handling::Detach => Some(Ok(Bytes::from_static(b"null"))),
            Handling::Initialize => Some(multiplexer.initialize_result().await),
            _ if passes(&request.method) => {
                let sent = multiplexer.call_of_session(&session, request, permit, approach);
                match sent.await {
                    Ok(_) => {
                        session.note_due();
                        None
                    }
                    Err(refusal) => {
                        multiplexer.count(&Err(refusal.clone()));
                        Some(Err(refusal))
                    }
                }
            }
            _ => {
                let call = Call {
                    method: request.method,
                    params: request.params_json,
                    invocation: request.invocation_json,
                    traceparent: request.traceparent,
                    timeout: Duration::from_millis(request.timeout_ms),
                    origin: Some(session.id),
                };
                let outcome = multiplexer.call_on(call, approach).await;
                drop(permit);
                Some(outcome)
            }
        }
    }
}
