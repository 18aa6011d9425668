//! A worker of another version of the protocol behind the shipped multiplexer: hosts speak the
//! one version, the worker the other, and neither notices.
//!
//! The second version is made up. It is offered to nobody.

#[path = "../memory/mod.rs"]
mod memory;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use memory::{Host, Worker};
use paperclip_proto::{
    jsonrpc,
    methods::{self, Change, Part, Version},
    v1::{
        Notification, Phase, Request, Response, RpcError, SessionRequest, SessionResponse,
        response, session_request, session_response,
    },
};
use paperclip_sidecar::{grants::Grants, multiplexer::Multiplexer};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

const PATIENCE: Duration = Duration::from_secs(10);

/// As a second version might be: methods renamed, members moved, an error renumbered.
static SECOND: Version = Version {
    number: 2,
    since: "0.2.0",
    changes: &[
        Change::Renamed {
            method: "runJob",
            to: "jobs.run",
        },
        Change::Moved {
            method: "runJob",
            part: Part::Params,
            from: "job.scheduledAt",
            to: "slot",
        },
        Change::Renamed {
            method: "onEvent",
            to: "events.deliver",
        },
        Change::Moved {
            method: "getData",
            part: Part::Result,
            from: "total",
            to: "page.total",
        },
        Change::Renamed {
            method: "state.get",
            to: "store.read",
        },
        Change::Moved {
            method: "state.get",
            part: Part::Params,
            from: "stateKey",
            to: "key.name",
        },
        Change::Moved {
            method: "state.get",
            part: Part::Result,
            from: "value",
            to: "read",
        },
        Change::Code {
            from: jsonrpc::WORKER_ERROR,
            to: 4002,
        },
        Change::Code {
            from: jsonrpc::CAPABILITY_DENIED,
            to: 4001,
        },
    ],
};

/// A host of the spoken version and a worker of the second.
struct Bridge {
    multiplexer: Arc<Multiplexer>,
    worker: Worker,
    host: Host,
}

impl Bridge {
    fn start(version: &'static Version) -> Self {
        let multiplexer = Multiplexer::new(Grants::of(["plugin.state.read"]));
        let worker = Worker::start_as(&multiplexer, version);
        multiplexer.state.set_phase(Phase::Serving);
        let host = Host::attach(&multiplexer, "host");
        Self {
            multiplexer,
            worker,
            host,
        }
    }

    async fn send(&self, frame: session_request::Frame) {
        let sent = self.host.requests.send(Ok(SessionRequest::from(frame)));
        sent.await.expect("the session goes on");
    }

    async fn call(&self, id: u64, method: &str, params: &str) {
        let request = Request {
            id,
            method: method.into(),
            params_json: Bytes::copy_from_slice(params.as_bytes()),
            ..Request::default()
        };
        self.send(session_request::Frame::Request(request)).await;
    }

    async fn say(&mut self, line: &str) {
        let line = format!("{line}\n");
        let written = self.worker.stdout.write_all(line.as_bytes()).await;
        written.expect("the multiplexer reads");
    }

    /// The next line to the worker.
    async fn heard(&mut self) -> String {
        let line = tokio::time::timeout(PATIENCE, self.worker.stdin.recv()).await;
        line.expect("a line to the worker").expect("an open pipe")
    }

    /// The next frame to the host, but for what belongs to the session itself.
    async fn frame(&mut self) -> session_response::Frame {
        loop {
            let frame = tokio::time::timeout(PATIENCE, self.host.frames.recv()).await;
            let frame: Option<SessionResponse> = frame.expect("a frame to the host");
            if let Some(
                frame @ (session_response::Frame::Request(_)
                | session_response::Frame::Response(_)
                | session_response::Frame::Notification(_)),
            ) = frame.expect("an open session").frame
            {
                return frame;
            }
        }
    }

    async fn outcome(&mut self) -> Result<Bytes, RpcError> {
        match self.frame().await {
            session_response::Frame::Response(response) => match response.outcome {
                Some(response::Outcome::ResultJson(result)) => Ok(result),
                Some(response::Outcome::Error(error)) => Err(error),
                None => panic!("an answer without an outcome"),
            },
            other => panic!("{other:?}"),
        }
    }
}

fn parsed(json: impl AsRef<[u8]>) -> Value {
    serde_json::from_slice(json.as_ref()).unwrap()
}

#[tokio::test]
async fn a_renamed_call_and_a_moved_member_reach_the_worker_in_its_own_words() {
    let mut bridge = Bridge::start(&SECOND);
    let job = r#"{"job":{"jobKey":"sync","scheduledAt":"2026-09-20T10:01:00.000Z"}}"#;
    bridge.call(7, "runJob", job).await;
    let line = parsed(bridge.heard().await);
    assert_eq!(line["method"], "jobs.run");
    let wanted = json!({"job": {"jobKey": "sync"}, "slot": "2026-09-20T10:01:00.000Z"});
    assert_eq!(line["params"], wanted);
    bridge
        .say(&format!(
            r#"{{"jsonrpc":"2.0","id":{},"result":null}}"#,
            line["id"]
        ))
        .await;
    assert_eq!(bridge.outcome().await, Ok(Bytes::from_static(b"null")));
}

#[tokio::test]
async fn what_the_sidecar_does_with_a_method_it_does_under_any_name() {
    let mut bridge = Bridge::start(&SECOND);
    let job = r#"{"job":{"jobKey":"sync","scheduledAt":"t"}}"#;
    bridge.call(1, "runJob", job).await;
    bridge.call(2, "runJob", job).await;
    let event = Notification {
        method: "onEvent".into(),
        params_json: Bytes::from_static(br#"{"event":{"eventId":"e-1"}}"#),
        ..Notification::default()
    };
    for _ in 0..2 {
        let told = session_request::Frame::Notification(event.clone());
        bridge.send(told).await;
    }
    bridge.call(3, "getData", "{}").await;
    let mut methods = Vec::new();
    while !methods.contains(&"getData".to_owned()) || methods.len() < 3 {
        let line = parsed(bridge.heard().await);
        methods.push(line["method"].as_str().unwrap().to_owned());
        if line["method"] == "jobs.run" {
            let id = &line["id"];
            bridge
                .say(&format!(r#"{{"jsonrpc":"2.0","id":{id},"result":1}}"#))
                .await;
        }
    }
    methods.sort();
    assert_eq!(methods, ["events.deliver", "getData", "jobs.run"]);
    // Both hosts' calls have the outcome of the one run.
    for _ in 0..2 {
        assert_eq!(bridge.outcome().await, Ok(Bytes::from_static(b"1")));
    }
    assert_eq!(bridge.multiplexer.metrics.joined_runs.get(), 1);
    assert_eq!(bridge.multiplexer.metrics.repeated_events.get(), 1);
}

#[tokio::test]
async fn an_answer_of_the_worker_comes_to_the_host_as_it_is_spoken() {
    let mut bridge = Bridge::start(&SECOND);
    bridge.call(1, "getData", r#"{"key": "k"}"#).await;
    let id = parsed(bridge.heard().await)["id"].clone();
    bridge
        .say(&format!(
            r#"{{"jsonrpc":"2.0","id":{id},"result":{{"page":{{"total":1e400}},"rows":[ ]}}}}"#
        ))
        .await;
    let result = bridge.outcome().await.unwrap();
    assert_eq!(result, r#"{"page":{},"rows":[ ],"total":1e400}"#);

    bridge.call(2, "getData", "{}").await;
    let id = parsed(bridge.heard().await)["id"].clone();
    bridge
        .say(&format!(
            r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":4002,"message":"m","data":{{"a":1}}}}}}"#
        ))
        .await;
    let error = bridge.outcome().await.unwrap_err();
    assert_eq!(error.code, jsonrpc::WORKER_ERROR);
    assert_eq!(error.data_json, r#"{"a":1}"#);
}

#[tokio::test]
async fn a_call_of_the_worker_is_checked_and_passed_as_it_is_spoken() {
    let mut bridge = Bridge::start(&SECOND);
    bridge
        .say(r#"{"jsonrpc":"2.0","id":"w-1","method":"store.read","params":{"key":{"name":"k"}}}"#)
        .await;
    let session_response::Frame::Request(request) = bridge.frame().await else {
        panic!("the worker's call did not come first");
    };
    assert_eq!(request.method, "state.get");
    assert_eq!(
        parsed(&request.params_json),
        json!({"key": {}, "stateKey": "k"})
    );
    let outcome = response::Outcome::ResultJson(Bytes::from_static(br#"{"value":[1]}"#));
    let answer = Response {
        id: request.id,
        outcome: Some(outcome),
    };
    bridge.send(session_request::Frame::Response(answer)).await;
    let line = parsed(bridge.heard().await);
    assert_eq!(
        line,
        json!({"jsonrpc": "2.0", "id": "w-1", "result": {"read": [1]}})
    );

    // Without its grant, and with the code that this version has for it.
    bridge
        .say(r#"{"jsonrpc":"2.0","id":"w-2","method":"state.set","params":{}}"#)
        .await;
    let line = parsed(bridge.heard().await);
    assert_eq!(line["id"], "w-2");
    assert_eq!(line["error"]["code"], 4001);
}

#[tokio::test]
async fn to_a_worker_of_the_spoken_version_bytes_pass_untouched() {
    let mut bridge = Bridge::start(methods::spoken());
    let params = r#"{"b":1.0,"a":  [1e400,"\u00e9"],"b":2}"#;
    bridge.call(1, "getData", params).await;
    let line = bridge.heard().await;
    assert_eq!(
        line,
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"getData","params":{params}}}"#)
    );
    bridge
        .say(&format!(r#"{{"jsonrpc":"2.0","id":1,"result":{params}}}"#))
        .await;
    assert_eq!(bridge.outcome().await.unwrap(), params);
}

#[test]
fn the_made_up_version_is_offered_to_nobody() {
    assert!(methods::offered(SECOND.number).is_err());
}
