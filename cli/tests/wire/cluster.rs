//! An API server with one plugin, one host and one pod, and the host behind the pod.

use std::{
    collections::HashMap,
    convert::Infallible,
    io::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    net::TcpListener,
    runtime::Runtime,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, handshake::derive_accept_key, protocol::Role},
};

const PORT: u16 = 3100;
const DATA: u8 = 0;
const ERROR: u8 = 1;
const GROUP: &str = "/apis/plugins.paperclip.ing/v1alpha1";

/// A request that reached the host.
#[derive(Clone, Debug)]
pub struct Seen {
    pub line: String,
    pub authorization: Option<String>,
    pub body: Bytes,
}

struct State {
    status: StatusCode,
    answer: Value,
    /// Answers to reads, by path, before those that every cluster gives.
    objects: HashMap<String, (StatusCode, Value)>,
    /// What the kubelet says about the port, instead of forwarding it.
    refusal: Option<String>,
    seen: Mutex<Vec<Seen>>,
    token_lifetime: Mutex<Option<i64>>,
}

/// The cluster; it ends with the value.
pub struct FakeCluster {
    state: Arc<State>,
    kubeconfig: PathBuf,
    _runtime: Runtime,
}

impl FakeCluster {
    /// A cluster whose host gives one answer to everything.
    pub fn start(status: u16, answer: Value) -> Self {
        Self::serve(status, answer, None, HashMap::new())
    }

    /// A cluster whose host cannot be reached.
    pub fn refusing(message: &str) -> Self {
        Self::serve(200, Value::Null, Some(message.to_owned()), HashMap::new())
    }

    /// A cluster with these objects and lists by path; null stands for what must not be read.
    pub fn holding(objects: impl IntoIterator<Item = (&'static str, Value)>) -> Self {
        let answer = |(path, object): (&str, Value)| {
            let answer = match object {
                Value::Null => (StatusCode::FORBIDDEN, forbidden(path)),
                object => (StatusCode::OK, object),
            };
            (path.to_owned(), answer)
        };
        let objects = objects.into_iter().map(answer).collect();
        Self::serve(200, Value::Null, None, objects)
    }

    fn serve(
        status: u16,
        answer: Value,
        refusal: Option<String>,
        objects: HashMap<String, (StatusCode, Value)>,
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let state = Arc::new(State {
            status: StatusCode::from_u16(status).unwrap(),
            answer,
            objects,
            refusal,
            seen: Mutex::default(),
            token_lifetime: Mutex::default(),
        });
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let kubeconfig = write_kubeconfig(listener.local_addr().unwrap());
        runtime.spawn(accept(listener, Arc::clone(&state)));
        Self {
            state,
            kubeconfig,
            _runtime: runtime,
        }
    }

    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    pub fn requests_to_host(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    pub fn token_lifetime(&self) -> Option<i64> {
        *self.state.token_lifetime.lock().unwrap()
    }
}

fn write_kubeconfig(address: SocketAddr) -> PathBuf {
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": format!("http://{address}")}}],
        "users": [{"name": "test", "user": {"token": "token-of-kubeconfig"}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
    });
    // The port is this cluster's alone while it lives, and so is the file.
    let path =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("kubeconfig-{}", address.port()));
    let mut file = std::fs::File::create(&path).unwrap();
    file.write_all(config.to_string().as_bytes()).unwrap();
    path
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        let service = service_fn(move |request| api_server(Arc::clone(&state), request));
        tokio::spawn(
            http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades(),
        );
    }
}

async fn api_server(
    state: Arc<State>,
    mut request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    if path == "/api/v1/namespaces/paperclip/pods/main-1/portforward" {
        return Ok(forward(state, &mut request));
    }
    if path == "/api/v1/namespaces/paperclip/serviceaccounts/main-client/token" {
        assert_eq!(request.method(), Method::POST);
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap();
        *state.token_lifetime.lock().unwrap() = body["spec"]["expirationSeconds"].as_i64();
        let token = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "metadata": {},
            "spec": {"audiences": []},
            "status": {"token": "token-of-main-client", "expirationTimestamp": "2026-11-21T10:10:00Z"},
        });
        return Ok(answer(StatusCode::CREATED, &token));
    }
    if let Some(log) = log(&path, request.uri().query().unwrap_or_default()) {
        return Ok(Response::new(Full::from(log)));
    }
    if let Some((status, object)) = state.objects.get(&path) {
        return Ok(answer(*status, object));
    }
    Ok(match object(&path) {
        Some(object) => answer(StatusCode::OK, &object),
        None => answer(
            StatusCode::NOT_FOUND,
            &json!({"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
                "reason": "NotFound", "code": 404, "message": format!("{path} not found")}),
        ),
    })
}

/// The log of a container of the plugin's pod.
fn log(path: &str, query: &str) -> Option<&'static str> {
    if path != "/api/v1/namespaces/shop/pods/tea-1/log" {
        return None;
    }
    assert!(query.contains("timestamps=true"), "{query}");
    query.split('&').find_map(|term| match term {
        "container=worker" => Some("2026-11-21T10:00:01Z one\n2026-11-21T10:00:03Z three\n"),
        "container=sidecar" => Some("2026-11-21T10:00:02.5Z two\n"),
        _ => None,
    })
}

fn answer(status: StatusCode, value: &Value) -> Response<Full<Bytes>> {
    Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::from(value.to_string()))
        .unwrap()
}

fn forbidden(path: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
        "reason": "Forbidden", "code": 403, "message": format!("{path} is forbidden")})
}

fn object(path: &str) -> Option<Value> {
    let plugins = format!("{GROUP}/namespaces/shop/paperclipplugins");
    Some(match path {
        _ if path == plugins || path == format!("{GROUP}/paperclipplugins") => json!({
            "apiVersion": "plugins.paperclip.ing/v1alpha1", "kind": "PaperclipPluginList",
            "metadata": {}, "items": [plugin()],
        }),
        _ if path == format!("{plugins}/tea") => plugin(),
        _ if path == format!("{GROUP}/namespaces/paperclip/papercliphosts/main") => json!({
            "apiVersion": "plugins.paperclip.ing/v1alpha1", "kind": "PaperclipHost",
            "metadata": {"name": "main", "namespace": "paperclip"},
            "spec": {"service": {"name": "main-host", "port": 80}},
        }),
        "/api/v1/namespaces/paperclip/services/main-host" => json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "main-host", "namespace": "paperclip"},
            "spec": {"selector": {"app": "host"}, "ports": [{"port": 80, "targetPort": "http"}]},
        }),
        "/api/v1/namespaces/paperclip/pods" => json!({
            "apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": [pod()],
        }),
        "/api/v1/namespaces/shop/pods" => json!({
            "apiVersion": "v1", "kind": "PodList", "metadata": {"resourceVersion": "1"},
            "items": [plugin_pod()],
        }),
        _ => return None,
    })
}

fn plugin() -> Value {
    json!({
        "apiVersion": "plugins.paperclip.ing/v1alpha1", "kind": "PaperclipPlugin",
        "metadata": {"name": "tea", "namespace": "shop", "uid": "uid-of-tea"},
        "spec": {
            "source": {"npm": {"package": "tea", "version": "1.0.0"}},
            "host": {"name": "main", "namespace": "paperclip"},
        },
        "status": {
            "conditions": [{"type": "Ready", "status": "True", "reason": "Succeeded",
                "message": "all is well", "lastTransitionTime": "2026-11-21T10:00:00Z"}],
            "plugin": {"id": "example.tea", "version": "1.0.0", "displayName": "Tea"},
        },
    })
}

fn pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "main-1", "namespace": "paperclip"},
        "spec": {"containers": [{"name": "host", "ports": [{"name": "http", "containerPort": PORT}]}]},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    })
}

fn plugin_pod() -> Value {
    let running = |name: &str| {
        json!({"name": name, "image": "i", "imageID": "i", "ready": true, "restartCount": 0,
            "state": {"running": {}}})
    };
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "tea-1", "namespace": "shop"},
        "spec": {"containers": [{"name": "worker"}]},
        "status": {
            "initContainerStatuses": [running("sidecar")],
            "containerStatuses": [running("worker")],
        },
    })
}

/// Switches to the WebSocket form of port forwarding.
fn forward(state: Arc<State>, request: &mut Request<Incoming>) -> Response<Full<Bytes>> {
    let query = request.uri().query().unwrap_or_default();
    assert!(query.contains("ports=3100"), "{query}");
    let key = request.headers()[header::SEC_WEBSOCKET_KEY].as_bytes();
    let response = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_ACCEPT, derive_accept_key(key))
        .header(header::SEC_WEBSOCKET_PROTOCOL, "v4.channel.k8s.io")
        .body(Full::default())
        .unwrap();
    let upgrade = hyper::upgrade::on(request);
    tokio::spawn(async move {
        let stream = TokioIo::new(upgrade.await.unwrap());
        let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
        for channel in [DATA, ERROR] {
            let [low, high] = PORT.to_le_bytes();
            send(&mut socket, channel, &[low, high]).await;
        }
        if let Some(refusal) = &state.refusal {
            send(&mut socket, ERROR, refusal.as_bytes()).await;
        }
        let (near, far) = tokio::io::duplex(64 * 1024);
        if state.refusal.is_none() {
            tokio::spawn(serve_host(state, far));
        }
        tunnel(socket, near).await;
    });
    response
}

async fn send<S>(socket: &mut WebSocketStream<S>, channel: u8, bytes: &[u8])
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let frame = [&[channel], bytes].concat();
    // The program may have left already.
    let _ = socket.send(Message::binary(frame)).await;
}

/// Copies between the data channel and the host until one side ends.
async fn tunnel<S>(mut socket: WebSocketStream<S>, mut host: DuplexStream)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let mut buffer = vec![0; 16 * 1024];
    loop {
        tokio::select! {
            message = socket.next() => match message {
                Some(Ok(Message::Binary(frame))) if frame.len() > 1 && frame[0] == DATA => {
                    if host.write_all(&frame[1..]).await.is_err() {
                        return;
                    }
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => {}
            },
            count = host.read(&mut buffer) => match count {
                Ok(count) if count > 0 => {
                    let bytes = buffer[..count].to_vec();
                    send(&mut socket, DATA, &bytes).await;
                }
                _ => break,
            },
        }
    }
    // As the API server does: say goodbye, and wait until the other side has heard it.
    let _ = socket.close(None).await;
    while let Some(Ok(_)) = socket.next().await {}
}

async fn serve_host(state: Arc<State>, stream: DuplexStream) {
    let service = service_fn(move |request: Request<Incoming>| {
        let state = Arc::clone(&state);
        async move {
            let line = format!("{} {}", request.method(), request.uri());
            let authorization = request.headers().get(header::AUTHORIZATION);
            let authorization = authorization.map(|value| value.to_str().unwrap().to_owned());
            let body = request.into_body().collect().await.unwrap().to_bytes();
            state.seen.lock().unwrap().push(Seen {
                line,
                authorization,
                body,
            });
            let mut response = answer(state.status, &state.answer);
            // A host may end a connection after any answer.
            let close = header::HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
            Ok::<_, Infallible>(response)
        }
    });
    // Ends when the program goes away.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}
