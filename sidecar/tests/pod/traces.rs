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
const COMPANY: &str = "00000000-0000-4000-8000-000000000001";
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
        let mut child = Command::new(pod::built("paperclip-host", "paperclip-host"))
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_trace_joins_caller_host_sidecar_worker_and_what_it_asks_back() {
    let (collector, endpoint) = Collector::start().await;
    let environment = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),
        ("OTEL_BSP_SCHEDULE_DELAY", "50".to_owned()),
    ];
    let config = json!({"active": {"revision": 1, "config": {}}});
    let pod = Pod::start_in(&environment, config, |folder| {
        artifact::raw(folder, WORKER, &["plugin.state.read"])
    });
    pod.serving().await;
    let folder = tempfile::tempdir().unwrap();
    let (_host, api) = Host::start(&pod, folder.path(), &environment).await;
    let answer = reqwest::Client::new()
        .post(format!("{api}/api/plugins/{UID}/data/k"))
        .bearer_auth("a-token")
        .header("traceparent", format!("00-{TRACE}-{CALLER}-01"))
        .json(&json!({"companyId": COMPANY}))
        .send()
        .await
        .unwrap();
    let answer: Value = answer.json().await.unwrap();

    let call = collector.span("paperclip-host", "call getData").await;
    let worker = collector.span("paperclip-sidecar", "worker getData").await;
    let asked = collector.span("paperclip-sidecar", "host state.get").await;
    let answered = collector.span("paperclip-host", "answer state.get").await;
    let trace = hex::decode(TRACE).unwrap();
    let mut parent = hex::decode(CALLER).unwrap();
    for span in [&call, &worker, &asked, &answered] {
        assert_eq!(span.trace_id, trace, "{}", span.name);
        assert_eq!(span.parent_span_id, parent, "{}", span.name);
        parent.clone_from(&span.span_id);
    }
    let seen = format!("00-{TRACE}-{}-01", hex::encode(&worker.span_id));
    assert_eq!(answer["data"], seen.as_str(), "{answer}");
}
