//! A worker that answers and a host that calls, beside whatever else goes on.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use paperclip_bridge::v1::{
    Chunk, Notification, Ping, Pong, Request, Response, RpcError, SessionRequest, response,
    session_request, session_response,
};
use paperclip_sidecar::{envelope, grants::Grants, multiplexer::Multiplexer};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use crate::in_memory::{Host, Worker};

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Bridge {
    pub multiplexer: Arc<Multiplexer>,
    pub worker: Worker,
    host: Host,
    calls: u64,
}

impl Bridge {
    pub fn start() -> Self {
        let grant = ["plugin.state.read", "events.subscribe"];
        let multiplexer = Multiplexer::new(Grants::of(grant));
        let worker = Worker::start(&multiplexer);
        multiplexer.serve();
        let host = Host::attach(&multiplexer, "neighbour");
        Self {
            multiplexer,
            worker,
            host,
            calls: 0,
        }
    }

    /// A request of the worker, after all it wrote, is read and answered.
    pub async fn worker_is_heard(&mut self) {
        self.calls += 1;
        let id = format!("heard-{}", self.calls);
        let request = json!({"jsonrpc": "2.0", "id": id, "method": "state.set", "params": {}});
        self.say(&request).await;
        let heard = async {
            loop {
                tokio::select! {
                    line = self.worker.stdin.recv() => {
                        let message = message(&line.expect("the pipe is open"));
                        if message["id"] == id.as_str() {
                            return message;
                        }
                    }
                    frame = self.host.frames.recv() => {
                        let frame = frame.expect("the session goes on");
                        answer(&self.host, frame.frame);
                    }
                }
            }
        };
        let answer = tokio::time::timeout(PATIENCE, heard).await;
        let answer = answer.expect("the worker is heard");
        assert_eq!(answer["error"]["code"], -32001, "{answer}");
    }

    /// A call of the host comes to the worker, and its answer to the host.
    pub async fn call_is_answered(&mut self) {
        self.calls += 1;
        let token = format!("call-{}", self.calls);
        let request = Request {
            id: self.calls,
            method: "getData".into(),
            params_json: json!({"token": token}).to_string().into(),
            ..Request::default()
        };
        let frame = session_request::Frame::Request(request);
        let sent = self
            .host
            .requests
            .send(Ok(SessionRequest::from(frame)))
            .await;
        sent.expect("the session goes on");
        let answered = async {
            loop {
                tokio::select! {
                    line = self.worker.stdin.recv() => {
                        let line = line.expect("the pipe is open");
                        reply(&mut self.worker, &line).await;
                    }
                    frame = self.host.frames.recv() => {
                        let frame = frame.expect("the session goes on").frame;
                        match frame {
                            Some(session_response::Frame::Response(response)) if response.id == self.calls => {
                                return response.outcome;
                            }
                            frame => answer(&self.host, frame),
                        }
                    }
                }
            }
        };
        let outcome = tokio::time::timeout(PATIENCE, answered).await;
        match outcome.expect("the call is answered") {
            Some(response::Outcome::ResultJson(result)) => {
                let result: Value = serde_json::from_slice(&result).unwrap();
                assert_eq!(result, json!({"token": token}));
            }
            other => panic!("{token}: {other:?}"),
        }
    }

    /// Answers what came to the host so far.
    pub fn serve_hosts(&mut self) {
        while let Ok(frame) = self.host.frames.try_recv() {
            answer(&self.host, frame.frame);
        }
    }

    /// Answers what came to the worker so far.
    pub async fn serve_worker(&mut self) {
        while let Ok(line) = self.worker.stdin.try_recv() {
            reply(&mut self.worker, &line).await;
        }
        self.serve_hosts();
    }

    async fn say(&mut self, message: &Value) {
        let line = format!("{message}\n");
        let written = self.worker.stdout.write_all(line.as_bytes()).await;
        written.expect("the multiplexer reads on");
    }
}

/// A line of the multiplexer, which is always one message. Null for one that JavaScript reads
/// and Rust does not: half a surrogate pair, as some other side wrote it.
fn message(line: &str) -> Value {
    assert!(!line.contains(['\r', '\u{2028}', '\u{2029}']), "{line:?}");
    assert!(envelope::is_json(line.as_bytes()), "{line:?}");
    serde_json::from_str(line).unwrap_or_default()
}

/// The worker answers a call with its params.
async fn reply(worker: &mut Worker, line: &str) {
    let message = message(line);
    if message["method"].is_string() && !message["id"].is_null() {
        let answer = json!({"jsonrpc": "2.0", "id": message["id"], "result": message["params"]});
        let line = format!("{answer}\n");
        let written = worker.stdout.write_all(line.as_bytes()).await;
        written.expect("the multiplexer reads on");
    }
}

/// The host answers whatever it is asked.
fn answer(host: &Host, frame: Option<session_response::Frame>) {
    let frame = match frame {
        Some(session_response::Frame::Request(request)) => {
            session_request::Frame::Response(Response {
                id: request.id,
                outcome: Some(response::Outcome::ResultJson(Bytes::from_static(b"null"))),
            })
        }
        Some(session_response::Frame::Ping(ping)) => {
            session_request::Frame::Pong(Pong { nonce: ping.nonce })
        }
        _ => return,
    };
    let _ = host.requests.try_send(Ok(frame.into()));
}

/// One frame of each kind.
pub fn frames() -> Vec<(&'static str, session_request::Frame)> {
    let request = |method: &str, params: &'static str| {
        session_request::Frame::Request(Request {
            id: 7,
            method: method.into(),
            params_json: Bytes::from_static(params.as_bytes()),
            invocation_json: Bytes::from_static(br#"{"id":"i-1","scope":{"companyId":"a"}}"#),
            timeout_ms: 1000,
            ..Request::default()
        })
    };
    let outcome = |outcome| {
        session_request::Frame::Response(Response {
            id: 1,
            outcome: Some(outcome),
        })
    };
    let chunk = |last| {
        session_request::Frame::Chunk(Chunk {
            chunk_id: 1,
            data: Bytes::from_static(b"\x12\x02\x08\x07"),
            last,
        })
    };
    vec![
        ("request", request("getData", r#"{"key":"a\u2028"}"#)),
        (
            "request-task",
            request("vendor.call", r#"[1,2,{"a":null}]"#),
        ),
        ("request-shutdown", request("shutdown", "{}")),
        ("request-initialize", request("initialize", "{}")),
        (
            "result",
            outcome(response::Outcome::ResultJson(Bytes::from_static(
                b"{\"a\":1}",
            ))),
        ),
        (
            "error",
            outcome(response::Outcome::Error(RpcError::new(-32005, "m"))),
        ),
        (
            "notification",
            session_request::Frame::Notification(Notification {
                method: "vendor.notice".into(),
                params_json: Bytes::from_static(b"{}"),
                invocation_json: Bytes::from_static(br#"{"id":"i-2"}"#),
                ..Notification::default()
            }),
        ),
        ("ping", session_request::Frame::Ping(Ping { nonce: 1 })),
        ("pong", session_request::Frame::Pong(Pong { nonce: 1 })),
        ("chunk", chunk(false)),
        ("chunk-last", chunk(true)),
    ]
}
