//! The host's and the operator's end of a connection to a plugin pod.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use hyper_util::rt::TokioIo;
use paperclip_identity::Identity;
use tokio::{
    net::TcpStream,
    sync::{mpsc, oneshot},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{
    Status, Streaming,
    transport::{Channel, Endpoint},
};

use crate::{
    link::{self, DEFAULT_MAX_FRAME, Event, LinkError},
    tls::{ClientTls, TlsError},
    v1::{
        CallRequest, Cancel, ConfigChanged, HostHello, Limits, Notification, PhaseChanged,
        PluginHello, Request, Response, RpcError, SessionRequest, SessionResponse,
        WatchStatusRequest, WatchStatusResponse,
        plugin_bridge_service_client::PluginBridgeServiceClient,
        plugin_status_service_client::PluginStatusServiceClient, response, session_request,
        session_response,
    },
};

/// Longest wait for a connection, and again for the pod's hello.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Frames that wait for the network.
const QUEUE: usize = 256;
/// Frames that are taken before the session looks at anything else.
const TOGETHER: usize = 64;
/// Flow-control windows of HTTP/2; the default of 64 KiB would stop large frames often.
const STREAM_WINDOW: u32 = 2 * 1024 * 1024;
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;

/// Why a pod could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Our own TLS material is unusable.
    #[error("preparing TLS for the plugin pod")]
    Tls(#[from] TlsError),
    /// The connection or its handshake failed.
    #[error("connecting to the plugin pod at {address}")]
    Transport {
        /// The address.
        address: SocketAddr,
        /// The transport's error.
        source: tonic::transport::Error,
    },
    /// The pod refused the stream.
    #[error("opening a stream to the plugin pod at {address}: {}", source.message())]
    Refused {
        /// The address.
        address: SocketAddr,
        /// The pod's answer.
        source: Box<Status>,
    },
    /// The pod did not say hello in time, or something else first.
    #[error("waiting for the hello of the plugin pod at {address}: {why}")]
    Hello {
        /// The address.
        address: SocketAddr,
        /// The frame that came instead.
        why: &'static str,
    },
}

/// Why a call has no result.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The worker or the sidecar answered with an error.
    #[error("the plugin answered {}: {}", .0.code, .0.message)]
    Rpc(RpcError),
    /// No answer within the timeout. The worker may have done the work.
    #[error("waiting for the plugin's answer: none within {} ms", .0.as_millis())]
    TimedOut(Duration),
    /// The worker has not seen the call: the session was over, or the pod starts or drains. It may
    /// be made again, elsewhere.
    #[error("sending to the plugin: {0}")]
    NotSent(String),
    /// The session ended with the request under way. The worker may have done the work.
    #[error("waiting for the plugin's answer: the session ended")]
    Detached,
}

impl From<RpcError> for CallError {
    fn from(error: RpcError) -> Self {
        if error.is_not_sent() {
            return Self::NotSent(error.message);
        }
        Self::Rpc(error)
    }
}

fn session_over() -> CallError {
    CallError::NotSent("the session is over".into())
}

/// A message of a pod that is no answer. They come in the order in which the pod sent them, answers
/// to calls in their places among them.
#[derive(Clone, Debug, PartialEq)]
pub enum Incoming {
    /// The worker asks; answer with [`SessionSender::respond`].
    Request(Request),
    /// The worker tells.
    Notification(Notification),
    /// The pod has a new phase.
    Phase(PhaseChanged),
    /// The worker accepted another config.
    Config(ConfigChanged),
    /// Other limits hold for the plugin's calls.
    Limits(Limits),
}

/// Opens a session with a pod of `plugin` at `address`.
///
/// The session lasts for as long as [`SessionReceiver::run`] does, and nothing is read, answers
/// included, but by that.
pub async fn connect(
    address: SocketAddr,
    tls: &ClientTls,
    plugin: &Identity,
    hello: HostHello,
) -> Result<(PluginHello, SessionSender, SessionReceiver), ConnectError> {
    let channel = channel(address, tls, plugin).await?;
    let (frames, queue) = mpsc::channel(QUEUE);
    let hello = HostHello {
        max_frame_bytes: DEFAULT_MAX_FRAME as u32,
        ..hello
    };
    // The queue is new and empty, so there is room.
    let _ = frames.try_send(session_request::Frame::Hello(Box::new(hello)).into());
    let mut stream = PluginBridgeServiceClient::new(channel)
        .session(ReceiverStream::new(queue))
        .await
        .map_err(|source| ConnectError::Refused {
            address,
            source: Box::new(source),
        })?
        .into_inner();
    let hello = plugin_hello(address, &mut stream).await?;
    let sender = SessionSender(Arc::new(Session {
        link: link::Sender::new(frames, hello.max_frame_bytes),
        pending: Mutex::new(Some(HashMap::new())),
        next_id: AtomicU64::new(1),
        over: CancellationToken::new(),
    }));
    let receiver = SessionReceiver {
        session: sender.clone(),
        link: link::Receiver::new(stream),
        address,
    };
    Ok((hello, sender, receiver))
}

/// Follows the state of a pod of `plugin` at `address`: its state now and at every change.
pub async fn watch_status(
    address: SocketAddr,
    tls: &ClientTls,
    plugin: &Identity,
) -> Result<Streaming<WatchStatusResponse>, ConnectError> {
    let channel = channel(address, tls, plugin).await?;
    PluginStatusServiceClient::new(channel)
        .watch_status(WatchStatusRequest {})
        .await
        .map(tonic::Response::into_inner)
        .map_err(|source| ConnectError::Refused {
            address,
            source: Box::new(source),
        })
}

/// Makes one host-to-worker request without a session.
pub async fn call(
    address: SocketAddr,
    tls: &ClientTls,
    plugin: &Identity,
    request: CallRequest,
) -> Result<Bytes, ConnectError> {
    let channel = channel(address, tls, plugin).await?;
    PluginBridgeServiceClient::new(channel)
        .call(request)
        .await
        .map(|response| response.into_inner().result_json)
        .map_err(|source| ConnectError::Refused {
            address,
            source: Box::new(source),
        })
}

/// A connection whose other end proved to be `plugin`.
pub async fn channel(
    address: SocketAddr,
    tls: &ClientTls,
    plugin: &Identity,
) -> Result<Channel, ConnectError> {
    let connector = tls.connector(plugin)?;
    let dial = tower::service_fn(move |_: tonic::transport::Uri| {
        let connector = connector.clone();
        async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let stream = connector.connect(ClientTls::server_name(), stream).await?;
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        }
    });
    // The authority of requests; the connector above decides where they go.
    Endpoint::from_static("http://plugin.paperclip.invalid")
        .connect_timeout(CONNECT_TIMEOUT)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keep_alive_interval(link::PING_INTERVAL)
        .keep_alive_timeout(link::DEAD_AFTER)
        .keep_alive_while_idle(true)
        .connect_with_connector(dial)
        .await
        .map_err(|source| ConnectError::Transport { address, source })
}

async fn plugin_hello(
    address: SocketAddr,
    stream: &mut Streaming<SessionResponse>,
) -> Result<PluginHello, ConnectError> {
    let refuse = |why| ConnectError::Hello { address, why };
    let first = tokio::time::timeout(CONNECT_TIMEOUT, stream.message())
        .await
        .map_err(|_| refuse("nothing came in time"))?
        .map_err(|source| ConnectError::Refused {
            address,
            source: Box::new(source),
        })?;
    match first.and_then(|message| message.frame) {
        Some(session_response::Frame::Hello(hello)) => Ok(*hello),
        Some(_) => Err(refuse("something else came first")),
        None => Err(refuse("the stream ended")),
    }
}

type Pending = HashMap<u64, oneshot::Sender<Result<Bytes, RpcError>>>;

#[derive(Debug)]
struct Session {
    link: link::Sender<SessionRequest>,
    /// None once the session is over.
    pending: Mutex<Option<Pending>>,
    next_id: AtomicU64,
    over: CancellationToken,
}

/// The sending half of a session.
#[derive(Clone, Debug)]
pub struct SessionSender(Arc<Session>);

impl SessionSender {
    /// Calls a method of the worker and gives its `result` as JSON.
    ///
    /// `invocation_json` is the `paperclipInvocation` object, empty for none.
    pub async fn call(
        &self,
        method: &str,
        params_json: Bytes,
        invocation_json: Bytes,
        timeout: Duration,
        idempotent: bool,
    ) -> Result<Bytes, CallError> {
        let request = Request {
            method: method.to_owned(),
            params_json,
            invocation_json,
            idempotent,
            ..Request::default()
        };
        self.request(request, timeout).await
    }

    /// Makes a request. Its id and its timeout are set here. The pod is told when the caller no
    /// longer waits: when this is dropped, or its time is over.
    pub async fn request(&self, request: Request, timeout: Duration) -> Result<Bytes, CallError> {
        let session = &*self.0;
        let id = session.next_id.fetch_add(1, Ordering::Relaxed);
        let answer = session.expect(id).ok_or_else(session_over)?;
        let mut forget = Forget {
            session,
            id,
            is_sent: false,
        };
        let request = Request {
            id,
            timeout_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
            ..request
        };
        let exchange = async {
            self.send(session_request::Frame::Request(request))
                .await
                .map_err(|_| session_over())?;
            forget.is_sent = true;
            match answer.await {
                Ok(outcome) => outcome.map_err(CallError::from),
                Err(_) => Err(CallError::Detached),
            }
        };
        tokio::time::timeout(timeout, exchange)
            .await
            .unwrap_or(Err(CallError::TimedOut(timeout)))
    }

    /// Tells the worker something.
    pub async fn notify(
        &self,
        method: &str,
        params_json: Bytes,
        invocation_json: Bytes,
    ) -> Result<(), link::Closed> {
        self.tell(Notification {
            method: method.to_owned(),
            params_json,
            invocation_json,
            ..Notification::default()
        })
        .await
    }

    /// The same, within a trace.
    pub async fn tell(&self, told: Notification) -> Result<(), link::Closed> {
        self.send(session_request::Frame::Notification(told)).await
    }

    /// Answers a request of the worker with a `result` as JSON, or an error.
    pub async fn respond(
        &self,
        id: u64,
        outcome: Result<Bytes, RpcError>,
    ) -> Result<(), link::Closed> {
        let outcome = match outcome {
            Ok(result) => response::Outcome::ResultJson(result),
            Err(error) => response::Outcome::Error(error),
        };
        self.send(session_request::Frame::Response(Response {
            id,
            outcome: Some(outcome),
        }))
        .await
    }

    /// Waits until the session is over.
    pub async fn closed(&self) {
        self.0.over.cancelled().await;
    }

    /// True when the session is over.
    pub fn is_closed(&self) -> bool {
        self.0.over.is_cancelled()
    }

    async fn send(&self, frame: session_request::Frame) -> Result<(), link::Closed> {
        if self.is_closed() {
            return Err(link::Closed);
        }
        let Err(frame) = self.0.link.try_send(frame.into()) else {
            return Ok(());
        };
        let is_large = self.0.link.takes_chunks(&frame);
        let session = self.0.clone();
        let send = async move {
            tokio::select! {
                sent = session.link.send(frame) => sent,
                () = session.over.cancelled() => Err(link::Closed),
            }
        };
        if !is_large {
            return send.await;
        }
        // A caller that gives up must not leave half a frame with the pod.
        tokio::spawn(send).await.unwrap_or(Err(link::Closed))
    }
}

impl Session {
    fn expect(&self, id: u64) -> Option<oneshot::Receiver<Result<Bytes, RpcError>>> {
        let (sender, receiver) = oneshot::channel();
        let mut pending = self.pending.lock().ok()?;
        pending.as_mut()?.insert(id, sender);
        Some(receiver)
    }

    fn forget(&self, id: u64) -> Option<oneshot::Sender<Result<Bytes, RpcError>>> {
        self.pending.lock().ok()?.as_mut()?.remove(&id)
    }

    fn end(&self) {
        self.over.cancel();
        if let Ok(mut pending) = self.pending.lock() {
            pending.take();
        }
    }
}

/// Drops the entry of a call however the call ends.
struct Forget<'a> {
    session: &'a Session,
    id: u64,
    is_sent: bool,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        let is_open = self.session.forget(self.id).is_some();
        if is_open && self.is_sent && !self.session.over.is_cancelled() {
            let cancel = session_request::Frame::Cancel(Cancel { id: self.id });
            // A session with no room has worse to do; the call ends with its timeout there.
            let _ = self.session.link.try_send(cancel.into());
        }
    }
}

/// The receiving half of a session. Dropped, the session ends.
#[derive(Debug)]
pub struct SessionReceiver {
    session: SessionSender,
    link: link::Receiver<SessionResponse>,
    address: SocketAddr,
}

impl SessionReceiver {
    /// Reads the session until the pod ends it or the heartbeat finds it dead; then open calls fail
    /// with [`CallError::Detached`].
    ///
    /// `take` gets each message before the next one is read: what it fixes of a message is fixed
    /// before any later answer is settled. While it works, nothing else is read; it must not block.
    pub async fn run(mut self, mut take: impl FnMut(Incoming)) {
        loop {
            let session = &*self.session.0;
            let taken = match self.link.next(&session.link).await {
                Ok(Some(event)) => take_together(session, &mut self.link, event, &mut take).await,
                Ok(None) => break,
                Err(error) => Err(error),
            };
            if let Err(error) = taken {
                log_end(self.address, &error);
                break;
            }
        }
    }

    /// Reads the session in a task of its own and queues its messages, for those to whom the order
    /// of messages and answers is the same. The session ends when the queue is dropped.
    #[must_use]
    pub fn into_queue(self) -> mpsc::UnboundedReceiver<Incoming> {
        let (messages, queue) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let unheard = messages.clone();
            tokio::select! {
                () = self.run(|message| drop(messages.send(message))) => {}
                () = unheard.closed() => {}
            }
        });
        queue
    }
}

impl Drop for SessionReceiver {
    fn drop(&mut self) {
        self.session.0.end();
    }
}

fn log_end(address: SocketAddr, error: &LinkError) {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    tracing::info!(%address, %error, cause, "a session with a plugin pod was lost");
}

/// Takes an event and what is there already: waiting for each alone would cost more than the
/// events themselves.
async fn take_together(
    session: &Session,
    receiver: &mut link::Receiver<SessionResponse>,
    mut event: Event<SessionResponse>,
    take: &mut impl FnMut(Incoming),
) -> Result<(), LinkError> {
    for taken in 1.. {
        if let Event::Frame(frame) = event
            && let Some(message) = settle(session, frame)
        {
            take(message);
        }
        if taken == TOGETHER {
            break;
        }
        match receiver.ready(&session.link).await {
            Some(next) => event = next?,
            None => break,
        }
    }
    Ok(())
}

/// Settles answers; gives what is for the application.
fn settle(session: &Session, frame: SessionResponse) -> Option<Incoming> {
    match frame.frame? {
        session_response::Frame::Request(request) => Some(Incoming::Request(request)),
        session_response::Frame::Notification(told) => Some(Incoming::Notification(told)),
        session_response::Frame::PhaseChanged(phase) => Some(Incoming::Phase(phase)),
        session_response::Frame::ConfigChanged(config) => Some(Incoming::Config(config)),
        session_response::Frame::LimitsChanged(limits) => Some(Incoming::Limits(limits)),
        session_response::Frame::Response(response) => {
            let outcome = match response.outcome {
                Some(response::Outcome::ResultJson(result)) => Ok(result),
                Some(response::Outcome::Error(error)) => Err(error),
                None => Ok(Bytes::from_static(b"null")),
            };
            match session.forget(response.id) {
                Some(waiting) => drop(waiting.send(outcome)),
                None => tracing::debug!(id = response.id, "a late answer was dropped"),
            }
            None
        }
        session_response::Frame::Hello(_)
        | session_response::Frame::Ping(_)
        | session_response::Frame::Pong(_)
        | session_response::Frame::Chunk(_) => None,
    }
}
