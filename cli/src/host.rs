//! A plugin's host: finding its pod, the port-forward to it, and requests over it.

use std::time::Duration;

use bytes::Bytes;
use futures::{
    FutureExt,
    future::{BoxFuture, Fuse},
};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use k8s_openapi::{
    api::core::v1::{Pod, Service, ServicePort},
    apimachinery::pkg::util::intstr::IntOrString,
};
use kube::{Api, ResourceExt, api::ListParams};
use paperclip_crds::v1alpha1::PaperclipHost;
use serde_json::Value;
use tower::BoxError;

use crate::{args::Global, cluster::Cluster, error::Error, plugin::Plugin, token};

/// The longest answer that is read.
const ANSWER_LIMIT: usize = 256 * 1024 * 1024;

/// A connection to a plugin's host.
pub struct Host {
    name: String,
    cluster: Cluster,
    pod: Pod,
    port: u16,
    tunnel: Tunnel,
    authorization: HeaderValue,
    patience: Duration,
    /// What is wrong with the plugin, for errors.
    trouble: Option<String>,
}

impl Host {
    /// Connects to the host of a plugin and gets a token for it.
    ///
    /// # Errors
    /// When the host, its Service or a ready pod is missing, or no token is to be had.
    pub async fn connect(
        cluster: &Cluster,
        global: &Global,
        plugin: &Plugin,
    ) -> Result<Self, Error> {
        let (namespace, name) = plugin.parsed.host_reference();
        let full_name = format!("{namespace}/{name}");
        let (pod, port) = find_pod(cluster, plugin, &namespace, &name).await?;
        let token = token::for_host(cluster, global, &namespace, &name).await?;
        let mut authorization =
            HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| Error::Input {
                what: "the token has characters that no HTTP header may have".into(),
            })?;
        authorization.set_sensitive(true);
        let tunnel = forward(cluster, &full_name, &pod, port).await?;
        Ok(Self {
            name: full_name,
            cluster: cluster.clone(),
            pod,
            port,
            tunnel,
            authorization,
            patience: global.request_timeout,
            trouble: plugin.trouble(),
        })
    }

    /// Reads JSON.
    ///
    /// # Errors
    /// When the host does not answer, or answers with an error.
    pub async fn get(&mut self, doing: &str, path: &str) -> Result<Value, Error> {
        let headers = HeaderMap::new();
        self.send(doing, Method::GET, path, headers, Bytes::new(), true)
            .await
    }

    /// Posts JSON and reads JSON.
    ///
    /// # Errors
    /// When the host does not answer, or answers with an error.
    pub async fn post(&mut self, doing: &str, path: &str, body: &Value) -> Result<Value, Error> {
        let mut headers = HeaderMap::new();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        let body = Bytes::from(body.to_string());
        self.send(doing, Method::POST, path, headers, body, true)
            .await
    }

    /// Posts bytes without our token, as an outside system would.
    ///
    /// # Errors
    /// When the host does not answer, or answers with an error.
    pub async fn post_bytes(
        &mut self,
        doing: &str,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Value, Error> {
        self.send(doing, Method::POST, path, headers, body, false)
            .await
    }

    async fn send(
        &mut self,
        doing: &str,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
        with_token: bool,
    ) -> Result<Value, Error> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().map_err(|_| Error::Input {
            what: format!("{path:?} is no path of a URL"),
        })?;
        *request.headers_mut() = headers;
        request
            .headers_mut()
            .insert(header::HOST, HeaderValue::from_static("localhost"));
        if with_token {
            request
                .headers_mut()
                .insert(header::AUTHORIZATION, self.authorization.clone());
        }
        // A connection that ended between two requests has not carried this one.
        if self.tunnel.sender.ready().await.is_err() {
            self.tunnel = forward(&self.cluster, &self.name, &self.pod, self.port).await?;
        }
        let exchange = exchange(&mut self.tunnel, request);
        let (status, body) = tokio::time::timeout(self.patience, exchange)
            .await
            .map_err(|_| Error::TimedOut {
                doing: doing.to_owned(),
                seconds: self.patience.as_secs(),
            })?
            .map_err(|source| Error::Connection {
                doing: format!("{doing}: speak with host {}", self.name),
                source,
            })?;
        read_answer(doing, status, &body, self.trouble.as_ref())
    }
}

/// HTTP through a port-forward.
struct Tunnel {
    sender: SendRequest<Full<Bytes>>,
    /// What the kubelet says when it cannot reach the port.
    refusal: Fuse<BoxFuture<'static, Option<String>>>,
}

async fn exchange(
    tunnel: &mut Tunnel,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Bytes), BoxError> {
    tokio::select! {
        answer = ask(&mut tunnel.sender, request) => answer,
        Some(refusal) = &mut tunnel.refusal => Err(refusal.trim().into()),
    }
}

async fn ask(
    sender: &mut SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Bytes), BoxError> {
    sender.ready().await?;
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), ANSWER_LIMIT)
        .collect()
        .await?
        .to_bytes();
    Ok((status, body))
}

/// The answer's JSON, or the error it carries.
fn read_answer(
    doing: &str,
    status: StatusCode,
    body: &[u8],
    trouble: Option<&String>,
) -> Result<Value, Error> {
    let parsed: Result<Value, _> = if body.is_empty() {
        Ok(Value::Null)
    } else {
        serde_json::from_slice(body)
    };
    if status.is_success() {
        return parsed.map_err(|source| Error::Encoding {
            doing: format!("{doing}: read the host's answer"),
            source: Box::new(source),
        });
    }
    let parsed = parsed.unwrap_or(Value::Null);
    let text = |field: &str| parsed[field].as_str().map(str::to_owned);
    let message = text("error")
        .or_else(|| text("message"))
        .unwrap_or_else(|| String::from_utf8_lossy(body).trim().to_owned());
    Err(Error::Host {
        doing: doing.to_owned(),
        status,
        code: text("code"),
        message: if message.is_empty() {
            "no message".into()
        } else {
            message
        },
        trouble: trouble.cloned(),
    })
}

/// Escapes one segment of a path.
#[must_use]
pub fn segment(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' => {
                escaped.push(char::from(byte));
            }
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

/// Opens a port of a pod and speaks HTTP over it.
async fn forward(cluster: &Cluster, host: &str, pod: &Pod, port: u16) -> Result<Tunnel, Error> {
    let namespace = pod.namespace().unwrap_or_default();
    let name = pod.name_any();
    let doing = format!("forward port {port} of pod {namespace}/{name} of host {host}");
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), &namespace);
    let mut forwarder = pods
        .portforward(&name, &[port])
        .await
        .map_err(|source| Error::cluster(&doing, source))?;
    let stream = forwarder
        .take_stream(port)
        .ok_or_else(|| Error::Connection {
            doing: doing.clone(),
            source: "the API server opened no stream".into(),
        })?;
    let refusal = forwarder
        .take_error(port)
        .map_or_else(|| futures::future::pending().boxed(), FutureExt::boxed)
        .fuse();
    let (sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|source| Error::Connection {
            doing,
            source: Box::new(source),
        })?;
    // Ends with the process. An error shows in the request that it breaks.
    tokio::spawn(async move {
        let _forwarder = forwarder;
        let _ = connection.await;
    });
    Ok(Tunnel { sender, refusal })
}

/// A ready pod of a host's Service, and the port of its HTTP API.
async fn find_pod(
    cluster: &Cluster,
    plugin: &Plugin,
    namespace: &str,
    name: &str,
) -> Result<(Pod, u16), Error> {
    let hosts: Api<PaperclipHost> = Api::namespaced(cluster.client.clone(), namespace);
    let host = hosts
        .get_opt(name)
        .await
        .map_err(|source| Error::cluster(format!("read PaperclipHost {namespace}/{name}"), source))?
        .ok_or_else(|| Error::NotFound {
            what: format!(
                "PaperclipPlugin {} names PaperclipHost {namespace}/{name}, which does not exist",
                plugin.full_name()
            ),
            hint: "`kubectl get paperclipplugin,papercliphost -A` shows both kinds".into(),
        })?;
    let service_name = &host.spec.service.name;
    let services: Api<Service> = Api::namespaced(cluster.client.clone(), namespace);
    let service = services
        .get_opt(service_name)
        .await
        .map_err(|source| {
            Error::cluster(format!("read Service {namespace}/{service_name}"), source)
        })?
        .ok_or_else(|| Error::NotFound {
            what: format!(
                "PaperclipHost {namespace}/{name} names Service {service_name}, which does not exist"
            ),
            hint: format!("`kubectl get service -n {namespace}` shows what is there"),
        })?;
    let port = service_port(&service, host.spec.service.port).ok_or_else(|| Error::NotFound {
        what: format!(
            "Service {namespace}/{service_name} has no port {}",
            host.spec.service.port
        ),
        hint: format!("correct spec.service.port of PaperclipHost {namespace}/{name}"),
    })?;
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), namespace);
    let selector = selector_of(&service);
    let found = pods
        .list(&ListParams::default().labels(&selector))
        .await
        .map_err(|source| {
            Error::cluster(
                format!("list pods of Service {namespace}/{service_name}"),
                source,
            )
        })?;
    let count = found.items.len();
    found
        .items
        .into_iter()
        .filter(is_ready)
        .find_map(|pod| container_port(&pod, port).map(|number| (pod, number)))
        .ok_or_else(|| Error::NotReady {
            what: format!(
                "none of {count} pods of Service {namespace}/{service_name} (PaperclipHost {name}) is ready"
            ),
            hint: format!("`kubectl get pods -n {namespace} -l '{selector}'` shows why"),
        })
}

fn selector_of(service: &Service) -> String {
    let labels = service
        .spec
        .as_ref()
        .and_then(|spec| spec.selector.clone())
        .unwrap_or_default();
    let terms: Vec<_> = labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    terms.join(",")
}

/// The port of a Service by its number. A Service without a selector has no pods to
/// forward to, so it has no usable port either.
fn service_port(service: &Service, wanted: i32) -> Option<&ServicePort> {
    let spec = service.spec.as_ref()?;
    spec.selector.as_ref().filter(|labels| !labels.is_empty())?;
    spec.ports.as_ref()?.iter().find(|port| port.port == wanted)
}

/// The pod's own port behind a Service's port.
fn container_port(pod: &Pod, port: &ServicePort) -> Option<u16> {
    let number = match &port.target_port {
        None => port.port,
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(name)) => {
            pod.spec
                .as_ref()?
                .containers
                .iter()
                .flat_map(|container| container.ports.iter().flatten())
                .find(|port| port.name.as_ref() == Some(name))?
                .container_port
        }
    };
    u16::try_from(number).ok()
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    pod.metadata.deletion_timestamp.is_none()
        && conditions.is_some_and(|conditions| {
            conditions
                .iter()
                .any(|condition| condition.type_ == "Ready" && condition.status == "True")
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object<T: serde::de::DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).unwrap()
    }

    fn pod(ready: &str) -> Pod {
        object(json!({
            "metadata": {"name": "host-1"},
            "spec": {"containers": [{"name": "host", "ports": [{"name": "http", "containerPort": 3100}]}]},
            "status": {"conditions": [{"type": "Ready", "status": ready}]},
        }))
    }

    fn service(port: Value) -> Service {
        object(
            json!({"metadata": {"name": "host"}, "spec": {"selector": {"app": "host"}, "ports": [port]}}),
        )
    }

    #[test]
    fn a_named_target_port_is_looked_up_in_the_pod() {
        let service = service(json!({"port": 80, "targetPort": "http"}));
        let port = service_port(&service, 80).unwrap();
        assert_eq!(container_port(&pod("True"), port), Some(3100));
    }

    #[test]
    fn a_numbered_target_port_is_taken_as_it_is() {
        let service = service(json!({"port": 80, "targetPort": 8080}));
        let port = service_port(&service, 80).unwrap();
        assert_eq!(container_port(&pod("True"), port), Some(8080));
        assert!(service_port(&service, 81).is_none());
    }

    #[test]
    fn a_pod_that_is_not_ready_is_not_used() {
        assert!(is_ready(&pod("True")));
        assert!(!is_ready(&pod("False")));
        assert!(!is_ready(&Pod::default()));
    }

    #[test]
    fn an_error_answer_keeps_code_and_message() {
        let body = br#"{"code":"WORKER_ERROR","message":"tracker is down"}"#;
        let error = read_answer("read data x", StatusCode::BAD_GATEWAY, body, None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "read data x: the host answered 502 Bad Gateway: tracker is down"
        );
        let Error::Host { code, .. } = error else {
            panic!("not the host's error");
        };
        assert_eq!(code.as_deref(), Some("WORKER_ERROR"));
    }

    #[test]
    fn an_error_answer_that_is_no_json_is_shown_as_text() {
        let error =
            read_answer("read x", StatusCode::NOT_FOUND, b"nothing here\n", None).unwrap_err();
        assert!(error.to_string().ends_with("404 Not Found: nothing here"));
    }

    #[test]
    fn segments_of_paths_are_escaped() {
        assert_eq!(segment("shop:tea"), "shop:tea");
        assert_eq!(segment("a/b?c d"), "a%2Fb%3Fc%20d");
    }
}
