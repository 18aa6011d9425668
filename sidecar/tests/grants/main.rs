//! What workers may ask: the table of methods and the gate, held against the published SDK, and
//! the counts of what was let through and refused.

#[allow(
    dead_code,
    reason = "shared with the tests of the pod, which use the rest"
)]
#[path = "../pod/support/artifact.rs"]
mod artifact;
mod calls;
#[path = "../in_memory/mod.rs"]
mod in_memory;

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use calls::Call;
use in_memory::{Host, Worker, random::Random};
use paperclip_bridge::v1::{
    Pong, Request, Response, SessionRequest, response, session_request, session_response,
};
use paperclip_protocol::{
    jsonrpc,
    methods::{self, Company, Direction, Method},
};
use paperclip_sidecar::{grants::Grants, multiplexer::Multiplexer};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

const DENIED: usize = 10_000;
const FUZZED: usize = 140_000;
/// How many of them name another company, at least.
const CROSSING: usize = 100_000;
/// Calls that are under way at once.
const BATCH: usize = 100;

/// What the SDK says of itself, and its judgement of calls made for company `a`.
fn sdk(calls: &[Call]) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let calls: Vec<Value> = calls
        .iter()
        .map(|call| json!({"method": call.method, "params": call.params}))
        .collect();
    fs::write(path("calls"), Value::from(calls).to_string()).unwrap();
    let sdk = artifact::installed("@paperclipai/server@2026.916.1")
        .join("node_modules/@paperclipai/plugin-sdk/dist/index.js");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/grants/sdk.mjs");
    let status = Command::new(artifact::node())
        .arg(script)
        .args([&sdk, &path("calls"), &path("results")])
        .status()
        .unwrap();
    assert!(status.success());
    serde_json::from_slice(&fs::read(path("results")).unwrap()).unwrap()
}

fn names(value: &Value) -> BTreeSet<&str> {
    let names = value.as_array().unwrap().iter();
    names.map(|name| name.as_str().unwrap()).collect()
}

fn of(fits: impl Fn(&Method) -> bool) -> BTreeSet<&'static str> {
    let fitting = methods::all().filter(|method| fits(method));
    fitting.map(|method| method.name).collect()
}

#[test]
fn the_table_is_that_of_the_published_sdk() {
    let sdk = sdk(&[]);
    let theirs = sdk["asked"].as_object().unwrap();
    let asks = |method: &Method| method.direction == Direction::WorkerRequest;
    assert_eq!(of(asks), theirs.keys().map(String::as_str).collect());
    for (name, capability) in theirs {
        let ours = methods::worker_request(name).unwrap().capability;
        assert_eq!(ours, capability.as_str(), "{name}");
    }
    // A host tells the worker of agents' sessions, which the SDK does not list.
    let mut served = names(&sdk["served"]);
    served.insert("agents.sessions.event");
    let to_worker = |method: &Method| {
        matches!(
            method.direction,
            Direction::HostRequest | Direction::HostNotification
        )
    };
    assert_eq!(of(to_worker), served);
    let told = of(|method| method.direction == Direction::WorkerNotification);
    assert!(told.is_superset(&names(&sdk["told"])), "{told:?}");
    assert_eq!(
        of(|method| method.company == Company::Own),
        names(&sdk["own"])
    );
    assert_eq!(
        of(|method| method.company == Company::Filter),
        names(&sdk["filtered"])
    );
    assert_eq!(of(|method| method.also.is_some()), names(&sdk["persons"]));
    let all = names(&sdk["all"]);
    assert!(methods::capabilities().is_subset(&all));
}

/// A worker that asks and a host that answers.
struct Bridge {
    multiplexer: std::sync::Arc<Multiplexer>,
    worker: Worker,
    host: Host,
    next: usize,
    /// Requests that came to the host.
    came: usize,
}

impl Bridge {
    fn start(grants: Grants) -> Self {
        let multiplexer = Multiplexer::new(grants);
        let worker = Worker::start(&multiplexer);
        multiplexer.serve();
        let host = Host::attach(&multiplexer, "one");
        Self {
            multiplexer,
            worker,
            host,
            next: 1,
            came: 0,
        }
    }

    /// The host begins a call for company `a` that stays open.
    async fn begin(&mut self) {
        let request = Request {
            id: 1,
            method: "getData".into(),
            invocation_json: r#"{"id":"open","scope":{"companyId":"a"}}"#.into(),
            timeout_ms: 1_000_000,
            ..Request::default()
        };
        let frame = session_request::Frame::Request(request);
        let sent = self.host.requests.send(Ok(SessionRequest::from(frame)));
        sent.await.unwrap();
        self.worker.stdin.recv().await.unwrap();
    }

    /// Makes calls within that one. Gives the code each ended with, 0 for a result.
    async fn ask(&mut self, calls: &[Call]) -> Vec<i64> {
        let first = self.next;
        self.next += calls.len();
        for (at, call) in calls.iter().enumerate() {
            let (id, method, params) = (first + at, call.method, &call.params);
            let line = format!(
                r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params},"paperclipInvocationId":"open"}}"#
            );
            let line = line + "\n";
            self.worker.stdout.write_all(line.as_bytes()).await.unwrap();
        }
        let mut codes = vec![None; calls.len()];
        while codes.contains(&None) {
            tokio::select! {
                line = self.worker.stdin.recv() => {
                    let answer: Value = serde_json::from_str(&line.unwrap()).unwrap();
                    let at = answer["id"].as_u64().unwrap() as usize - first;
                    let code = answer["error"]["code"].as_i64().unwrap_or_default();
                    assert!(codes[at].replace(code).is_none(), "{answer} came twice");
                }
                frame = self.host.frames.recv() => self.serve(frame.unwrap().frame).await,
            }
        }
        codes.into_iter().flatten().collect()
    }

    /// The host answers what it is asked, and whether it is there.
    async fn serve(&mut self, frame: Option<session_response::Frame>) {
        let answer = match frame {
            Some(session_response::Frame::Request(request)) => {
                self.came += 1;
                session_request::Frame::Response(Response {
                    id: request.id,
                    outcome: Some(response::Outcome::ResultJson("null".into())),
                })
            }
            Some(session_response::Frame::Ping(ping)) => {
                session_request::Frame::Pong(Pong { nonce: ping.nonce })
            }
            _ => return,
        };
        self.host.requests.send(Ok(answer.into())).await.unwrap();
    }
}

#[tokio::test]
async fn each_of_ten_thousand_calls_without_a_grant_is_refused_and_counted() {
    let asked = BTreeSet::from(["issues.read".to_owned()]);
    let mut bridge = Bridge::start(Grants::new(&asked, &BTreeSet::new()));
    bridge.begin().await;
    let needing: Vec<&Method> = methods::all()
        .filter(|method| method.capability.is_some())
        .collect();
    let mut random = Random::new(1);
    for _ in 0..DENIED / BATCH {
        let calls: Vec<Call> = (0..BATCH)
            .map(|_| Call {
                method: random.pick(&needing).unwrap().name,
                params: r#"{"companyId":"a"}"#.into(),
            })
            .collect();
        for code in bridge.ask(&calls).await {
            assert_eq!(code, i64::from(jsonrpc::CAPABILITY_DENIED));
        }
    }
    let shown = bridge.multiplexer.grants.shown();
    let denied: u64 = shown.iter().map(|usage| usage.denied).sum();
    let used: u64 = shown.iter().map(|usage| usage.used).sum();
    assert_eq!((denied, used, bridge.came), (DENIED as u64, 0, 0));
    let scraped = bridge.multiplexer.metrics.render();
    let issues = shown.iter().find(|usage| usage.capability == "issues.read");
    let count = issues.unwrap().denied;
    let line = format!(
        r#"paperclip_sidecar_capability_calls_total{{capability="issues.read",outcome="Denied"}} {count}"#
    );
    assert!(scraped.contains(&line), "{scraped}");
    assert!(scraped.contains(r#"capability_granted{capability="issues.read"} 0"#));
}

#[tokio::test]
async fn none_of_a_hundred_thousand_calls_reaches_another_company() {
    let mut random = Random::new(1);
    let all: Vec<Call> = (0..FUZZED).map(|_| calls::call(&mut random)).collect();
    let theirs = sdk(&all);
    let theirs = theirs["calls"].as_array().unwrap();
    let mut bridge = Bridge::start(Grants::of(methods::capabilities()));
    bridge.begin().await;
    let scope_denied = i64::from(jsonrpc::INVOCATION_SCOPE_DENIED);
    let (mut crossing, mut stricter) = (0, 0);
    for (calls, theirs) in all.chunks(BATCH).zip(theirs.chunks(BATCH)) {
        let ours = bridge.ask(calls).await;
        // A worker may make so many; this one has to go on.
        bridge.multiplexer.forget_subscriptions();
        for ((call, ours), theirs) in calls.iter().zip(ours).zip(theirs) {
            let theirs = theirs.as_i64().unwrap();
            crossing += usize::from(theirs == scope_denied);
            if ours == theirs {
                continue;
            }
            // Stricter only where its reader and ours may see different params.
            let refused = [scope_denied, i64::from(jsonrpc::INVALID_PARAMS)].contains(&ours);
            assert!(
                refused && call.params.contains("\\ud8"),
                "{call:?}: the original says {theirs}, the sidecar {ours}"
            );
            stricter += 1;
        }
    }
    println!("{FUZZED} calls: {crossing} crossed and were refused, {stricter} refused unread");
    assert!(crossing >= CROSSING, "{crossing} crossed");
    assert!(stricter > 0 && bridge.came > 0);
}
