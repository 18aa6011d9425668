//! Config and secrets reach a worker that runs.

use paperclip_bridge::v1::{ConfigState, Phase, WorkerReason};
use serde_json::{Value, json};

use crate::support::{
    PATIENCE, artifact, eventually,
    host::{Host, Store},
    pod::{Pod, signal},
};

/// Notes what it is told, refuses `"colour": "invisible"`, and shows what it gets.
const WORKER: &str = r#"
    const told = [];
    const asked = new Map();
    let next = 1;
    handlers.initialize = ({ id }) => send({ id, result: { ok: true, supportedMethods: ["validateConfig", "configChanged"] } });
    handlers.validateConfig = ({ id, params }) => send({ id, result: params.config.colour === "invisible"
        ? { ok: false, errors: [`nobody sees it, said ${params.config.password}`] } : { ok: true } });
    handlers.configChanged = ({ id, params }) => {
        told.push(params.config);
        if (params.config.restart && told.length > 1) send({ id, error: { code: -32004, message: "not here" } });
        else send({ id, result: null });
    };
    handlers.answer = ({ id, result, error }) => { asked.get(id)(result ?? error); asked.delete(id); };
    const ask = (method, params) => new Promise((resolve) => { asked.set(next, resolve); send({ id: next++, method, params }); });
    handlers.getData = async ({ id }) => {
        const config = await ask("config.get", {});
        const secret = await ask("secrets.resolve", { secretRef: { type: "secret_ref", secretId: "token" } });
        console.error(`the token is ${secret}`);
        send({ id, result: { told, config, secret, pid: process.pid } });
    };
"#;

fn start() -> Pod {
    Pod::start(json!({"colour": "red"}), |folder| {
        artifact::raw(folder, WORKER, &["secrets.read-ref"])
    })
}

fn revision(number: u64, config: Value) -> Value {
    let secrets = json!([
        {"name": "token", "value": "t0p-secret"},
        {"name": "password", "fill": "/password", "value": "pw-value"},
    ]);
    json!({"revision": number, "config": config, "secrets": secrets})
}

async fn shown(host: &Host) -> Value {
    host.call("getData", json!({})).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_is_taken_up_by_the_running_worker_and_given_to_the_next() {
    let pod = start();
    pod.serving().await;
    let store = Store::default();
    let host = Host::attach(&pod, &store).await;
    let before = shown(&host).await;
    assert_eq!(before["told"], json!([{"colour": "red"}]));

    let active = json!({"revision": 1, "config": {"colour": "red"}});
    pod.deliver(json!({"active": active, "candidate": revision(2, json!({"colour": "blue"}))}));
    pod.config("taken up", |config| config.revision == 2).await;
    let after = shown(&host).await;
    assert_eq!(after["pid"], before["pid"]);
    let filled = json!({"colour": "blue", "password": "pw-value"});
    assert_eq!(after["told"], json!([{"colour": "red"}, filled]));
    // The host was told without the value, and the worker reads it with the value.
    assert_eq!(store.config(), json!({"colour": "blue"}));
    assert_eq!(after["config"], filled);
    assert_eq!(after["secret"], "t0p-secret");

    // Made active, it is no news.
    pod.deliver(json!({"active": revision(2, json!({"colour": "blue"}))}));
    let first = pod.logged("worker started", "pid").await.as_u64().unwrap() as u32;
    signal(first, "KILL");
    pod.state("restarted", |state| {
        state.worker.as_ref().is_some_and(|w| w.restarts == 1)
    })
    .await;
    pod.serving().await;
    let next = shown(&host).await;
    assert_ne!(next["pid"], before["pid"]);
    assert_eq!(next["told"], json!([filled]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_candidate_changes_nothing_and_is_told_without_secrets() {
    let pod = start();
    pod.serving().await;
    let host = Host::attach(&pod, &Store::default()).await;
    let active = json!({"revision": 1, "config": {"colour": "red"}});
    pod.deliver(
        json!({"active": active, "candidate": revision(2, json!({"colour": "invisible"}))}),
    );
    let refused = pod
        .config("refused", |config| config.refused_revision == 2)
        .await;
    assert_eq!(refused.revision, 1);
    assert_eq!(refused.message, "nobody sees it, said [redacted]");
    assert_eq!(shown(&host).await["told"], json!([{"colour": "red"}]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_accepted_config_a_refused_one_keeps_the_worker_from_serving() {
    let pod = Pod::start_with(
        json!({"candidate": revision(1, json!({"colour": "invisible"}))}),
        |folder| artifact::raw(folder, WORKER, &[]),
    );
    let refused = pod
        .config("refused", |config| config.refused_revision == 1)
        .await;
    assert_eq!(refused.revision, 0);
    let state = pod
        .state("named", |state| {
            state
                .worker
                .as_ref()
                .is_some_and(|worker| worker.reason() == WorkerReason::ConfigRejected)
        })
        .await;
    assert_eq!(state.phase(), Phase::Starting);
    pod.deliver(json!({"candidate": revision(2, json!({"colour": "blue"}))}));
    pod.config("taken up", |config| config.revision == 2).await;
    pod.state("serving", |state| state.phase() == Phase::Serving)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_takes_config_at_its_start_only_is_restarted_once() {
    let pod = start();
    pod.serving().await;
    let active = json!({"revision": 1, "config": {"colour": "red"}});
    pod.deliver(json!({"active": active, "candidate": revision(2, json!({"restart": true}))}));
    let state = pod
        .state("restarted and serving", |state| {
            let worker = state.worker.as_ref();
            worker.is_some_and(|worker| {
                worker.restarts == 1 && worker.reason() == WorkerReason::Unspecified
            }) && state.phase() == Phase::Serving
        })
        .await;
    assert_eq!(state.config.unwrap().revision, 2);
    let host = Host::attach(&pod, &Store::default()).await;
    assert_eq!(shown(&host).await["told"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_that_takes_over_does_not_tell_the_worker_again() {
    let mut pod = start();
    pod.serving().await;
    let active = json!({"revision": 1, "config": {"colour": "red"}});
    pod.deliver(json!({"active": active, "candidate": revision(2, json!({"colour": "blue"}))}));
    let host = Host::attach(&pod, &Store::default()).await;
    let hears_of_both = async { while shown(&host).await["told"].as_array().unwrap().len() < 2 {} };
    let heard = tokio::time::timeout(PATIENCE, hears_of_both).await;
    heard.expect("the worker hears of both revisions");
    // Until then nobody but the worker knows that it was told.
    pod.config("in force", |config| config.revision == 2).await;
    let worker = pod.logged("worker started", "pid").await;
    pod.kill_sidecar();
    pod.start_sidecar();
    assert_eq!(
        pod.logged("a running worker was taken over", "pid").await,
        worker
    );
    pod.config("known", |config| config.revision == 2).await;
    let host = Host::attach(&pod, &Store::default()).await;
    let shown = shown(&host).await;
    assert_eq!(shown["told"].as_array().unwrap().len(), 2, "{shown}");
    assert_eq!(shown["secret"], "t0p-secret");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_a_worker_prints_is_redacted() {
    let pod = start();
    pod.serving().await;
    pod.deliver(json!({"active": revision(2, json!({"colour": "blue"}))}));
    pod.config("taken up", |config| config.revision == 2).await;
    let host = Host::attach(&pod, &Store::default()).await;
    assert_eq!(shown(&host).await["secret"], "t0p-secret");
    eventually("the line", || pod.has_logged("the token is [redacted]")).await;
}

/// Reads its config in its set-up, as many plugins do, and says what it found. What else it hears
/// of depends on the methods it says it has.
const READS_AT_START: &str = r#"
    let first;
    const heard = [];
    const asked = new Map();
    let next = 1;
    handlers.answer = ({ id, result, error }) => { asked.get(id)(result ?? error); asked.delete(id); };
    const ask = (method, params, paperclipInvocationId) => new Promise((resolve) => {
        asked.set(next, resolve);
        send({ id: next++, method, params, paperclipInvocationId });
    });
    handlers.initialize = async ({ id }) => {
        first = await ask("config.get", {});
        send({ id, result: { ok: true, supportedMethods: HEARS ? ["configChanged"] : [] } });
    };
    handlers.configChanged = async ({ id, params, paperclipInvocation }) => {
        heard.push([params.config, await ask("config.get", {}, paperclipInvocation.id)]);
        send(params.config.fails ? { id, error: { code: -32002, message: "not that" } } : { id, result: null });
    };
    handlers.getData = ({ id }) => send({ id, result: { first, heard, pid: process.pid } });
"#;

fn reads_at_start(hears: bool) -> Pod {
    Pod::start_with(
        json!({"candidate": revision(1, json!({"colour": "red"}))}),
        |folder| {
            let worker = format!("const HEARS = {hears};\n{READS_AT_START}");
            artifact::raw(folder, &worker, &[])
        },
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn set_up_reads_the_config_and_a_worker_without_a_hook_is_restarted_once_with_a_new_one() {
    let pod = reads_at_start(false);
    let host = Host::attach(&pod, &Store::default()).await;
    let config = pod.config("in force", |config| config.revision == 1).await;
    assert_eq!(config.refused_revision, 0);
    pod.serving().await;
    let before = shown(&host).await;
    let filled = |colour| json!({"colour": colour, "password": "pw-value"});
    assert_eq!(before["first"], filled("red"));

    let red = revision(1, json!({"colour": "red"}));
    pod.deliver(json!({"active": red, "candidate": revision(2, json!({"colour": "blue"}))}));
    // Nobody says that it has the config before it has.
    pod.config("taken up", |config| config.revision == 2).await;
    pod.serving().await;
    let after = shown(&host).await;
    assert_ne!(after["pid"], before["pid"]);
    assert_eq!(after["first"], filled("blue"));
    // The same config under another number is no news.
    pod.deliver(json!({"active": revision(3, json!({"colour": "blue"}))}));
    pod.config("taken up", |config| config.revision == 3).await;
    assert_eq!(shown(&host).await["pid"], after["pid"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hook_reads_the_config_within_its_call_and_one_that_fails_changes_nothing() {
    let pod = reads_at_start(true);
    let store = Store::default();
    let host = Host::attach(&pod, &store).await;
    pod.serving().await;
    let red = revision(1, json!({"colour": "red"}));
    let blue = revision(2, json!({"colour": "blue"}));
    pod.deliver(json!({"active": red, "candidate": blue.clone()}));
    pod.config("taken up", |config| config.revision == 2).await;
    let filled = |colour| json!({"colour": colour, "password": "pw-value"});
    let heard = json!([
        [filled("red"), filled("red")],
        [filled("blue"), filled("blue")]
    ]);
    assert_eq!(shown(&host).await["heard"], heard);

    let failing = revision(3, json!({"colour": "green", "fails": true}));
    pod.deliver(json!({"active": blue, "candidate": failing}));
    let refused = |config: &ConfigState| config.refused_revision == 3;
    let refused = pod.config("refused", refused).await;
    assert_eq!(refused.revision, 2);
    assert_eq!(refused.message, "configChanged failed (-32002): not that");
    eventually("the old config", || {
        (store.config() == json!({"colour": "blue"})).then_some(())
    })
    .await;
    assert_eq!(shown(&host).await["heard"].as_array().unwrap().len(), 3);
}
