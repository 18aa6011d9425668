//! Limits of calls between hosts and a worker in memory: what each refuses, in which words, and
//! that one host's flood and one host's slowness are its own.

#[path = "../in_memory/mod.rs"]
mod in_memory;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use in_memory::{Host, Worker};
use paperclip_bridge::v1::{
    Cancel, Request, Response, RpcError, SessionRequest, response, session_request,
    session_response,
};
use paperclip_protocol::{jsonrpc, limits::Limits};
use paperclip_sidecar::{grants::Grants, multiplexer::Multiplexer};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

const PATIENCE: Duration = Duration::from_secs(20);

/// A pod in memory whose worker is initialised.
struct Pod {
    multiplexer: Arc<Multiplexer>,
    worker: Worker,
}

impl Pod {
    fn start(limits: Limits) -> Self {
        let multiplexer = Multiplexer::new(Grants::of(["plugin.state.read"]));
        multiplexer.gate.set(limits);
        let worker = Worker::start(&multiplexer);
        multiplexer.serve();
        Self {
            multiplexer,
            worker,
        }
    }

    /// The next line that the worker is sent.
    async fn line(&mut self) -> Value {
        let line = tokio::time::timeout(PATIENCE, self.worker.stdin.recv()).await;
        serde_json::from_str(&line.expect("a line in time").expect("a line")).unwrap()
    }

    async fn say(&mut self, message: Value) {
        let line = format!("{message}\n");
        self.worker.stdout.write_all(line.as_bytes()).await.unwrap();
    }

    async fn answer(&mut self, id: &Value, result: Value) {
        self.say(json!({"jsonrpc": "2.0", "id": id, "result": result}))
            .await;
    }

    fn metric(&self, name: &str) -> u64 {
        let text = self.multiplexer.metrics.render();
        let line = text.lines().find(|line| line.starts_with(name));
        line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }

    fn refused(&self, limit: &str) -> u64 {
        self.metric(&format!(
            "paperclip_sidecar_refused_calls_total{{limit=\"{limit}\"}}"
        ))
    }

    /// Waits until a limit has refused so many calls.
    async fn refuses(&self, limit: &str, wanted: u64) {
        let refuses = async {
            while self.refused(limit) < wanted {
                tokio::task::yield_now().await;
            }
        };
        let refused = tokio::time::timeout(PATIENCE, refuses).await;
        let found = self.refused(limit);
        refused.unwrap_or_else(|_| panic!("{limit} refused {found} calls, wanted {wanted}"));
    }
}

async fn send(host: &Host, frame: session_request::Frame) {
    let sent = host.requests.send(Ok(SessionRequest::from(frame))).await;
    sent.expect("the session stands");
}

/// Calls; `who` comes back in the params that the worker sees.
async fn call(host: &Host, id: u64, method: &str, who: &str, timeout: Duration) {
    let request = Request {
        id,
        method: method.into(),
        params_json: json!({ "who": who }).to_string().into(),
        timeout_ms: timeout.as_millis() as u64,
        ..Request::default()
    };
    send(host, session_request::Frame::Request(request)).await;
}

/// The next answer to a host.
async fn answered(host: &mut Host) -> (u64, Result<Bytes, RpcError>) {
    loop {
        let frame = tokio::time::timeout(PATIENCE, host.frames.recv()).await;
        let frame = frame
            .expect("an answer in time")
            .expect("the session stands");
        if let Some(session_response::Frame::Response(Response { id, outcome })) = frame.frame {
            return match outcome.expect("an outcome") {
                response::Outcome::ResultJson(result) => (id, Ok(result)),
                response::Outcome::Error(error) => (id, Err(error)),
            };
        }
    }
}

async fn refusal(host: &mut Host) -> RpcError {
    answered(host).await.1.expect_err("it was answered well")
}

fn data(error: &RpcError) -> Value {
    serde_json::from_slice(&error.data_json).unwrap()
}

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_host_that_floods_waits_behind_its_own_calls_and_another_is_next() {
    let mut pod = Pod::start(Limits {
        concurrency: Some(2),
        queue: Some(64),
        ..Limits::default()
    });
    let (flooding, mut calm) = (
        Host::attach(&pod.multiplexer, "flooding"),
        Host::attach(&pod.multiplexer, "calm"),
    );
    for id in 0..200 {
        call(&flooding, id, "getData", "flood", LONG).await;
    }
    let inside = [pod.line().await, pod.line().await];
    pod.refuses("Concurrency", 200 - 2 - 64).await;
    call(&calm, 1, "getData", "calm", LONG).await;
    pod.refuses("Concurrency", 200 - 2 - 64 + 1).await;
    // The flood's newest call made room, and after at most one other of its calls it is our turn.
    let mut seen = 0;
    let mut next = inside.to_vec();
    loop {
        let line = next.remove(0);
        if line["params"]["who"] == "calm" {
            pod.answer(&line["id"], json!("done")).await;
            break;
        }
        seen += 1;
        pod.answer(&line["id"], json!(null)).await;
        next.push(pod.line().await);
    }
    assert!(seen <= 4, "{seen} calls of the flood came first");
    assert_eq!(answered(&mut calm).await, (1, Ok("\"done\"".into())));
}

#[tokio::test]
async fn a_full_queue_is_refused_with_what_was_found_and_wanted() {
    let mut pod = Pod::start(Limits {
        concurrency: Some(1),
        queue: Some(1),
        ..Limits::default()
    });
    let mut host = Host::attach(&pod.multiplexer, "host");
    for id in 1..=3 {
        call(&host, id, "getData", "host", LONG).await;
    }
    let error = refusal(&mut host).await;
    assert_eq!(error.code, jsonrpc::LIMIT_EXCEEDED);
    let said = json!({"notSent": true, "limit": "concurrency", "most": 1, "waiting": 1});
    assert_eq!(data(&error), said);
    for _ in 0..2 {
        let line = pod.line().await;
        pod.answer(&line["id"], json!(1)).await;
        assert!(answered(&mut host).await.1.is_ok());
    }
    assert_eq!(pod.refused("Concurrency"), 1);
    assert_eq!(
        pod.metric("paperclip_sidecar_calls_total{direction=\"HostToWorker\",outcome=\"Refused\"}"),
        1
    );
}

#[tokio::test]
async fn a_rate_without_a_queue_refuses_what_is_above_it() {
    let mut pod = Pod::start(Limits {
        calls_per_second: Some(1),
        burst: Some(2),
        queue: Some(0),
        ..Limits::default()
    });
    let mut host = Host::attach(&pod.multiplexer, "host");
    for id in 1..=3 {
        call(&host, id, "getData", "host", LONG).await;
    }
    let error = refusal(&mut host).await;
    assert_eq!(
        (error.code, &data(&error)["limit"], &data(&error)["most"]),
        (jsonrpc::LIMIT_EXCEEDED, &json!("rate"), &json!(1))
    );
    assert_eq!(pod.refused("Rate"), 1);
    pod.line().await;
    pod.line().await;
}

#[tokio::test]
async fn a_call_ends_with_the_limit_though_its_host_would_wait_longer() {
    let mut pod = Pod::start(Limits {
        call_timeout_seconds: Some(1),
        ..Limits::default()
    });
    let mut host = Host::attach(&pod.multiplexer, "host");
    // One that passes at once and one that has a task of its own.
    for (id, method) in [(1, "getData"), (2, "vendor.call")] {
        call(&host, id, method, "host", LONG).await;
        pod.line().await;
        let error = refusal(&mut host).await;
        assert_eq!(error.code, jsonrpc::TIMEOUT);
        assert!(
            error.message.contains("within 1000 ms"),
            "{}",
            error.message
        );
    }
}

#[tokio::test]
async fn a_run_of_a_job_ends_with_a_limit_of_its_own() {
    let mut pod = Pod::start(Limits {
        call_timeout_seconds: Some(60),
        job_timeout_seconds: Some(1),
        ..Limits::default()
    });
    let mut host = Host::attach(&pod.multiplexer, "host");
    let job = json!({"job": {"jobKey": "sync", "scheduledAt": "2026-01-01T00:00:00Z"}});
    let request = Request {
        id: 1,
        method: "runJob".into(),
        params_json: job.to_string().into(),
        timeout_ms: 60_000,
        ..Request::default()
    };
    send(&host, session_request::Frame::Request(request)).await;
    assert_eq!(pod.line().await["method"], "runJob");
    assert_eq!(refusal(&mut host).await.code, jsonrpc::TIMEOUT);
}

#[tokio::test]
async fn payloads_are_limited_whichever_way_they_go() {
    let mut pod = Pod::start(Limits {
        payload_bytes: Some(1024),
        ..Limits::default()
    });
    let mut host = Host::attach(&pod.multiplexer, "host");
    let large = "x".repeat(2000);

    call(&host, 1, "getData", &large, LONG).await;
    let error = refusal(&mut host).await;
    assert_eq!(error.code, jsonrpc::PAYLOAD_TOO_LARGE);
    assert_eq!(
        error.message,
        "params of getData: 2010 bytes, wanted at most 1024"
    );

    call(&host, 2, "getData", "small", LONG).await;
    let line = pod.line().await;
    assert_eq!(line["params"]["who"], "small", "the large one never came");
    pod.answer(&line["id"], json!(large)).await;
    let error = refusal(&mut host).await;
    assert_eq!(
        error.message,
        "the worker's result: 2002 bytes, wanted at most 1024"
    );

    pod.say(json!({"jsonrpc": "2.0", "id": "a", "method": "state.get", "params": {"key": large}}))
        .await;
    let error = pod.line().await;
    assert_eq!(error["error"]["code"], jsonrpc::PAYLOAD_TOO_LARGE);

    pod.say(json!({"jsonrpc": "2.0", "id": "b", "method": "state.get", "params": {}}))
        .await;
    let asked = loop {
        let frame = host.frames.recv().await.unwrap().frame;
        if let Some(session_response::Frame::Request(request)) = frame {
            break request.id;
        }
    };
    let outcome = response::Outcome::ResultJson(json!(large).to_string().into());
    let answer = Response {
        id: asked,
        outcome: Some(outcome),
    };
    send(&host, session_request::Frame::Response(answer)).await;
    let error = pod.line().await;
    assert_eq!(
        (&error["id"], &error["error"]["code"]),
        (&json!("b"), &json!(jsonrpc::PAYLOAD_TOO_LARGE))
    );
    assert_eq!(pod.refused("Payload"), 4);
}

#[tokio::test]
async fn a_call_that_its_host_gives_up_makes_room_at_once() {
    let mut pod = Pod::start(Limits {
        concurrency: Some(1),
        ..Limits::default()
    });
    let mut host = Host::attach(&pod.multiplexer, "host");
    // The first passes, the second waits its turn in a task of its own.
    call(&host, 1, "getData", "first", LONG).await;
    let first = pod.line().await;
    call(&host, 2, "getData", "second", LONG).await;
    call(&host, 3, "getData", "third", LONG).await;
    for id in [2, 1] {
        send(&host, session_request::Frame::Cancel(Cancel { id })).await;
    }
    let third = pod.line().await;
    assert_eq!(third["params"]["who"], "third");
    assert_eq!(pod.metric("paperclip_sidecar_cancelled_calls_total"), 2);
    // An answer that nobody waits for any more is nobody's.
    pod.answer(&first["id"], json!("late")).await;
    pod.answer(&third["id"], json!("done")).await;
    assert_eq!(answered(&mut host).await, (3, Ok("\"done\"".into())));
}

#[tokio::test]
async fn hosts_hear_of_limits_at_the_start_and_when_they_change() {
    let pod = Pod::start(Limits {
        job_timeout_seconds: Some(7),
        ..Limits::default()
    });
    let mut host = Host::attach(&pod.multiplexer, "host");
    let hello = host.frames.recv().await.unwrap().frame.unwrap();
    let session_response::Frame::Hello(hello) = hello else {
        panic!("{hello:?}");
    };
    assert_eq!(hello.limits.unwrap().job_timeout_seconds, 7);
    pod.multiplexer.gate.set(Limits::default());
    let changed = loop {
        let frame = host.frames.recv().await.unwrap().frame.unwrap();
        if let session_response::Frame::LimitsChanged(limits) = frame {
            break limits;
        }
    };
    assert_eq!(changed.job_timeout_seconds, 0);
}

#[tokio::test]
async fn a_host_that_does_not_read_delays_no_news_of_another() {
    const NEWS: usize = 30_000;
    let mut pod = Pod::start(Limits::default());
    let mut idle = Host::attach(&pod.multiplexer, "idle");
    let mut reading = Host::attach(&pod.multiplexer, "reading");
    // Both are there; one of them reads no more.
    for host in [&mut idle, &mut reading] {
        host.frames.recv().await.expect("a hello");
    }
    let reads = tokio::spawn(async move {
        let mut heard = 0;
        while heard < NEWS {
            let frame = tokio::time::timeout(PATIENCE, reading.frames.recv()).await;
            let frame = frame.expect("news in time").expect("the session stands");
            if let Some(session_response::Frame::Notification(told)) = frame.frame {
                let number: Value = serde_json::from_slice(&told.params_json).unwrap();
                assert_eq!(number["event"], heard, "in order");
                heard += 1;
            }
        }
    });
    for event in 0..NEWS {
        pod.say(json!({"jsonrpc": "2.0", "method": "streams.emit", "params": {"event": event}}))
            .await;
    }
    reads.await.unwrap();
}

#[tokio::test]
async fn a_worker_with_too_many_calls_open_is_refused_the_next() {
    const MOST: u64 = 4096;
    let mut pod = Pod::start(Limits::default());
    // No host is there yet, so all of them wait.
    for id in 0..=MOST {
        pod.say(json!({"jsonrpc": "2.0", "id": id, "method": "state.get", "params": {}}))
            .await;
    }
    let refused = pod.line().await;
    assert_eq!(refused["id"], MOST);
    assert_eq!(refused["error"]["code"], jsonrpc::LIMIT_EXCEEDED);
    assert_eq!(refused["error"]["data"]["limit"], "callbacks");
    assert_eq!(refused["error"]["data"]["most"], MOST);
    assert_eq!(pod.refused("Callbacks"), 1);
}
