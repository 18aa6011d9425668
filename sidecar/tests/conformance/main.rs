//! The same cases against the server package's own worker manager and against the bridge.
//!
//! What the original does is recorded in the run itself: it starts the worker as its child and
//! makes the calls. Then the bridge makes them, from one host and from three. What callers get
//! and what the worker hears has to be the same, ids apart. Exceptions, in one place:
//! [`without_exceptions`].

#[allow(
    dead_code,
    reason = "shared with the tests of the pod, which use the rest"
)]
#[path = "../pod/support/mod.rs"]
mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use bytes::Bytes;
use paperclip_proto::{
    client::{CallError, Incoming, SessionSender},
    jsonrpc,
    v1::{Request, RpcError},
};
use serde_json::{Value, json};
use support::{artifact, host::connect, pod::Pod};

const WORKER: &str = include_str!("worker.mjs");
const CAPABILITIES: &[&str] = &["plugin.state.read"];
/// Timeout of a case that names none.
const PATIENCE: Duration = Duration::from_secs(15);

/// The published server package's own worker manager, as a module to import.
fn worker_manager() -> PathBuf {
    artifact::installed("@paperclipai/server@2026.916.1")
        .join("node_modules/@paperclipai/server/dist/services/plugin-worker-manager.js")
}

/// Method, params and timeout of each call, under the name of the case.
fn cases() -> Vec<Value> {
    let data =
        |name: &str, params: Value| json!({"name": name, "method": "getData", "params": params});
    let error = |error: Value| json!({"key": "error", "error": error});
    let asks = |asks: Value| json!({"key": "asks", "asks": asks});
    vec![
        data(
            "a result",
            json!({"key": "echo", "params": {"b": 1, "a": [true, null, -0.5, 1e21, "é\u{1F600}"]}}),
        ),
        data("a null result", json!({"key": "nothing"})),
        data("a large result", json!({"key": "large"})),
        data(
            "large params",
            json!({"key": "echo", "text": "y".repeat(200_000)}),
        ),
        data(
            "an error",
            error(json!({"code": -32002, "message": "it failed"})),
        ),
        data(
            "an error with data",
            error(json!({"code": -32002, "message": "it failed", "data": {"a": [1]}})),
        ),
        data(
            "an error with null data",
            error(json!({"code": -32002, "message": "it failed", "data": null})),
        ),
        data(
            "an error of the worker's own code",
            error(json!({"code": 4711, "message": ""})),
        ),
        data(
            "result and error together",
            json!({"key": "both", "error": {"code": -32099, "message": "e"}}),
        ),
        data("an answer that comes twice", json!({"key": "twice"})),
        data("answers to nobody", json!({"key": "other"})),
        data("noise on stdout", json!({"key": "noise"})),
        data("a notification before the result", json!({"key": "tells"})),
        json!({"name": "a method that the worker lacks", "method": "validateConfig", "params": {"config": {}}}),
        json!({"name": "no answer", "method": "getData", "params": {"key": "never"}, "timeout": 300}),
        json!({"name": "an action in a company", "method": "performAction",
            "params": {"key": "echo", "companyId": "company-1"}}),
        json!({"name": "a tool in a company", "method": "executeTool",
            "params": {"key": "echo", "runContext": {"companyId": "company-2"}}}),
        data(
            "a call back",
            asks(json!([{"id": "w-1", "method": "state.get", "params": {"stateKey": "k"}}])),
        ),
        data(
            "a call back with a number for its id",
            asks(json!([{"id": 7, "method": "state.get", "params": {}}])),
        ),
        data(
            "a call back in a company",
            json!({"key": "asks", "companyId": "company-1",
            "asks": [{"id": "w-2", "method": "state.get", "params": {"companyId": "company-1"}}]}),
        ),
        data(
            "a call back that the host refuses",
            asks(json!([{"id": "w-3", "method": "state.get",
            "params": {"fail": {"code": -32002, "message": "not today"}}}])),
        ),
        data(
            "a call back that the host does not serve",
            asks(json!([{"id": "w-4", "method": "vendor.other", "params": {}}])),
        ),
    ]
}

/// What the original breaks and the bridge does not: a call, and the result it should have.
fn known_breaks() -> Vec<(Value, Value)> {
    // It takes U+2028 for the end of a line, as JavaScript's readline does, and drops both halves.
    let separators = json!({"name": "a line separator in a result", "method": "getData",
        "params": {"key": "separators"}, "timeout": 1000});
    vec![(separators, json!("a\u{2028}b"))]
}

/// What came of a case: what the caller got, and what the worker heard.
fn recorded(folder: &Path, entry: &Path, cases: &[Value]) -> Vec<Value> {
    let (input, output) = (folder.join("cases.json"), folder.join("results.json"));
    let manifest = json!({"id": "test.raw", "apiVersion": 1, "version": "1.0.0", "capabilities": CAPABILITIES});
    fs::write(
        &input,
        json!({"cases": cases, "manifest": manifest}).to_string(),
    )
    .unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/manager.mjs");
    let log = fs::File::create(folder.join("manager.log")).unwrap();
    let status = Command::new(artifact::node())
        .arg(script)
        .args([&worker_manager(), entry, &input, &output])
        // The server package keeps logs below its home.
        .env("HOME", folder)
        .env("PAPERCLIP_HOME", folder)
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .status()
        .unwrap();
    let log = fs::read_to_string(folder.join("manager.log")).unwrap();
    assert!(status.success(), "{log}");
    serde_json::from_slice(&fs::read(output).unwrap()).unwrap()
}

/// A result of either side, comparable. The exceptions:
/// - ids are each side's own;
/// - what a timeout says to people.
fn without_exceptions(mut result: Value) -> Value {
    for message in result["heard"].as_array_mut().into_iter().flatten() {
        if message["method"].is_string() {
            message["id"] = "<id>".into();
        }
        if let Some(invocation) = message.get_mut("paperclipInvocation") {
            invocation["id"] = "<id>".into();
        }
    }
    if let Some(error) = result["outcome"].get_mut("error")
        && error["code"] == jsonrpc::TIMEOUT
    {
        error["message"] = "<timeout>".into();
    }
    result
}

/// A host that answers its worker as the handlers in `manager.mjs` do.
async fn host(pod: &Pod) -> SessionSender {
    let (_, sender, mut incoming) = connect(pod).await;
    let answers = sender.clone();
    tokio::spawn(async move {
        while let Some(message) = incoming.recv().await {
            if let Incoming::Request(request) = message {
                let outcome = answer(&request).map(|value| Bytes::from(value.to_string()));
                let _ = answers.respond(request.id, outcome).await;
            }
        }
    });
    sender
}

fn answer(request: &Request) -> Result<Value, RpcError> {
    let params: Value = serde_json::from_slice(&request.params_json).unwrap();
    if request.method != "state.get" {
        let message = format!("Host does not handle method \"{}\"", request.method);
        return Err(RpcError::new(jsonrpc::METHOD_NOT_FOUND, message));
    }
    match params.get("fail") {
        Some(fail) => Err(RpcError::new(
            fail["code"].as_i64().unwrap() as i32,
            fail["message"].as_str().unwrap(),
        )),
        None => Ok(json!({"got": params})),
    }
}

/// The invocation that a host gives a call, as the original derives it.
fn invocation(number: usize, params: &Value) -> Bytes {
    let company = params["companyId"]
        .as_str()
        .or(params["runContext"]["companyId"].as_str());
    company.map_or_else(Bytes::new, |company| {
        let id = format!("invocation-{number}");
        json!({"id": id, "scope": {"companyId": company}})
            .to_string()
            .into()
    })
}

async fn call(host: &SessionSender, number: usize, case: &Value) -> Value {
    let params = &case["params"];
    let timeout = case["timeout"]
        .as_u64()
        .map_or(PATIENCE, Duration::from_millis);
    // The sidecar keeps the time as well; ours is only for when it does not.
    let outcome = host
        .call(
            case["method"].as_str().unwrap(),
            params.to_string().into(),
            invocation(number, params),
            timeout,
            false,
        )
        .await;
    match outcome {
        Ok(result) => json!({"result": serde_json::from_slice::<Value>(&result).unwrap()}),
        Err(CallError::Rpc(error)) => {
            let mut found = json!({"code": error.code, "message": error.message});
            if !error.data_json.is_empty() {
                found["data"] = serde_json::from_slice(&error.data_json).unwrap();
            }
            json!({"error": found})
        }
        Err(CallError::TimedOut(_)) => json!({"error": {"code": jsonrpc::TIMEOUT, "message": ""}}),
        Err(other) => panic!("{}: {other}", case["name"]),
    }
}

/// A pod with the worker, and the worker's file for the original.
async fn pod() -> (Pod, PathBuf) {
    let mut entry = PathBuf::new();
    let pod = Pod::start(json!({}), |folder| {
        entry = folder.join("artifact/node_modules/raw/worker.mjs");
        artifact::raw(folder, WORKER, CAPABILITIES)
    });
    pod.serving().await;
    (pod, entry)
}

async fn compare(hosts: usize) {
    let (pod, entry) = pod().await;
    let folder = tempfile::tempdir().unwrap();
    let wanted = recorded(folder.path(), &entry, &cases());
    let mut sessions = Vec::new();
    for _ in 0..hosts {
        sessions.push(host(&pod).await);
    }
    let transcript = json!({"method": "getData", "params": {"key": "transcript"}});
    let mut differing = Vec::new();
    for (number, (case, wanted)) in cases().iter().zip(wanted).enumerate() {
        let session = &sessions[number % hosts];
        let outcome = call(session, number, case).await;
        let heard = call(session, number, &transcript).await;
        let found = without_exceptions(json!({"outcome": outcome, "heard": heard["result"]}));
        let wanted = without_exceptions(wanted);
        if found != wanted {
            differing.push(format!(
                "{}:\n  original {wanted}\n  bridge   {found}",
                case["name"]
            ));
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

#[tokio::test]
async fn one_host_finds_what_the_original_finds() {
    compare(1).await;
}

#[tokio::test]
async fn each_of_three_hosts_finds_what_the_original_finds() {
    compare(3).await;
}

#[tokio::test]
async fn what_the_original_breaks_the_bridge_does_not() {
    let (pod, entry) = pod().await;
    let session = host(&pod).await;
    let folder = tempfile::tempdir().unwrap();
    let (calls, wanted): (Vec<Value>, Vec<Value>) = known_breaks().into_iter().unzip();
    let theirs = recorded(folder.path(), &entry, &calls);
    for (number, (case, wanted)) in calls.iter().zip(wanted).enumerate() {
        // Once the original does it right, the case belongs to the others.
        let theirs = &theirs[number]["outcome"];
        assert_ne!(theirs["result"], wanted, "{}", case["name"]);
        let ours = call(&session, number, case).await;
        assert_eq!(ours, json!({"result": wanted}), "{}", case["name"]);
    }
}
