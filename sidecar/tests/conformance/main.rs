//! The same cases against the server package's own worker manager and against the bridge.
//!
//! What the original does is recorded in the run itself: it starts the worker as its child and
//! makes the calls. Then the bridge makes them, from one host and from three. What callers get
//! and what the worker hears has to be the same, ids apart. Exceptions, in one place:
//! [`without_exceptions`].

mod breaks;
mod order;
#[allow(
    dead_code,
    reason = "shared with the tests of the pod, which use the rest"
)]
#[path = "../pod/support/mod.rs"]
mod support;
mod workers;

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use paperclip_bridge::{
    client::{CallError, Incoming, SessionSender},
    v1::{Request, RpcError},
};
use paperclip_protocol::jsonrpc;
use serde_json::{Value, json};
use support::{artifact, host::connect, pod::Pod};
use workers::Worker;

/// Timeout of a case that names none.
const PATIENCE: Duration = Duration::from_secs(15);

/// The published server package's own worker manager, as a module to import.
fn worker_manager() -> PathBuf {
    artifact::installed("@paperclipai/server@2026.916.1")
        .join("node_modules/@paperclipai/server/dist/services/plugin-worker-manager.js")
}

/// What came of a case: what the caller got, and what the worker heard.
fn recorded(folder: &Path, entry: &Path, worker: &Worker) -> Vec<Value> {
    let (input, output) = (folder.join("cases.json"), folder.join("results.json"));
    let asked = json!({"cases": worker.cases, "manifest": worker.manifest,
        "transcript": worker.has_transcript});
    fs::write(&input, asked.to_string()).unwrap();
    original("manager.mjs", folder, &[entry, &input, &output]);
    serde_json::from_slice(&fs::read(output).unwrap()).unwrap()
}

/// Runs a script over the original's worker manager.
fn original(script: &str, folder: &Path, arguments: &[&Path]) {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance");
    let log = fs::File::create(folder.join("manager.log")).unwrap();
    let status = Command::new(artifact::node())
        .arg(scripts.join(script))
        .arg(worker_manager())
        .args(arguments)
        // The server package keeps logs below its home.
        .env("HOME", folder)
        .env("PAPERCLIP_HOME", folder)
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .status()
        .unwrap();
    let log = fs::read_to_string(folder.join("manager.log")).unwrap();
    assert!(status.success(), "{log}");
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

/// What hosts that share one store keep for a worker.
type Store = Arc<Mutex<HashMap<String, Value>>>;

/// A host that answers its worker as the handlers in `manager.mjs` do.
async fn host(pod: &Pod, store: &Store) -> SessionSender {
    let (_, sender, mut incoming) = connect(pod).await;
    let (answers, store) = (sender.clone(), store.clone());
    tokio::spawn(async move {
        while let Some(message) = incoming.recv().await {
            if let Incoming::Request(request) = message {
                let outcome = answer(&request, &store).map(|value| Bytes::from(value.to_string()));
                let _ = answers.respond(request.id, outcome).await;
            }
        }
    });
    sender
}

fn answer(request: &Request, store: &Store) -> Result<Value, RpcError> {
    let params: Value = serde_json::from_slice(&request.params_json).unwrap();
    let key = params["stateKey"].as_str().unwrap_or_default();
    let mut store = store.lock().unwrap();
    match request.method.as_str() {
        "state.set" => {
            store.insert(key.to_owned(), params["value"].clone());
            Ok(Value::Null)
        }
        "state.get" if key == "refused" => Err(RpcError::new(jsonrpc::WORKER_ERROR, "not today")),
        "state.get" => match (params.get("fail"), store.get(key)) {
            (Some(fail), _) => Err(RpcError::new(
                fail["code"].as_i64().unwrap() as i32,
                fail["message"].as_str().unwrap(),
            )),
            (None, Some(kept)) => Ok(kept.clone()),
            (None, None) => Ok(json!({"got": params})),
        },
        method => {
            let message = format!("Host does not handle method \"{method}\"");
            Err(RpcError::new(jsonrpc::METHOD_NOT_FOUND, message))
        }
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
        Err(CallError::NotSent(message)) => {
            json!({"error": {"code": jsonrpc::WORKER_UNAVAILABLE, "message": message}})
        }
        Err(CallError::TimedOut(_)) => json!({"error": {"code": jsonrpc::TIMEOUT, "message": ""}}),
        Err(other) => panic!("{}: {other}", case["name"]),
    }
}

/// A pod with a worker, and the worker's file for the original.
async fn pod(worker: &Worker, config: Value) -> (Pod, PathBuf) {
    let mut entry = PathBuf::new();
    let pod = Pod::start(config, |folder| {
        entry = worker.entry(folder);
        worker.artifact(folder)
    });
    pod.serving().await;
    (pod, entry)
}

async fn compare(worker: &Worker, hosts: usize) {
    let (pod, entry) = pod(worker, json!({})).await;
    let folder = tempfile::tempdir().unwrap();
    let recorded = recorded(folder.path(), &entry, worker);
    let (mut sessions, store) = (Vec::new(), Store::default());
    for _ in 0..hosts {
        sessions.push(host(&pod, &store).await);
    }
    let transcript = json!({"method": "getData", "params": {"key": "transcript"}});
    let mut differing = Vec::new();
    for (number, (case, wanted)) in worker.cases.iter().zip(recorded).enumerate() {
        let session = &sessions[number % hosts];
        let outcome = call(session, number, case).await;
        let heard = match worker.has_transcript {
            true => call(session, number, &transcript).await["result"].take(),
            false => Value::Null,
        };
        let found = without_exceptions(json!({"outcome": outcome, "heard": heard}));
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
    compare(&workers::raw(), 1).await;
}

#[tokio::test]
async fn each_of_three_hosts_finds_what_the_original_finds() {
    compare(&workers::raw(), 3).await;
}

#[tokio::test]
async fn one_host_finds_it_with_a_worker_of_the_published_sdk() {
    compare(&workers::sdk(), 1).await;
}

#[tokio::test]
async fn each_of_three_hosts_finds_it_with_a_worker_of_the_published_sdk() {
    compare(&workers::sdk(), 3).await;
}

#[tokio::test]
async fn one_host_finds_it_with_a_worker_in_another_language() {
    compare(&workers::tally(), 1).await;
}

#[tokio::test]
async fn each_of_three_hosts_finds_it_with_a_worker_in_another_language() {
    compare(&workers::tally(), 3).await;
}
