//! What the original is known to break and the bridge does not, side by side: the same scenario
//! with the same worker under the original's worker manager and in a pod.
//!
//! Once the original does one right, its scenario fails here and belongs to the others.

use std::{fs, future::Future, time::Duration};

use bytes::Bytes;
use paperclip_bridge::client::SessionSender;
use serde_json::{Value, json};

use crate::{Store, call, host, original, pod, support::pod::Pod, workers};

const NAMES: [&str; 11] = [
    "separatorInResult",
    "carriageReturn",
    "separatorInParams",
    "eventTwice",
    "slotTwice",
    "callDuringRestart",
    "configAfterCrash",
    "initializeHangs",
    "terminalNotClosed",
    "strayFrame",
    "callDuringStop",
];

struct Bench {
    pods: [Pod; 2],
    hosts: [SessionSender; 2],
    sdk: SessionSender,
}

impl Bench {
    async fn data(&self, key: &str) -> Value {
        let case = json!({"name": key, "method": "getData", "params": {"key": key}});
        call(&self.hosts[0], 1, &case).await["result"].take()
    }

    /// Ends the worker as a crash does.
    async fn die(&self) {
        let crash = json!({"name": "die", "method": "performAction", "params": {"key": "die"}});
        call(&self.hosts[0], 1, &crash).await;
    }

    /// What comes of a scenario here.
    async fn run(&self, name: &str) -> Value {
        match name {
            "separatorInResult" => self.data("separators").await,
            "carriageReturn" => self.data("carriage").await,
            "separatorInParams" => {
                let params = json!({"key": "echo", "params": {"text": "a\u{2028}b"}});
                let case = json!({"name": name, "method": "getData", "params": params});
                call(&self.sdk, 1, &case).await["result"]["text"].take()
            }
            "eventTwice" => {
                for host in &self.hosts {
                    let event = json!({"event": {"eventId": "e-1"}}).to_string().into();
                    host.notify("onEvent", event, Bytes::new()).await.unwrap();
                }
                let heard = |bench| async move { Bench::data(bench, "events").await };
                wait(|| heard(self), |heard| heard != &json!([])).await
            }
            "slotTwice" => {
                let job = json!({"jobKey": "sync", "scheduledAt": "2026-09-20T10:01:00.000Z"});
                let case = json!({"name": name, "method": "runJob", "params": {"job": job}});
                let [one, other] = &self.hosts;
                let ended = tokio::join!(call(one, 1, &case), call(other, 1, &case));
                assert_eq!(ended.0, ended.1);
                self.data("runs").await
            }
            "callDuringRestart" => {
                self.die().await;
                self.data("one").await
            }
            "configAfterCrash" => {
                self.die().await;
                self.data("configs").await
            }
            "initializeHangs" => {
                self.data("hang").await;
                self.die().await;
                wait(|| self.data("one"), |answer| answer == &json!(1)).await
            }
            "terminalNotClosed" => {
                let route = json!({"hostRouteId": "route-1"});
                for method in ["loginPtyOpen", "loginPtyClose"] {
                    let case = json!({"name": name, "method": method, "params": route});
                    assert!(call(&self.hosts[0], 1, &case).await["result"].is_object());
                }
                self.data("one").await
            }
            "strayFrame" => {
                assert_eq!(self.data("stray").await, 1);
                self.data("one").await
            }
            // The last: the pod is gone afterwards.
            "callDuringStop" => {
                let stop = async {
                    // Behind the slow one, which is under way when this is answered.
                    self.data("one").await;
                    self.pods[0].ask_shim_to_stop();
                };
                tokio::join!(self.data("slow"), stop).0
            }
            other => panic!("{other} is no scenario"),
        }
    }
}

fn wanted(name: &str) -> Value {
    match name {
        "separatorInResult" | "separatorInParams" => json!("a\u{2028}b"),
        "eventTwice" => json!(["e-1"]),
        "configAfterCrash" => json!([{"a": 1}]),
        _ => json!(1),
    }
}

/// Asks until an answer fits.
async fn wait<F: Future<Output = Value>>(
    ask: impl Fn() -> F,
    fits: impl Fn(&Value) -> bool,
) -> Value {
    let asking = async {
        loop {
            let answer = ask().await;
            if fits(&answer) {
                return answer;
            }
        }
    };
    let patience = Duration::from_secs(60);
    tokio::time::timeout(patience, asking)
        .await
        .expect("an answer that fits")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_original_breaks_the_bridge_does_not() {
    let (broken, sdk) = (workers::broken(), workers::sdk());
    let (pod, entry) = pod(&broken, json!({"a": 1})).await;
    let (sdk_pod, sdk_entry) = crate::pod(&sdk, json!({})).await;
    let folder = tempfile::tempdir().unwrap();
    // Each has the file by which the worker knows that it shall hang.
    let theirs = folder.path().join("broken.mjs");
    fs::copy(&entry, &theirs).unwrap();
    let output = folder.path().join("results.json");
    let (log, results) = (folder.path().to_owned(), output.clone());
    let recording = tokio::task::spawn_blocking(move || {
        original("breaks.mjs", &log, &[&theirs, &sdk_entry, &results]);
    });
    let store = Store::default();
    let bench = Bench {
        hosts: [host(&pod, &store).await, host(&pod, &store).await],
        sdk: host(&sdk_pod, &store).await,
        pods: [pod, sdk_pod],
    };
    let mut ours = Vec::new();
    for name in NAMES {
        ours.push(bench.run(name).await);
    }
    recording.await.unwrap();
    let theirs: Value = serde_json::from_slice(&fs::read(output).unwrap()).unwrap();
    for (name, ours) in NAMES.into_iter().zip(ours) {
        println!("{name}: the original {}, the bridge {ours}", theirs[name]);
        assert_eq!(ours, wanted(name), "{name}");
        assert!(theirs[name].is_object(), "{name} was not run");
        assert_ne!(theirs[name]["result"], wanted(name), "{name}");
    }
}
