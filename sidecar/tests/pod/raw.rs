//! Workers of a few lines, one odd thing each.

use bytes::Bytes;
use paperclip_bridge::{
    client::{self, CallError},
    v1::{HostHello, WatchStatusResponse, WorkerReason, WorkerState},
};
use paperclip_identity::Identity;
use serde_json::{Value, json};

use crate::support::{
    artifact,
    host::{Host, Store},
    pod::{Pod, host, plugin},
};

async fn attached(worker: &'static str) -> (Pod, Host) {
    let pod = Pod::start(json!({}), |folder| {
        artifact::raw(folder, worker, &["plugin.state.read"])
    });
    pod.serving().await;
    let host = Host::attach(&pod, &Store::default()).await;
    (pod, host)
}

fn reason(state: &WatchStatusResponse) -> WorkerReason {
    let worker = state.worker.as_ref();
    worker.map_or(WorkerReason::Unspecified, WorkerState::reason)
}

#[tokio::test]
async fn line_separators_inside_strings_pass_both_ways() {
    let worker = r#"
        handlers.getData = ({ id, params }, line) =>
            send({ id, result: { raw: /[\u2028\u2029]/.test(line), text: params.text + "\u2028" } });
    "#;
    let (_pod, host) = attached(worker).await;
    let answer = host
        .call("getData", json!({"text": "a\u{2028}b\u{2029}"}))
        .await
        .unwrap();
    assert_eq!(
        answer,
        json!({"raw": false, "text": "a\u{2028}b\u{2029}\u{2028}"})
    );
}

#[tokio::test]
async fn string_ids_of_the_worker_are_answered_as_written() {
    let worker = r#"
        let waiting;
        handlers.getData = ({ id }) => { waiting = id; send({ id: "s-1", method: "echo", params: [1] }); };
        handlers.answer = ({ id, result }) => send({ id: waiting, result: { id, result } });
    "#;
    let (_pod, host) = attached(worker).await;
    let answer = host.call("getData", json!({})).await.unwrap();
    assert_eq!(answer, json!({"id": "s-1", "result": [1]}));
}

#[tokio::test]
async fn noise_on_stdout_becomes_a_log_record() {
    let worker = r#"
        handlers.getData = ({ id }) => { say("not a message"); send({ id, result: 1 }); };
    "#;
    let (pod, host) = attached(worker).await;
    assert_eq!(host.call("getData", json!({})).await.unwrap(), 1);
    assert_eq!(pod.logged("not a message", "stream").await, "stdout");
}

#[tokio::test]
async fn an_undeclared_capability_is_refused_before_a_host_hears_of_it() {
    let worker = r#"
        let waiting;
        handlers.getData = ({ id }) => { waiting = id; send({ id: 1, method: "state.set", params: {} }); };
        handlers.answer = ({ error }) => send({ id: waiting, result: error });
    "#;
    let (_pod, host) = attached(worker).await;
    let error = host.call("getData", json!({})).await.unwrap();
    assert_eq!(error["code"], -32001);
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("plugin.state.write")
    );
}

#[tokio::test]
async fn an_invocation_carries_its_id_and_keeps_to_its_company() {
    let worker = r#"
        let waiting, mine;
        handlers.getData = ({ id, params, paperclipInvocation }) => {
            waiting = id; mine = paperclipInvocation.id;
            send({ id: 1, method: "state.get", params: { scopeKind: "company", scopeId: params.ask }, paperclipInvocationId: mine });
        };
        handlers.answer = ({ result, error }) => send({ id: waiting, result: error ? error.code : { mine, result } });
    "#;
    let (_pod, host) = attached(worker).await;
    let invocation = Bytes::from_static(br#"{"id":"i-1","scope":{"companyId":"a"}}"#);
    let ask = |company| host.call_as("getData", json!({"ask": company}), invocation.clone());
    assert_eq!(
        ask("a").await.unwrap(),
        json!({"mine": "i-1", "result": null})
    );
    assert_eq!(ask("b").await.unwrap(), -32005);
}

#[tokio::test]
async fn a_large_message_passes_whole_in_both_directions() {
    let worker = r#"handlers.getData = ({ id, params }) => send({ id, result: params });"#;
    let (_pod, host) = attached(worker).await;
    let params = json!({"text": "x".repeat(5 * 1024 * 1024)});
    assert!(host.call("getData", params.clone()).await.unwrap() == params);
}

#[tokio::test]
async fn a_call_that_the_worker_never_answers_times_out_alone() {
    let worker = r#"
        handlers.getData = () => {};
        handlers.performAction = ({ id }) => send({ id, result: 2 });
    "#;
    let (_pod, host) = attached(worker).await;
    let limit = std::time::Duration::from_millis(300);
    let silent = host
        .sender
        .call("getData", Bytes::new(), Bytes::new(), limit, false)
        .await;
    assert!(
        matches!(&silent, Err(CallError::TimedOut(_)))
            || matches!(&silent, Err(CallError::Rpc(error)) if error.code == -32003),
        "{silent:?}"
    );
    assert_eq!(host.call("performAction", json!({})).await.unwrap(), 2);
}

#[tokio::test]
async fn subscriptions_made_before_a_host_is_there_are_in_its_hello() {
    let worker = r#"
        handlers.initialize = ({ id }) => {
            handlers.answer = () => send({ id, result: { ok: true } });
            send({ id: 1, method: "events.subscribe", params: { eventPattern: "issue.*" } });
        };
    "#;
    let pod = Pod::start(json!({}), |folder| {
        artifact::raw(folder, worker, &["events.subscribe"])
    });
    pod.serving().await;
    let host = Host::attach(&pod, &Store::default()).await;
    let [subscription] = &host.hello.subscriptions[..] else {
        panic!("{:?}", host.hello.subscriptions);
    };
    let params: Value = serde_json::from_slice(&subscription.params_json).unwrap();
    assert_eq!(params, json!({"eventPattern": "issue.*"}));
}

#[tokio::test]
async fn a_worker_that_exits_at_once_is_reported_with_its_last_words() {
    let pod = Pod::start(json!({}), |folder| {
        artifact::raw(folder, r#"console.error("no luck"); process.exit(3);"#, &[])
    });
    let state = pod
        .state("failed", |state| reason(state) == WorkerReason::Exited)
        .await;
    let message = state.worker.unwrap().message;
    assert!(
        message.contains("code 3") && message.contains("no luck"),
        "{message}"
    );
    let again = pod
        .state("tried again", |state| {
            state
                .worker
                .as_ref()
                .is_some_and(|worker| worker.restarts >= 2)
        })
        .await;
    assert_eq!(reason(&again), WorkerReason::Exited);
}

#[tokio::test]
async fn a_worker_that_never_answers_initialize_is_ended_and_started_again() {
    let pod = Pod::start(json!({}), |folder| {
        artifact::raw(folder, "handlers.initialize = () => {};", &[])
    });
    let state = pod
        .state("failed", |state| {
            reason(state) == WorkerReason::InitializeFailed
        })
        .await;
    assert!(state.worker.unwrap().message.contains("15 s"));
    let again = pod
        .state("started again", |state| {
            state
                .worker
                .as_ref()
                .is_some_and(|worker| worker.running && worker.restarts == 1)
        })
        .await;
    assert_eq!(reason(&again), WorkerReason::InitializeFailed);
}

#[tokio::test]
async fn another_artifact_is_not_started() {
    let pod = Pod::start(json!({}), |folder| {
        let artifact = artifact::raw(folder, "", &[]);
        std::fs::write(artifact.0.join(".paperclip/marker"), "another").unwrap();
        artifact
    });
    let state = pod
        .state("refused", |state| {
            reason(state) == WorkerReason::StartRefused
        })
        .await;
    assert!(state.worker.unwrap().message.contains("says another"));
}

#[tokio::test]
async fn a_worker_of_a_version_that_is_not_served_is_refused_by_name() {
    let pod = Pod::start(json!({}), |folder| {
        let artifact = artifact::raw(folder, "", &[]);
        let path = artifact.0.join(".paperclip/plugin-manifest.json");
        let manifest = std::fs::read_to_string(&path).unwrap();
        let manifest = manifest.replace(r#""apiVersion":1"#, r#""apiVersion":7"#);
        std::fs::write(path, manifest).unwrap();
        artifact
    });
    let state = pod
        .state("refused", |state| {
            reason(state) == WorkerReason::ApiVersionUnsupported
        })
        .await;
    assert_eq!(
        state.worker.unwrap().message,
        "the plugin manifest says apiVersion 7, wanted 1"
    );
}

#[tokio::test]
async fn only_the_host_of_the_facts_and_the_operator_are_let_in() {
    let (pod, _host) = attached("").await;
    let hello = HostHello {
        host_namespace: "paperclip".into(),
        host_name: "other".into(),
        ..HostHello::default()
    };
    let other = Identity::Host {
        namespace: "paperclip".into(),
        name: "other".into(),
    };
    let address = pod.address().await;
    for stranger in [other, Identity::Operator, plugin()] {
        let tls = pod.authority.client(&stranger);
        assert!(
            client::connect(address, &tls, &plugin(), hello.clone())
                .await
                .is_err()
        );
    }
    let tls = pod.authority.client(&host());
    assert!(
        client::watch_status(address, &tls, &plugin())
            .await
            .is_err()
    );
    assert!(client::watch_status(address, &tls, &host()).await.is_err());
}
