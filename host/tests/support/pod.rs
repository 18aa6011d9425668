//! A plugin pod as a host sees it: the contract over mutual TLS, with a worker the test scripts.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use futures::future::BoxFuture;
use paperclip_bridge::{
    tls::ServerTls,
    v1::{
        CallRequest, CallResponse, ConfigChanged, Limits, Notification, Phase, PhaseChanged,
        PluginHello, Pong, Request, Response, RpcError, SessionRequest, SessionResponse,
        Subscription,
        plugin_bridge_service_server::{PluginBridgeService, PluginBridgeServiceServer},
        response, session_request, session_response,
    },
};
use paperclip_identity::Identity;
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming, transport::Server};

use super::{Authority, UID};

/// Message with which a pod refuses a call that its worker has not seen; the code is −32000.
pub const NOT_SENT: &str = "the pod takes no calls";

type Answer = Result<Value, (i32, String)>;
/// What the worker does with a request of the host.
pub type Worker = fn(Link, Asked) -> BoxFuture<'static, Answer>;

/// A request of the host.
#[derive(Debug)]
pub struct Asked {
    pub method: String,
    pub params: Value,
    /// Id of `paperclipInvocation`, empty without one.
    pub invocation: String,
}

/// What a pod says about itself.
#[derive(Clone)]
pub struct Settings {
    pub plugin: &'static str,
    pub uid: &'static str,
    pub name: &'static str,
    pub activation: u64,
    pub phase: Phase,
    pub manifest: Value,
    pub config: Value,
    pub subscriptions: Vec<Value>,
    pub limits: Limits,
    pub worker: Worker,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            plugin: "acme",
            uid: UID,
            name: "acme-1",
            activation: 1,
            phase: Phase::Serving,
            manifest: manifest(),
            config: json!({"currency": "EUR"}),
            subscriptions: Vec::new(),
            limits: Limits::default(),
            worker: |_, asked| {
                Box::pin(async move { Ok(json!({"method": asked.method, "params": asked.params})) })
            },
        }
    }
}

pub fn manifest() -> Value {
    json!({
        "id": "acme.x", "apiVersion": 1, "version": "1.2.0", "displayName": "Acme", "description": "d", "author": "a",
        "categories": ["automation"],
        "capabilities": ["plugin.state.read", "plugin.state.write", "events.emit", "events.subscribe", "webhooks.receive",
            "jobs.schedule", "agent.tools.register", "http.outbound", "activity.log.write", "metrics.write",
            "companies.read", "issues.read"],
        "entrypoints": {"worker": "dist/worker.js"},
        "jobs": [{"jobKey": "sync", "displayName": "Sync"}],
        "webhooks": [{"endpointKey": "in", "displayName": "In"}],
        "tools": [{"name": "search", "displayName": "Search", "description": "d", "parametersSchema": {"type": "object"}}],
    })
}

/// The worker's way to the host.
#[derive(Clone)]
pub struct Link(Arc<Session>);

struct Session {
    frames: mpsc::Sender<Result<SessionResponse, Status>>,
    pending: Mutex<HashMap<u64, oneshot::Sender<Answer>>>,
    next: AtomicU64,
    over: CancellationToken,
    go: CancellationToken,
}

impl Link {
    /// A worker-to-host request.
    pub async fn call(&self, method: &str, params: Value, invocation: &str) -> Answer {
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        self.0.pending.lock().unwrap().insert(id, sender);
        self.send(session_response::Frame::Request(Request {
            id,
            method: method.to_owned(),
            params_json: params.to_string().into(),
            invocation_id: invocation.to_owned(),
            ..Request::default()
        }))
        .await;
        receiver.await.unwrap()
    }

    pub async fn phase(&self, phase: Phase) {
        self.send(session_response::Frame::PhaseChanged(PhaseChanged {
            phase: phase.into(),
            ..PhaseChanged::default()
        }))
        .await;
    }

    pub async fn config(&self, config: Value) {
        self.send(session_response::Frame::ConfigChanged(ConfigChanged {
            config_json: config.to_string().into(),
        }))
        .await;
    }

    /// A worker-to-host notification.
    pub async fn tell(&self, method: &str, params: Value, invocation: &str) {
        self.send(session_response::Frame::Notification(Notification {
            method: method.to_owned(),
            params_json: params.to_string().into(),
            invocation_id: invocation.to_owned(),
            ..Notification::default()
        }))
        .await;
    }

    /// Ends the session, as a pod that is killed does.
    pub async fn end(&self) {
        let lost = Status::unavailable("the pod is gone");
        let _ = self.0.frames.send(Err(lost)).await;
        self.0.over.cancel();
    }

    /// Waits until the test says [`Link::go`].
    pub async fn wait(&self) {
        self.0.go.cancelled().await;
    }

    /// Lets the workers that wait go on.
    pub fn go(&self) {
        self.0.go.cancel();
    }

    async fn send(&self, frame: session_response::Frame) {
        let _ = self
            .0
            .frames
            .send(Ok(SessionResponse { frame: Some(frame) }))
            .await;
    }
}

/// A running pod.
pub struct Pod {
    /// `<namespace>/<name>/<uid>` of its plugin.
    pub plugin: String,
    pub address: SocketAddr,
    pub links: mpsc::Receiver<Link>,
    pub notified: mpsc::Receiver<Value>,
    pub stop: CancellationToken,
}

struct Service {
    settings: Settings,
    links: mpsc::Sender<Link>,
    notified: mpsc::Sender<Value>,
}

impl Pod {
    pub async fn start(authority: &Authority, settings: Settings) -> Self {
        let name = settings.plugin;
        Self::start_as(authority, settings, name).await
    }

    /// A pod with the certificate of the plugin of that name.
    pub async fn start_as(authority: &Authority, settings: Settings, certified: &str) -> Self {
        let leaf = authority.issue(Identity::Plugin {
            namespace: "shop".into(),
            name: certified.into(),
        });
        let tls = ServerTls::from_pem(
            leaf.certificate.as_bytes(),
            leaf.key.as_bytes(),
            leaf.ca.as_bytes(),
        )
        .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let plugin = format!("shop/{}/{}", settings.plugin, settings.uid);
        let (links, new_links) = mpsc::channel(16);
        let (notified, notifications) = mpsc::channel(64);
        let stop = CancellationToken::new();
        let service = PluginBridgeServiceServer::new(Service {
            settings,
            links,
            notified,
        });
        let stopped = stop.clone();
        tokio::spawn(async move {
            let serve = Server::builder()
                .add_service(service)
                .serve_with_incoming(tls.accept(listener));
            stopped.run_until_cancelled(serve).await;
        });
        Self {
            plugin,
            address,
            links: new_links,
            notified: notifications,
            stop,
        }
    }
}

impl Service {
    fn hello(&self) -> session_response::Frame {
        let settings = &self.settings;
        session_response::Frame::Hello(Box::new(PluginHello {
            plugin_namespace: "shop".into(),
            plugin_name: settings.plugin.into(),
            plugin_uid: settings.uid.into(),
            pod_name: settings.name.into(),
            artifact_digest: format!("sha256:{}", "0".repeat(64)),
            activation: settings.activation,
            phase: settings.phase.into(),
            manifest_json: settings.manifest.to_string().into(),
            config_json: settings.config.to_string().into(),
            initialize_result_json: r#"{"ok":true,"supportedMethods":[]}"#.into(),
            subscriptions: settings
                .subscriptions
                .iter()
                .map(|params| Subscription {
                    params_json: params.to_string().into(),
                })
                .collect(),
            max_frame_bytes: 1 << 20,
            limits: Some(settings.limits),
        }))
    }
}

#[tonic::async_trait]
impl PluginBridgeService for Service {
    type SessionStream = ReceiverStream<Result<SessionResponse, Status>>;

    async fn session(
        &self,
        request: tonic::Request<Streaming<SessionRequest>>,
    ) -> Result<tonic::Response<Self::SessionStream>, Status> {
        let mut incoming = request.into_inner();
        let (frames, stream) = mpsc::channel(64);
        let link = Link(Arc::new(Session {
            frames,
            pending: Mutex::default(),
            next: AtomicU64::new(1),
            over: CancellationToken::new(),
            go: CancellationToken::new(),
        }));
        link.send(self.hello()).await;
        let _ = self.links.send(link.clone()).await;
        let (worker, notified) = (self.settings.worker, self.notified.clone());
        tokio::spawn(async move {
            while let Some(Ok(Some(message))) =
                link.0.over.run_until_cancelled(incoming.message()).await
            {
                match message.frame {
                    Some(session_request::Frame::Request(request)) => {
                        tokio::spawn(work(link.clone(), worker, request));
                    }
                    Some(session_request::Frame::Response(response)) => settle(&link, response),
                    Some(session_request::Frame::Notification(told)) => {
                        let _ = notified.send(shown(&told)).await;
                    }
                    Some(session_request::Frame::Ping(ping)) => {
                        link.send(session_response::Frame::Pong(Pong { nonce: ping.nonce }))
                            .await;
                    }
                    _ => {}
                }
            }
        });
        Ok(tonic::Response::new(ReceiverStream::new(stream)))
    }

    async fn call(
        &self,
        _: tonic::Request<CallRequest>,
    ) -> Result<tonic::Response<CallResponse>, Status> {
        Err(Status::unimplemented("a host uses sessions"))
    }
}

async fn work(link: Link, worker: Worker, request: Request) {
    assert!(
        !request.params_json.contains(&b'\n'),
        "params must be on one line"
    );
    let asked = Asked {
        method: request.method,
        params: serde_json::from_slice(&request.params_json).unwrap(),
        invocation: invocation(&request.invocation_json),
    };
    let outcome = match worker(link.clone(), asked).await {
        Ok(result) => response::Outcome::ResultJson(result.to_string().into()),
        Err((code, message)) => response::Outcome::Error(RpcError {
            code,
            data_json: match &*message {
                NOT_SENT => r#"{"notSent":true}"#.into(),
                _ => r#"{"retry":true}"#.into(),
            },
            message,
        }),
    };
    link.send(session_response::Frame::Response(Response {
        id: request.id,
        outcome: Some(outcome),
    }))
    .await;
}

fn settle(link: &Link, response: Response) {
    let answer = match response.outcome {
        Some(response::Outcome::ResultJson(result)) => Ok(serde_json::from_slice(&result).unwrap()),
        Some(response::Outcome::Error(error)) => Err((error.code, error.message)),
        None => Ok(Value::Null),
    };
    if let Some(waiting) = link.0.pending.lock().unwrap().remove(&response.id) {
        let _ = waiting.send(answer);
    }
}

fn shown(told: &Notification) -> Value {
    let params: Value = serde_json::from_slice(&told.params_json).unwrap();
    json!({"method": told.method, "params": params, "invocation": invocation(&told.invocation_json)})
}

fn invocation(envelope: &[u8]) -> String {
    let envelope: Value = serde_json::from_slice(envelope).unwrap_or_default();
    envelope["id"].as_str().unwrap_or_default().to_owned()
}
