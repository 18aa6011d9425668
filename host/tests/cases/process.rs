//! The program itself: killed, told to stop, started again.

use std::{
    net::SocketAddr,
    process::Stdio,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use futures::future::pending;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use crate::{
    PLUGIN, ready,
    support::{
        Authority, PATIENCE, TOKEN,
        pod::{Link, Pod, Settings},
        read, write_files,
    },
};

/// A `paperclip-host` process.
struct Process {
    child: Child,
    api: SocketAddr,
    health: SocketAddr,
    client: reqwest::Client,
}

impl Process {
    async fn start(folder: &TempDir, pod: &Pod) -> Self {
        let path = folder.path().display();
        let mut child = Command::new(env!("CARGO_BIN_EXE_paperclip-host"))
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--health-listen",
                "127.0.0.1:0",
            ])
            .args(["--host-namespace", "paperclip", "--host-name", "main"])
            .args([
                "--auth",
                "static-token-file",
                "--token-file",
                &format!("{path}/tokens"),
            ])
            .args(["--tls-dir", &format!("{path}")])
            .args(["--database", &format!("sqlite://{path}/host.db")])
            .args([
                "--plugin-address",
                &format!("{}={}", pod.plugin, pod.address),
            ])
            .env_remove("RUST_LOG")
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (api, health) = loop {
            let line = lines.next_line().await.unwrap().expect("the host ended");
            let entry: Value = serde_json::from_str(&line).unwrap();
            if entry["message"] == "host runs" {
                let address = |field: &str| entry[field].as_str().unwrap().parse().unwrap();
                break (address("api"), address("health"));
            }
        };
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self {
            child,
            api,
            health,
            client: reqwest::Client::new(),
        }
    }

    async fn request(&self, method: Method, path: &str) -> (StatusCode, Value) {
        let url = format!("http://{}{path}", self.api);
        let request = self.client.request(method, url).bearer_auth(TOKEN);
        read(request.json(&json!({})).send().await.unwrap()).await
    }

    async fn wait_for(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        tokio::time::timeout(PATIENCE, async {
            loop {
                let (_, answer) = self.request(Method::GET, path).await;
                if wanted(&answer) {
                    return answer;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
        .unwrap_or_else(|_| panic!("{path} is not as wanted"))
    }

    /// The status of /readyz, none once nobody listens.
    async fn readiness(&self) -> Option<StatusCode> {
        let url = format!("http://{}/readyz", self.health);
        Some(self.client.get(url).send().await.ok()?.status())
    }

    fn terminate(&self) {
        let id = self.child.id().unwrap().to_string();
        let killed = std::process::Command::new("kill")
            .args(["-TERM", &id])
            .status();
        assert!(killed.unwrap().success());
    }

    async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}

fn folder(authority: &Authority) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_files(authority, folder.path());
    folder
}

fn key() -> Value {
    json!({"scopeKind": "instance", "stateKey": "k"})
}

async fn store(link: &Link, n: usize) {
    let mut set = key();
    set["value"] = json!(n);
    assert_eq!(link.call("state.set", set, "").await, Ok(Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_host_loses_nothing_it_said_was_stored() {
    let authority = Authority::new();
    let mut pod = Pod::start(&authority, Settings::default()).await;
    let folder = folder(&authority);
    for n in 0..5 {
        let host = Process::start(&folder, &pod).await;
        let link = pod.links.recv().await.unwrap();
        let before = link.call("state.get", key(), "").await.unwrap();
        assert_eq!(
            before,
            if n == 0 {
                Value::Null
            } else {
                json!(n * 20 - 1)
            }
        );
        for value in n * 20..(n + 1) * 20 {
            store(&link, value).await;
        }
        host.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_under_way_when_the_host_is_killed_is_failed_and_can_run_again() {
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    let authority = Authority::new();
    let pod = Pod::start(
        &authority,
        Settings {
            worker: |_, _| {
                Box::pin(async {
                    match RUNS.fetch_add(1, Ordering::SeqCst) {
                        0 => pending().await,
                        _ => Ok(Value::Null),
                    }
                })
            },
            ..Settings::default()
        },
    )
    .await;
    let folder = folder(&authority);
    let trigger = format!("{PLUGIN}/jobs/sync/trigger");
    let runs = format!("{PLUGIN}/jobs/sync/runs");
    let ready = |plugins: &Value| plugins[0]["status"] == "ready";
    let host = Process::start(&folder, &pod).await;
    host.wait_for("/api/plugins", ready).await;
    let (status, _) = host.request(Method::POST, &trigger).await;
    assert_eq!(status, StatusCode::OK);
    host.wait_for(&runs, |runs| runs[0]["status"] == "running")
        .await;
    host.kill().await;

    let host = Process::start(&folder, &pod).await;
    let (_, ended) = host.request(Method::GET, &runs).await;
    assert_eq!(ended[0]["status"], "failed");
    assert_eq!(
        ended[0]["error"],
        "the host stopped before the worker answered"
    );
    host.wait_for("/api/plugins", ready).await;
    let (status, again) = host.request(Method::POST, &trigger).await;
    assert_eq!(status, StatusCode::OK, "{again}");
    host.wait_for(&runs, |runs| {
        runs.as_array().is_some_and(|runs| {
            runs.iter()
                .any(|run| run["id"] == again["runId"] && run["status"] == "succeeded")
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_told_to_stop_ends_open_calls_and_jobs_and_closes_its_database() {
    let authority = Authority::new();
    let mut pod = Pod::start(
        &authority,
        Settings {
            worker: |link, asked| {
                Box::pin(async move {
                    link.wait().await;
                    Ok(json!(asked.method))
                })
            },
            ..Settings::default()
        },
    )
    .await;
    let folder = folder(&authority);
    let mut host = Process::start(&folder, &pod).await;
    let link = pod.links.recv().await.unwrap();
    host.wait_for("/api/plugins", |plugins| plugins[0]["status"] == "ready")
        .await;
    store(&link, 1).await;
    let trigger = format!("{PLUGIN}/jobs/sync/trigger");
    host.request(Method::POST, &trigger).await;
    let path = format!("{PLUGIN}/data/k");
    let stop = async {
        host.wait_for(&format!("{PLUGIN}/dashboard"), |dashboard| {
            dashboard["worker"]["pendingRequests"] == 2
        })
        .await;
        assert_eq!(host.readiness().await, Some(StatusCode::OK));
        host.terminate();
        let turns_new_work_away = async {
            while host.readiness().await == Some(StatusCode::OK) {
                tokio::task::yield_now().await;
            }
        };
        // On a machine that is busy with all else, it took more than `PATIENCE` once.
        let turned = tokio::time::timeout(3 * PATIENCE, turns_new_work_away).await;
        turned.expect("a host that is told to stop is not ready");
        assert_eq!(
            host.readiness().await,
            Some(StatusCode::SERVICE_UNAVAILABLE)
        );
        let fresh = reqwest::Client::new();
        let refused = fresh
            .get(format!("http://{}/api/health", host.api))
            .send()
            .await;
        assert!(refused.is_err(), "a new connection is taken");
        link.go();
    };
    let ((status, answer), ()) = tokio::join!(host.request(Method::POST, &path), stop);
    assert_eq!(
        (status, &answer["data"]),
        (StatusCode::OK, &json!("getData")),
        "{answer}"
    );
    let ended = tokio::time::timeout(PATIENCE, host.child.wait())
        .await
        .unwrap()
        .unwrap();
    assert!(ended.success(), "{ended}");
    assert!(
        !folder.path().join("host.db-wal").exists(),
        "the log was not written back"
    );

    let host = Process::start(&folder, &pod).await;
    let (_, runs) = host
        .request(Method::GET, &format!("{PLUGIN}/jobs/sync/runs"))
        .await;
    assert_eq!(runs[0]["status"], "succeeded", "{runs}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_stops_leaves_no_log_behind() {
    let (_ca, _pod, host) = ready(Settings::default()).await;
    let folder = host.stop().await;
    assert!(folder.path().join("host.db").exists());
    assert!(!folder.path().join("host.db-wal").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_passes_with_a_token_that_counts_and_names_what_is_refused() {
    let authority = Authority::new();
    let pod = Pod::start(&authority, Settings::default()).await;
    let folder = folder(&authority);
    let host = Process::start(&folder, &pod).await;
    let check = async |token: &str| {
        let file = folder.path().join("token");
        std::fs::write(&file, token).unwrap();
        let checked = Command::new(env!("CARGO_BIN_EXE_paperclip-host"))
            .args(["check", "--url", &format!("http://{}", host.api)])
            .args(["--token-file", &file.display().to_string()])
            .env_remove("RUST_LOG")
            .output()
            .await
            .unwrap();
        let said: Value = serde_json::from_slice(&checked.stdout).unwrap();
        (checked.status.success(), said)
    };
    let (passed, said) = check(TOKEN).await;
    assert!(passed, "{said}");
    assert_eq!(said["version"], env!("CARGO_PKG_VERSION"));
    let (passed, said) = check("another").await;
    assert!(!passed, "{said}");
    assert!(said["error"].as_str().unwrap().contains("401"), "{said}");
}
