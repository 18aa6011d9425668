//! Three pods of one plugin as processes, behind the host of this project: calls are spread or
//! stick, events and jobs have one place, and what workers say is kept.

use std::{collections::BTreeMap, fs, net::SocketAddr, path::Path, sync::Arc};

use paperclip_bridge::tls::{CA_FILE, CERTIFICATE_FILE, KEY_FILE};
use paperclip_host::{
    args::{AuthMode, ServeArgs},
    serve::Server,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{sync::oneshot, time::Instant};

use crate::support::{
    PATIENCE,
    artifact::{self, Artifact, RAW},
    certificates::Authority,
    pod::{Pod, host},
};

const UID: &str = "0d9f1a52-0000-4000-8000-000000000001";
const PLUGIN: &str = "/api/plugins/test.raw";
const TOKEN: &str = "a-token";

const WORKER: &str = r#"
    const state = { pid: process.pid, calls: 0, jobs: 0, events: 0 };
    handlers.initialize = ({ id }) => {
        send({ id: 1, method: "events.subscribe", params: { eventPattern: "plugin.test.raw.*" } });
        send({ id, result: { ok: true, supportedMethods: [] } });
    };
    handlers.getData = ({ id }) => { state.calls++; send({ id, result: state }); };
    handlers.runJob = ({ id }) => { state.jobs++; send({ id, result: null }); };
    handlers.onEvent = () => { state.events++; };
    handlers.answer = ({ id, error }) => { if (error) console.error(`${id}: ${error.message}`); };
    handlers.performAction = ({ id, params }) => {
        if (params.key === "emit")
            send({ id: "emit", method: "events.emit",
                   params: { name: "done", companyId: "00000000-0000-4000-8000-000000000001", payload: {} } });
        if (params.key === "say") {
            console.error("stderr knows s3cret-value");
            send({ method: "log", params: { level: "error", message: "told s3cret-value", meta: { also: "s3cret-value" } } });
        }
        send({ id, result: null });
    };
"#;

fn make(folder: &Path) -> Artifact {
    let root = folder.join("artifact");
    let package = root.join("node_modules/raw");
    fs::create_dir_all(&package).unwrap();
    fs::write(package.join("worker.mjs"), format!("{RAW}\n{WORKER}")).unwrap();
    let manifest = json!({
        "id": "test.raw", "apiVersion": 1, "version": "1.0.0", "displayName": "Raw", "description": "d", "author": "a",
        "categories": ["automation"], "entrypoints": {"worker": "./worker.mjs"},
        "capabilities": ["events.emit", "events.subscribe", "jobs.schedule"],
        "jobs": [{"jobKey": "sync", "displayName": "Sync"}],
    });
    artifact::facts(&root, &manifest.to_string(), "node_modules/raw");
    Artifact(root)
}

/// The pods, and a host that has a session with each.
struct Replicas {
    pods: Vec<Pod>,
    /// Names of the pods by the process of their worker.
    names: BTreeMap<u64, &'static str>,
    api: SocketAddr,
    client: reqwest::Client,
    _folder: TempDir,
    _stop: oneshot::Sender<()>,
}

impl Replicas {
    async fn start(names: &[&'static str], config: Value) -> Self {
        let authority = Arc::new(Authority::new());
        let pods: Vec<Pod> = names
            .iter()
            .map(|name| {
                let environment = [("POD_NAME", (*name).to_owned())];
                Pod::start_of(authority.clone(), &environment, config.clone(), make)
            })
            .collect();
        let mut addresses = Vec::new();
        let mut workers = BTreeMap::new();
        for (pod, name) in pods.iter().zip(names) {
            pod.serving().await;
            let worker = pod.logged("worker started", "pid").await;
            workers.insert(worker.as_u64().unwrap(), *name);
            let address = format!("shop/commerce/{UID}={}", pod.address().await);
            addresses.push(address.parse().unwrap());
        }
        let folder = tempfile::tempdir().unwrap();
        let leaf = authority.issue(&host());
        for (file, text) in [
            (CERTIFICATE_FILE, leaf.certificate),
            (KEY_FILE, leaf.key),
            (CA_FILE, leaf.ca),
            ("tokens", TOKEN.to_owned()),
        ] {
            fs::write(folder.path().join(file), text).unwrap();
        }
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = Server::bind(ServeArgs {
            listen: local,
            health_listen: local,
            database: format!("sqlite://{}/host.db", folder.path().display()),
            tls_dir: folder.path().to_owned(),
            host_namespace: "paperclip".into(),
            host_name: "main".into(),
            replica: "host-0".into(),
            auth: AuthMode::StaticTokenFile,
            token_file: Some(folder.path().join("tokens")),
            plugin_address: addresses,
            watch_namespace: Vec::new(),
            http_fetch_allow_cidr: Vec::new(),
            strict_scopes: false,
            max_held_calls: 256,
        })
        .await
        .unwrap();
        let api = server.api_address().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(server.run(async {
            let _ = stopped.await;
        }));
        let replicas = Self {
            pods,
            names: workers,
            api,
            client: reqwest::Client::new(),
            _folder: folder,
            _stop: stop,
        };
        replicas.attached(names.len()).await;
        replicas
    }

    /// A request, with the key that calls stick by.
    async fn ask(&self, method: Method, path: &str, sticky: &str) -> (StatusCode, Value) {
        let url = format!("http://{}{path}", self.api);
        let mut request = self.client.request(method, url).bearer_auth(TOKEN);
        if !sticky.is_empty() {
            request = request.header("paperclip-sticky", sticky);
        }
        let answer = request.json(&json!({})).send().await.unwrap();
        (answer.status(), answer.json().await.unwrap())
    }

    async fn get(&self, path: &str) -> Value {
        self.ask(Method::GET, path, "").await.1
    }

    async fn wait_for(&self, path: &str, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = self.get(path).await;
            if fits(&found) {
                return found;
            }
            assert!(Instant::now() < deadline, "waited for {what}: {found}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    async fn attached(&self, count: usize) {
        let fits = |dashboard: &Value| {
            let pods = dashboard["pods"].as_array();
            pods.is_some_and(|pods| {
                pods.len() == count && pods.iter().all(|pod| pod["phase"] == "serving")
            })
        };
        let path = format!("{PLUGIN}/dashboard");
        self.wait_for(&path, "the sessions", fits).await;
    }

    /// What the worker says that a call came to, with its pod.
    async fn call(&self, sticky: &str) -> (&'static str, Value) {
        let (status, answer) = self
            .ask(Method::POST, &format!("{PLUGIN}/data/k"), sticky)
            .await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        let state = answer["data"].clone();
        (self.names[&state["pid"].as_u64().unwrap()], state)
    }

    /// A count of each worker.
    async fn counts(&self, of: &str) -> BTreeMap<&'static str, u64> {
        let mut counts = BTreeMap::new();
        for _ in 0..self.names.len() {
            let (pod, state) = self.call("").await;
            counts.insert(pod, state[of].as_u64().unwrap());
        }
        counts
    }

    /// Runs the job to its end.
    async fn run_job(&self) {
        let jobs = self.get(&format!("{PLUGIN}/jobs")).await;
        let job = jobs[0]["id"].as_str().unwrap();
        let path = format!("{PLUGIN}/jobs/{job}/trigger");
        let (status, run) = self.ask(Method::POST, &path, "").await;
        assert_eq!(status, StatusCode::OK, "{run}");
        let path = format!("{PLUGIN}/jobs/{job}/runs");
        let ended =
            |runs: &Value| runs[0]["status"] == "succeeded" && runs[0]["id"] == run["runId"];
        self.wait_for(&path, "the run", ended).await;
    }

    /// Publishes an event, and waits until as many were heard in all.
    async fn emit(&self, heard: u64) {
        let path = format!("{PLUGIN}/actions/emit");
        let (status, answer) = self.ask(Method::POST, &path, "").await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        let deadline = Instant::now() + PATIENCE;
        while self.counts("events").await.values().sum::<u64>() < heard {
            assert!(Instant::now() < deadline, "waited for {heard} events");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_spread_over_three_pods_and_those_of_one_key_stay() {
    let replicas = Replicas::start(&["c", "a", "b"], json!({"active": {"revision": 1}})).await;
    let mut spread = BTreeMap::new();
    for _ in 0..30 {
        *spread.entry(replicas.call("").await.0).or_insert(0) += 1;
    }
    assert_eq!(spread, BTreeMap::from([("a", 10), ("b", 10), ("c", 10)]));
    let mut of_keys = BTreeMap::new();
    for key in [
        "one", "two", "three", "four", "five", "six", "seven", "eight",
    ] {
        let (pod, _) = replicas.call(key).await;
        for _ in 0..3 {
            assert_eq!(replicas.call(key).await.0, pod, "{key}");
        }
        *of_keys.entry(pod).or_insert(0) += 1;
    }
    assert!(of_keys.len() > 1, "{of_keys:?}");
    let path = format!("{PLUGIN}/data/k");
    let long = "x".repeat(300);
    let (status, _) = replicas.ask(Method::POST, &path, &long).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_and_events_are_the_first_pods_by_name_and_then_the_next_ones() {
    let mut replicas = Replicas::start(&["b", "a", "c"], json!({"active": {"revision": 1}})).await;
    replicas.run_job().await;
    replicas.emit(1).await;
    let only = |pod: &'static str| {
        let pods = ["a", "b", "c"].map(|name| (name, u64::from(name == pod)));
        BTreeMap::from(pods)
    };
    assert_eq!(replicas.counts("jobs").await, only("a"));
    assert_eq!(replicas.counts("events").await, only("a"));

    // Sidecar and worker of the first are gone.
    replicas.pods.remove(1);
    replicas.names.retain(|_, name| *name != "a");
    replicas.attached(2).await;
    replicas.run_job().await;
    replicas.emit(1).await;
    let next = BTreeMap::from([("b", 1), ("c", 0)]);
    assert_eq!(replicas.counts("jobs").await, next);
    assert_eq!(replicas.counts("events").await, next);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_config_reaches_every_pod() {
    let replicas = Replicas::start(&["a", "b"], json!({"active": {"revision": 1}})).await;
    for pod in &replicas.pods {
        pod.deliver(json!({"active": {"revision": 1}, "candidate": {"revision": 2, "config": {"colour": "red"}}}));
    }
    for pod in &replicas.pods {
        pod.config("the second revision", |config| config.revision == 2)
            .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_worker_says_is_kept_by_the_host_without_its_secrets() {
    let config =
        json!({"active": {"revision": 1, "secrets": [{"name": "token", "value": "s3cret-value"}]}});
    let replicas = Replicas::start(&["a"], config).await;
    let (status, _) = replicas
        .ask(Method::POST, &format!("{PLUGIN}/actions/say"), "")
        .await;
    assert_eq!(status, StatusCode::OK);
    let path = format!("{PLUGIN}/logs");
    let of = |logs: &Value, message: &str| {
        let mut all = logs.as_array().into_iter().flatten();
        all.find(|log| log["message"] == message).cloned()
    };
    let (line, told) = ("stderr knows [redacted]", "told [redacted]");
    let logs = replicas
        .wait_for(&path, "the log entries", |logs| {
            of(logs, line).is_some() && of(logs, told).is_some()
        })
        .await;
    assert!(!logs.to_string().contains("s3cret"), "{logs}");
    let line = of(&logs, line).unwrap();
    assert_eq!(
        (&line["level"], &line["pod"], &line["meta"]["stream"]),
        (&json!("warn"), &json!("a"), &json!("stderr"))
    );
    let told = of(&logs, told).unwrap();
    assert_eq!(
        (&told["level"], &told["meta"]["also"]),
        (&json!("error"), &json!("[redacted]"))
    );
    let errors = replicas.get(&format!("{path}?level=error&limit=1")).await;
    assert_eq!(errors, json!([told]));
    let later = replicas
        .get(&format!("{path}?since=2100-01-01T00:00:00Z"))
        .await;
    assert_eq!(later, json!([]));
}
