//! `why` on the wire: what is read, what is told of it, and what must never be.

use serde_json::{Value, json};

use crate::{cluster::FakeCluster, paperclip, stderr, stdout};

const PLUGIN: &str = "/apis/plugins.paperclip.ing/v1alpha1/namespaces/shop/paperclipplugins/coffee";
const REVISIONS: &str =
    "/apis/plugins.paperclip.ing/v1alpha1/namespaces/shop/paperclippluginrevisions";
const SETS: &str = "/apis/apps/v1/namespaces/shop/replicasets";
const JOBS: &str = "/apis/batch/v1/jobs";
const JOB_PODS: &str = "/api/v1/namespaces/platform/pods";
const EVENTS: &str = "/api/v1/namespaces/shop/events";
const JOB_EVENTS: &str = "/api/v1/namespaces/platform/events";
const SECRET: &str = "/api/v1/namespaces/shop/secrets/access";

/// A plugin whose packing fails, and which names a Secret.
fn plugin() -> Value {
    let failed = json!({"status": "False", "reason": "PackingFailed", "message": "The packing Job failed.",
        "lastTransitionTime": "2026-11-21T10:00:00Z"});
    let mut conditions = [failed.clone(), failed];
    conditions[0]["type"] = "Ready".into();
    conditions[1]["type"] = "ArtifactReady".into();
    json!({
        "apiVersion": "plugins.paperclip.ing/v1alpha1", "kind": "PaperclipPlugin",
        "metadata": {"name": "coffee", "namespace": "shop", "uid": "uid-of-coffee", "generation": 1},
        "spec": {
            "source": {"npm": {"package": "coffee", "version": "2.0.0"}},
            "host": {"name": "gone", "namespace": "paperclip"},
            "secrets": [{"name": "mail", "secretRef": {"name": "access", "key": "password"}}],
        },
        "status": {"observedGeneration": 1, "conditions": conditions},
    })
}

fn list(items: &[Value]) -> Value {
    json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items})
}

fn job(name: &str, package: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "platform", "uid": format!("uid-of-{name}"),
            "annotations": {"plugins.paperclip.ing/package": package}},
        "status": {"failed": 3},
    })
}

fn warning(uid: &str, message: &str) -> Value {
    json!({
        "metadata": {"name": "e", "namespace": "shop"}, "type": "Warning", "reason": "Bad", "message": message,
        "involvedObject": {"kind": "Pod", "name": "p", "uid": uid},
    })
}

#[test]
fn what_belongs_to_the_plugin_is_read_and_nothing_else_is_told() {
    let words = json!({"error": {"reason": "PackingFailed", "message": "npm ran out of space"}})
        .to_string();
    let pod = json!({
        "metadata": {"name": "pack-2-x", "namespace": "platform", "uid": "uid-of-pod"},
        "status": {"initContainerStatuses": [{"name": "fetch", "image": "", "imageID": "", "ready": false,
            "restartCount": 0, "state": {"terminated": {"exitCode": 1, "message": words}}}]},
    });
    let cluster = FakeCluster::holding([
        (PLUGIN, plugin()),
        (REVISIONS, list(&[])),
        (SETS, list(&[])),
        (
            JOBS,
            list(&[job("pack-1", "tea@2.0.0"), job("pack-2", "coffee@2.0.0")]),
        ),
        (JOB_PODS, list(&[pod])),
        (EVENTS, list(&[warning("uid-of-other", "none of ours")])),
        (
            JOB_EVENTS,
            list(&[warning("uid-of-pod", "the node is full")]),
        ),
        (
            SECRET,
            json!({
                "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "access", "namespace": "shop"},
                "data": {"password": "c2VjcmV0LXdvcmQ="},
            }),
        ),
    ]);
    let output = paperclip(&cluster, &["why", "coffee"]);
    assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
    insta::assert_snapshot!("why", stdout(&output));

    let output = paperclip(&cluster, &["why", "coffee", "-o", "json"]);
    let told: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(told["reason"], "PackingFailed");
    assert_eq!(told["notRead"], json!([]));
    for value in ["secret-word", "c2VjcmV0LXdvcmQ="] {
        assert!(!told.to_string().contains(value), "{told}");
    }
}

#[test]
fn what_must_not_be_read_is_named_and_the_rest_is_told() {
    let cluster = FakeCluster::holding([
        (PLUGIN, plugin()),
        (REVISIONS, list(&[])),
        (SETS, Value::Null),
        (JOBS, Value::Null),
        (
            EVENTS,
            list(&[warning("uid-of-coffee", "the plugin's own")]),
        ),
        (SECRET, Value::Null),
    ]);
    let output = paperclip(&cluster, &["why", "coffee"]);
    assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
    insta::assert_snapshot!("why_forbidden", stdout(&output));
}

#[test]
fn a_ready_plugin_takes_one_read() {
    let mut ready = plugin();
    ready["status"]["conditions"][0]["status"] = "True".into();
    let cluster = FakeCluster::holding([(PLUGIN, ready), (REVISIONS, Value::Null)]);
    let output = paperclip(&cluster, &["why", "coffee"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stdout(&output), "shop/coffee is Ready.\n");
}
