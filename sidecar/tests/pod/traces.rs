//! One trace from the caller of a host to what the worker asks back: the real host, the real
//! sidecar, a worker, and a collector that takes their spans over OTLP.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::any_value::Value as AnyValue,
    trace::v1::{ResourceSpans, Span},
};
use paperclip_protocol::DEFAULT_COMPANY;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

use crate::support::{
    artifact, eventually,
    pod::{self, Pod},
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";
const UID: &str = "0d9f1a52-0000-4000-8000-000000000001";

/// Asks the host on behalf of the call, and shows the context that came with it.
const WORKER: &str = r#"
    let asked;
    handlers.answer = ({ id }) => send({ id: asked.id, result: asked.paperclipInvocation.traceparent });
    handlers.getData = (call) => {
        asked = call;
        send({ id: "w", method: "state.get", params: { scopeKind: "instance", stateKey: "k" },
               paperclipInvocationId: call.paperclipInvocation.id });
    };
"#;

/// A collector: the service that made it, and the span.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<(String, Span)>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut taken = self.0.lock().unwrap();
        for resource in request.into_inner().resource_spans {
            let service = service(&resource);
            let scopes = resource.scope_spans.into_iter();
            taken.extend(
                scopes
                    .flat_map(|scope| scope.spans)
                    .map(|span| (service.clone(), span)),
            );
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn service(spans: &ResourceSpans) -> String {
    let attributes = spans
        .resource
        .iter()
        .flat_map(|resource| &resource.attributes);
    let mut named = attributes.filter(|attribute| attribute.key == "service.name");
    let value = named.next().and_then(|named| named.value.clone()?.value);
    match value {
        Some(AnyValue::StringValue(name)) => name,
        other => panic!("{other:?}"),
    }
}

impl Collector {
    async fn start() -> (Self, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let collector = Self::default();
        let service = TraceServiceServer::new(collector.clone());
        let server = Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        (collector, format!("http://{address}"))
    }

    /// The span of this name, once it came.
    async fn span(&self, service: &str, name: &str) -> Span {
        eventually(&format!("the span {name:?} of {service}"), || {
            let spans = self.0.lock().unwrap();
            let found = spans
                .iter()
                .find(|(of, span)| of == service && span.name == name);
            found.map(|(_, span)| span.clone())
        })
        .await
    }
}

struct Host(Child);

impl Host {
    /// Starts a host with a session to the pod. Gives the address of its API.
    async fn start(
        pod: &Pod,
        folder: &std::path::Path,
        environment: &[(&str, String)],
    ) -> (Self, String) {
        let leaf = pod.authority.issue(&pod::host());
        for (name, text) in [
            ("tls.crt", leaf.certificate.as_str()),
            ("tls.key", &leaf.key),
            ("ca.crt", &leaf.ca),
            ("tokens", "a-token\n"),
        ] {
            fs::write(folder.join(name), text).unwrap();
        }
        let mut child = Command::new(pod::built("paperclip-host"))
            .arg("serve")
            .args(["--listen", "127.0.0.1:0", "--health-listen", "127.0.0.1:0"])
            .args(["--host-namespace", "paperclip", "--host-name", "main"])
            .args(["--auth", "static-token-file", "--token-file"])
            .arg(folder.join("tokens"))
            .arg("--tls-dir")
            .arg(folder)
            .args([
                "--database",
                &format!("sqlite://{}/host.db", folder.display()),
            ])
            .args([
                "--plugin-address",
                &format!("shop/commerce/{UID}={}", pod.address().await),
            ])
            .envs(environment.iter().cloned())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let host = Self(child);
        let mut records = lines.map_while(Result::ok).map(|line| {
            eprintln!("host: {line}");
            serde_json::from_str::<Value>(&line).expect("records are JSON")
        });
        let runs = records.find(|record| record["message"] == "host runs");
        let api = runs.expect("the host runs")["api"]
            .as_str()
            .unwrap()
            .to_owned();
        std::thread::spawn(move || records.for_each(drop));
        (host, format!("http://{api}"))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Publishes an event within the call and asks the host on behalf of what it hears of it.
const PUBLISHER: &str = r#"
    let publishes, heard = null;
    handlers.initialize = ({ id }) => {
        send({ id: "s", method: "events.subscribe", params: { eventPattern: "plugin.test.raw.done" } });
        send({ id, result: { ok: true, supportedMethods: [] } });
    };
    handlers.performAction = (call) => {
        publishes = call;
        send({ id: "e", method: "events.emit", paperclipInvocationId: call.paperclipInvocation.id,
               params: { name: "done", payload: {}, companyId: call.paperclipInvocation.scope.companyId } });
    };
    handlers.answer = ({ id, error }) => {
        if (id === "e") send({ id: publishes.id, result: error ?? null });
        if (id === "w") heard = publishes.seen;
    };
    handlers.onEvent = ({ paperclipInvocation }) => {
        publishes.seen = paperclipInvocation.traceparent;
        send({ id: "w", method: "state.get", params: { scopeKind: "instance", stateKey: "k" },
               paperclipInvocationId: paperclipInvocation.id });
    };
    handlers.getData = ({ id }) => send({ id, result: heard });
"#;

/// A host and a pod that export their spans, and a person at the host's API.
struct Traced {
    collector: Collector,
    api: String,
    _pod: Pod,
    _host: Host,
    _folder: tempfile::TempDir,
}

impl Traced {
    async fn start(worker: &str, capabilities: &[&str]) -> Self {
        let (collector, endpoint) = Collector::start().await;
        let environment = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),
            ("OTEL_BSP_SCHEDULE_DELAY", "50".to_owned()),
        ];
        let config = json!({"active": {"revision": 1, "config": {}}});
        let pod = Pod::start_in(&environment, config, |folder| {
            artifact::raw(folder, worker, capabilities)
        });
        pod.serving().await;
        let folder = tempfile::tempdir().unwrap();
        let (host, api) = Host::start(&pod, folder.path(), &environment).await;
        Self {
            collector,
            api,
            _pod: pod,
            _host: host,
            _folder: folder,
        }
    }

    /// Asks the host, within the caller's trace.
    async fn ask(&self, kind: &str) -> Value {
        let answer = reqwest::Client::new()
            .post(format!("{}/api/plugins/{UID}/{kind}/k", self.api))
            .bearer_auth("a-token")
            .header("traceparent", format!("00-{TRACE}-{CALLER}-01"))
            .json(&json!({"companyId": DEFAULT_COMPANY}))
            .send()
            .await
            .unwrap();
        answer.json().await.unwrap()
    }

    /// Spans that are each the parent of the next, the first that of the caller.
    async fn chain(&self, names: &[(&str, &str)]) -> Vec<Span> {
        let trace = hex::decode(TRACE).unwrap();
        let mut parent = hex::decode(CALLER).unwrap();
        let mut chain = Vec::new();
        for (service, name) in names {
            let span = self.collector.span(service, name).await;
            assert_eq!(span.trace_id, trace, "{name}");
            assert_eq!(span.parent_span_id, parent, "{name}");
            parent.clone_from(&span.span_id);
            chain.push(span);
        }
        chain
    }
}

/// What the worker is shown of a span.
fn traceparent(span: &Span) -> String {
    format!("00-{TRACE}-{}-01", hex::encode(&span.span_id))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_trace_joins_caller_host_sidecar_worker_and_what_it_asks_back() {
    let traced = Traced::start(WORKER, &["plugin.state.read"]).await;
    let answer = traced.ask("data").await;
    let spans = traced
        .chain(&[
            ("paperclip-host", "call getData"),
            ("paperclip-sidecar", "worker getData"),
            ("paperclip-sidecar", "host state.get"),
            ("paperclip-host", "answer state.get"),
        ])
        .await;
    assert_eq!(answer["data"], traceparent(&spans[1]).as_str(), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_trace_goes_on_with_an_event_to_its_subscriber_and_what_that_asks_back() {
    let capabilities = ["plugin.state.read", "events.emit", "events.subscribe"];
    let traced = Traced::start(PUBLISHER, &capabilities).await;
    let published = traced.ask("actions").await;
    assert_eq!(published["data"], Value::Null, "{published}");
    let spans = traced
        .chain(&[
            ("paperclip-host", "call performAction"),
            ("paperclip-sidecar", "worker performAction"),
            ("paperclip-sidecar", "host events.emit"),
            ("paperclip-host", "answer events.emit"),
            ("paperclip-host", "tell onEvent"),
            ("paperclip-sidecar", "worker onEvent"),
            ("paperclip-sidecar", "host state.get"),
            ("paperclip-host", "answer state.get"),
        ])
        .await;
    let heard = traced.ask("data").await;
    assert_eq!(heard["data"], traceparent(&spans[5]).as_str(), "{heard}");
}
