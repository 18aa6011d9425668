//! Bursts both ways, side by side: the order in which worker and host hear each other, under the
//! original's worker manager and in a pod with one host and with three.

use std::fs;

use bytes::Bytes;
use futures::future::join_all;
use paperclip_bridge::{
    client::{Incoming, SessionSender},
    v1::Notification,
};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::{
    PATIENCE, invocation, original, pod,
    support::{host::connect, pod::Pod},
    workers,
};

/// Messages of a host in one burst.
const MESSAGES: usize = 120;
/// Rounds of three messages each that the worker says before it answers.
const ROUNDS: usize = 60;

/// What a host says: calls and notifications of all kinds, some of them large, the next one before
/// the last one was answered.
fn messages() -> Vec<Value> {
    let message = |n: usize| match n % 8 {
        0 => json!({"method": "getData", "params": {"key": "echo", "n": n}}),
        1 | 5 => json!({"method": "onEvent", "isTold": true, "params": {"event":
            {"eventId": format!("e-{n}"), "eventType": "issue.created", "companyId": "company-1", "n": n}}}),
        2 => {
            json!({"method": "performAction", "params": {"key": "echo", "n": n, "companyId": "company-1"}})
        }
        // Too large to pass without a task, and in chunks.
        3 => {
            json!({"method": "getData", "params": {"key": "echo", "n": n, "text": "x".repeat(200_000)}})
        }
        4 => json!({"method": "runJob", "params": {"job":
            {"jobKey": "sync", "runId": "r", "trigger": "schedule", "scheduledAt": format!("at {n}"), "n": n}}}),
        6 => {
            json!({"method": "executeTool", "params": {"n": n, "runContext": {"companyId": "company-2"}}})
        }
        _ => json!({"method": "handleWebhook", "params": {"n": n}}),
    };
    (0..MESSAGES).map(message).collect()
}

fn burst() -> Value {
    json!({"key": "burst", "count": ROUNDS, "companyId": "company-1"})
}

/// The original's orders: what its worker heard, and what it heard of its worker.
fn recorded() -> (Value, Value) {
    let folder = tempfile::tempdir().unwrap();
    let worker = workers::ordered();
    drop(worker.artifact(folder.path()));
    let (input, output) = (
        folder.path().join("cases.json"),
        folder.path().join("results.json"),
    );
    let asked = json!({"messages": messages(), "burst": burst(), "manifest": worker.manifest});
    fs::write(&input, asked.to_string()).unwrap();
    let entry = worker.entry(folder.path());
    original("order.mjs", folder.path(), &[&entry, &input, &output]);
    let mut results: Value = serde_json::from_slice(&fs::read(output).unwrap()).unwrap();
    (results["heard"].take(), results["host"].take())
}

struct Host {
    sender: SessionSender,
    heard: mpsc::UnboundedReceiver<Incoming>,
    number: usize,
}

impl Host {
    async fn attach(pod: &Pod, number: usize) -> Self {
        let (_, sender, heard) = connect(pod).await;
        Self {
            sender,
            heard,
            number,
        }
    }

    async fn call(&self, n: usize, method: &str, params: &Value) -> Value {
        let invocation = invocation(1000 * self.number + n, params);
        let params = params.to_string().into();
        let answered = self
            .sender
            .call(method, params, invocation, PATIENCE, false);
        serde_json::from_slice(&answered.await.unwrap()).unwrap()
    }

    async fn say(&self, n: usize, message: &Value) {
        let mut message = message.clone();
        let method = message["method"].as_str().unwrap().to_owned();
        let mut params = message["params"].take();
        // Each host has events and slots of its own here: what it says is compared, not once.
        for pointer in ["/event/eventId", "/job/scheduledAt"] {
            if let Some(name) = params.pointer_mut(pointer) {
                *name = format!("{} of {}", name.as_str().unwrap(), self.number).into();
            }
        }
        if params.pointer("/event/n").is_some() {
            params["event"]["host"] = self.number.into();
        }
        if message["isTold"] == true {
            let told = Notification {
                method,
                params_json: params.to_string().into(),
                ..Notification::default()
            };
            return self.sender.tell(told).await.unwrap();
        }
        let answer = self.call(n, &method, &params).await;
        assert!(answer == n || answer.is_null(), "{method} {n}: {answer}");
    }

    /// What the host has heard of the worker so far, and answers it.
    async fn heard(&mut self) -> Value {
        let mut heard = Vec::new();
        while let Ok(message) = self.heard.try_recv() {
            let (method, params) = match &message {
                Incoming::Request(request) => (&request.method, &request.params_json),
                // What is told to all is the others' too, without an invocation.
                Incoming::Notification(told) if !told.invocation_id.is_empty() => {
                    (&told.method, &told.params_json)
                }
                _ => continue,
            };
            let params: Value = serde_json::from_slice(params).unwrap();
            let n = ["/event/n", "/value", "/payload/n"]
                .iter()
                .find_map(|pointer| params.pointer(pointer));
            heard.push(json!([method, n]));
            if let Incoming::Request(request) = message {
                let null = Ok(Bytes::from_static(b"null"));
                self.sender.respond(request.id, null).await.unwrap();
            }
        }
        heard.into()
    }
}

async fn compare(hosts: usize) {
    let wanted = tokio::task::spawn_blocking(recorded);
    let worker = workers::ordered();
    let (pod, _) = pod(&worker, json!({})).await;
    let mut attached = Vec::new();
    for number in 0..hosts {
        attached.push(Host::attach(&pod, number).await);
    }
    let (wanted_by_worker, wanted_by_host) = wanted.await.unwrap();
    assert_eq!(wanted_by_worker.as_array().unwrap().len(), MESSAGES);
    assert_eq!(wanted_by_host.as_array().unwrap().len(), 3 * ROUNDS);

    let messages = messages();
    for host in &mut attached {
        let before = heard_by_worker(host).await.len();
        join_all(
            messages
                .iter()
                .enumerate()
                .map(|(n, message)| host.say(n, message)),
        )
        .await;
        let heard = heard_by_worker(host).await.split_off(before);
        assert_eq!(Value::from(heard), wanted_by_worker, "host {}", host.number);
    }
    for host in &mut attached {
        host.heard().await;
        host.call(MESSAGES, "performAction", &burst()).await;
        // The answer is here, so everything that was said before it is.
        assert_eq!(host.heard().await, wanted_by_host, "host {}", host.number);
    }
    // All at once: each host finds its own order.
    let saying = attached.iter_mut().map(async |host| {
        host.call(MESSAGES, "performAction", &burst()).await;
        let heard = host.heard().await;
        assert_eq!(heard, wanted_by_host, "host {}", host.number);
    });
    join_all(saying).await;
}

async fn heard_by_worker(host: &Host) -> Vec<Value> {
    let heard = host.call(0, "getData", &json!({"key": "heard"})).await;
    heard.as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bursts_have_the_order_of_the_original_with_one_host() {
    compare(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bursts_have_the_order_of_the_original_with_three_hosts() {
    compare(3).await;
}
