//! Workers that do all they can: what they do stays in their pod, the status says what it is,
//! and another plugin's pod answers meanwhile.

use std::{
    fs::{self, File},
    os::fd::AsFd,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use bytes::Bytes;
use paperclip_bridge::{
    client::CallError,
    v1::{Phase, WorkerReason},
};
use paperclip_protocol::jsonrpc;
use paperclip_shim::{
    channel::{Channel, Full, Listener},
    protocol::Report,
};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::{
    PATIENCE, artifact, eventually,
    host::{Host, Store},
    pod::Pod,
};

/// What a sidecar may come to hold whatever its worker does.
const MOST_MEMORY: u64 = 192 * 1024 * 1024;
/// How long the other plugin may take over an answer, on a machine that does much else.
const PROMPT: Duration = Duration::from_secs(2);

const GOOD: &str = "handlers.getData = ({ id }) => send({ id, result: 1 });";

async fn attached(worker: &str, capabilities: &[&str]) -> (Pod, Host) {
    let config = json!({});
    let pod = Pod::start(config, |folder| artifact::raw(folder, worker, capabilities));
    pod.serving().await;
    let host = Host::attach(&pod, &Store::default()).await;
    (pod, host)
}

/// Another plugin, called for as long as something else goes on.
struct Neighbour {
    _pod: Pod,
    host: Host,
}

impl Neighbour {
    async fn start() -> Self {
        let (pod, host) = attached(GOOD, &[]).await;
        Self { _pod: pod, host }
    }

    async fn answers_during<T>(&self, other: impl Future<Output = T>) -> T {
        let mut other = std::pin::pin!(other);
        loop {
            let asked = Instant::now();
            let answer = self.host.call("getData", json!({})).await;
            assert_eq!(answer.unwrap(), 1);
            assert!(asked.elapsed() < PROMPT, "{:?}", asked.elapsed());
            let pause = tokio::time::sleep(Duration::from_millis(20));
            tokio::select! {
                ended = &mut other => return ended,
                () = pause => {}
            }
        }
    }
}

/// How often the worker was held back.
async fn held_back(pod: &Pod) -> u64 {
    let metrics = pod.metrics().await;
    let mut lines = metrics.lines();
    let count =
        lines.find_map(|line| line.strip_prefix("paperclip_sidecar_held_back_lines_total "));
    count.unwrap().parse().unwrap()
}

async fn unresponsive(pod: &Pod) {
    let state = pod
        .state("unresponsive", |state| {
            let worker = state.worker.as_ref();
            worker.is_some_and(|worker| worker.reason() == WorkerReason::Unresponsive)
        })
        .await;
    assert!(!state.worker.unwrap().healthy);
}

fn is_timeout(outcome: &Result<Value, CallError>) -> bool {
    match outcome {
        Err(CallError::Rpc(error)) => error.code == jsonrpc::TIMEOUT,
        Err(CallError::TimedOut(_)) => true,
        _ => false,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_on_stdout_is_held_back_logged_counted_and_forgotten() {
    let worker = r#"
        const noise = "noise ".repeat(20) + "\n";
        handlers.getData = ({ id }) => {
            for (let line = 0; line < 4_000; line++) process.stdout.write(noise);
            process.stdout.write("x".repeat(64 * 1024 * 1024) + "\n");
            send({ id, result: "after" });
        };
    "#;
    let neighbour = Neighbour::start().await;
    let (pod, host) = attached(worker, &[]).await;
    let begun = Instant::now();
    let flood = host.call("getData", json!({}));
    assert_eq!(neighbour.answers_during(flood).await.unwrap(), "after");
    // A thousand a second.
    assert!(begun.elapsed() > Duration::from_millis(3_500));
    assert!(pod.metrics().await.contains("stdout_noise_total 4001"));
    assert!(held_back(&pod).await > 0);
    pod.serving().await;
    assert!(
        pod.sidecar_memory() < MOST_MEMORY,
        "{}",
        pod.sidecar_memory()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_answer_of_a_worker_is_heard_though_a_flood_came_before_it() {
    let worker = r#"
        handlers.getData = ({ id }) => {
            // As much as the pipe holds, so that the worker is gone before it is read.
            const last = JSON.stringify({ jsonrpc: "2.0", id, result: "last" });
            process.stdout.write("noise\n".repeat(8_000) + last + "\n", () => process.exit(0));
        };
    "#;
    let (pod, host) = attached(worker, &[]).await;
    assert_eq!(host.call("getData", json!({})).await.unwrap(), "last");
    assert!(held_back(&pod).await > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_does_not_read_is_called_unresponsive_and_its_calls_time_out() {
    let worker = r#"
        handlers.getData = ({ id }) => { send({ id, result: 1 }); process.stdin.pause(); };
        setInterval(() => {}, 1000);
    "#;
    let neighbour = Neighbour::start().await;
    let (pod, host) = attached(worker, &[]).await;
    assert_eq!(host.call("getData", json!({})).await.unwrap(), 1);
    // More than the pipe and the queue before it hold.
    let large = "y".repeat(32 * 1024);
    let calls = (0..600).map(|_| {
        let params = json!({"text": large}).to_string().into();
        let sender = host.sender.clone();
        async move {
            let timeout = Duration::from_secs(3);
            let call = sender.call("getData", params, Bytes::new(), timeout, false);
            call.await.map(|_| Value::Null)
        }
    });
    let calls: JoinSet<_> = calls.collect();
    let all = async {
        let mut ended = 0;
        for outcome in calls.join_all().await {
            assert!(is_timeout(&outcome), "{outcome:?}");
            ended += 1;
        }
        assert_eq!(ended, 600);
        unresponsive(&pod).await;
        // Nothing new goes to it, and after three more misses it is started anew.
        let restarted = pod.state("started anew", |state| {
            let worker = state.worker.as_ref();
            worker.is_some_and(|worker| worker.restarts == 1 && worker.healthy)
        });
        assert_eq!(restarted.await.phase(), Phase::Serving);
        assert_eq!(host.call("getData", json!({})).await.unwrap(), 1);
    };
    neighbour.answers_during(all).await;
    assert!(
        pod.sidecar_memory() < MOST_MEMORY,
        "{}",
        pod.sidecar_memory()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_never_rests_is_called_unresponsive_and_can_still_be_ended() {
    let worker = r#"
        process.on("SIGTERM", () => {});
        handlers.getData = () => { for (;;); };
    "#;
    let neighbour = Neighbour::start().await;
    let (mut pod, host) = attached(worker, &[]).await;
    let ends = async {
        let call = host.sender.call(
            "getData",
            "{}".into(),
            Bytes::new(),
            Duration::from_secs(1),
            false,
        );
        let outcome = call.await.map(|_| Value::Null);
        assert!(is_timeout(&outcome), "{outcome:?}");
        unresponsive(&pod).await;
        pod.ask_shim_to_stop();
        assert!(pod.shim_exit().await.success());
    };
    neighbour.answers_during(ends).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_takes_all_memory_ends_and_its_last_words_say_why() {
    let worker = r#"
        handlers.getData = () => { for (const kept = [];;) kept.push(new Array(1_000_000).fill({})); };
    "#;
    let neighbour = Neighbour::start().await;
    let (pod, host) = attached(worker, &[]).await;
    let ends = async {
        let taken = host.call("getData", json!({})).await;
        let Err(CallError::Rpc(error)) = taken else {
            panic!("{taken:?}");
        };
        assert_eq!(error.code, jsonrpc::WORKER_UNAVAILABLE);
        let ended = pod.state("ended", |state| {
            let worker = state.worker.as_ref();
            worker.is_some_and(|worker| worker.restarts == 1)
        });
        ended.await;
        pod.serving().await;
    };
    neighbour.answers_during(ends).await;
    assert!(error_says(&pod, "heap out of memory"));
    assert!(pod.sidecar_memory() < MOST_MEMORY);
}

/// Whether some record of the sidecar says this.
fn error_says(pod: &Pod, words: &str) -> bool {
    pod.records().iter().any(|record| {
        let message = record["message"].as_str();
        message.is_some_and(|message| message.contains(words))
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_a_worker_started_outlives_it() {
    let worker = r#"
        import { spawn } from "node:child_process";
        handlers.getData = ({ id, params }) => {
            // In its group, in a session of their own, and orphaned there.
            const sleep = `sleep ${params.name}`;
            for (let at = 0; at < 20; at++) {
                spawn("sleep", [params.name], { stdio: "ignore" });
                spawn("sleep", [params.name], { stdio: "ignore", detached: true }).unref();
                spawn("/bin/sh", ["-c", `${sleep} & ${sleep} &`], { stdio: "ignore", detached: true }).unref();
            }
            setTimeout(() => send({ id, result: 1 }), 200);
        };
        handlers.performAction = () => process.exit(1);
    "#;
    let (pod, host) = attached(worker, &[]).await;
    // A number of seconds that no other process sleeps for.
    let name = format!("7{}", std::process::id());
    host.call("getData", json!({"name": name})).await.unwrap();
    eventually("all to be there", || (sleeping(&name) == 80).then_some(())).await;
    assert!(host.call("performAction", json!({})).await.is_err());
    eventually("all to be gone", || (sleeping(&name) == 0).then_some(())).await;
    pod.serving().await;
}

/// Processes that sleep for a time of that name.
fn sleeping(name: &str) -> usize {
    let command = format!("sleep\0{name}\0");
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let commands = processes.map(|entry| fs::read_to_string(entry.path().join("cmdline")));
    commands.flatten().filter(|found| *found == command).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_speaks_to_the_shims_socket_is_not_heard() {
    let worker = r#"
        import net from "node:net";
        handlers.getData = ({ id, params }) => {
            // The socket keeps packets apart, which a stream cannot join: both ways are tried.
            const tried = net.connect(params.socket);
            tried.on("connect", () => { tried.write("\u0005"); send({ id, result: "connected" }); });
            tried.on("error", (error) => send({ id, result: error.code }));
        };
    "#;
    let (pod, host) = attached(worker, &[]).await;
    let socket = pod.socket();
    let said = host
        .call("getData", json!({"socket": socket}))
        .await
        .unwrap();
    assert_eq!(said, "EPROTOTYPE");
    // What Node cannot, a program can: it waits in line behind the shim.
    let intruder = Channel::connect(&socket).unwrap();
    intruder
        .send(&Report::Terminating.encode(), &[], Full::Drop)
        .unwrap();
    assert_eq!(
        host.call("getData", json!({"socket": socket}))
            .await
            .unwrap(),
        "EPROTOTYPE"
    );
    assert_eq!(pod.serving().await.phase(), Phase::Serving);
}

/// Whatever can be said without the lock: nothing, noise, a shim's words without its proof, with
/// a descriptor of something else, and with one of the right folder that holds no lock.
fn claims(socket: &Path) -> Vec<(Vec<u8>, Option<File>)> {
    let hello = Report::Hello(Vec::new()).encode();
    let folder = File::open(socket.parent().unwrap()).unwrap();
    vec![
        (b"noise".to_vec(), None),
        (Report::Idle.encode(), None),
        (hello.clone(), None),
        (hello.clone(), Some(File::open("/dev/null").unwrap())),
        (hello, Some(folder)),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_first_at_the_socket_of_a_new_sidecar_is_not_taken_for_the_shim() {
    let (mut pod, _host) = attached(GOOD, &[]).await;
    let socket = pod.socket();
    pod.kill_sidecar();
    // The shim does not come before all others were refused.
    pod.signal_shim("STOP");
    pod.start_sidecar();
    pod.logged("listening", "grpc").await;
    for (number, (said, proof)) in (1..).zip(claims(&socket)) {
        let intruder = Channel::connect(&socket).unwrap();
        let proof = proof.as_ref().map(AsFd::as_fd);
        let sent = intruder.send(&said, proof.as_slice(), Full::Wait);
        sent.unwrap();
        // Refused by now or not, this is not heard.
        let _ = intruder.send(&Report::Terminating.encode(), &[], Full::Drop);
        let refused = format!("refused_peers_total {number}\n");
        let counting = async { while !pod.metrics().await.contains(&refused) {} };
        tokio::time::timeout(PATIENCE, counting)
            .await
            .expect("it is refused");
        assert!(intruder.receive().map_or(true, |said| said.is_none()));
    }
    pod.signal_shim("CONT");
    pod.serving().await;
    assert!(pod.has_logged("a running worker was taken over").is_some());
    let host = Host::attach(&pod, &Store::default()).await;
    assert_eq!(host.call("getData", json!({})).await.unwrap(), 1);
}

/// What a worker starts in the test below: it takes the sidecar's place at the socket and says
/// whether the shim spoke to it. By itself it does nothing.
#[test]
fn an_impostor_at_the_socket() {
    let Some(socket) = std::env::var_os("IMPOSTOR_SOCKET").map(PathBuf::from) else {
        return;
    };
    let listener = Listener::bind(&socket).unwrap();
    println!("listens");
    let met = listener.accept().unwrap();
    let heard = met.receive().is_ok_and(|received| received.is_some());
    let said = if heard { "heard" } else { "heard nothing" };
    fs::write(socket.with_extension("said"), said).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_in_the_sidecars_place_at_the_socket_gets_nothing_of_the_shim() {
    let worker = r#"
        import { spawn } from "node:child_process";
        handlers.performAction = ({ id, params }) => {
            const flags = ["--exact", "hostile::an_impostor_at_the_socket", "--nocapture"];
            // Orphaned at once and in a session of its own, as far from its origin as it can get.
            const child = spawn("/bin/sh", ["-c", `"$0" "$@" &`, params.program, ...flags],
                { detached: true, stdio: ["ignore", "pipe", "ignore"], env: { IMPOSTOR_SOCKET: params.socket } });
            let said = "";
            child.stdout.on("data", (data) => {
                if (!said.includes("listens") && (said += data).includes("listens")) send({ id, result: null });
            });
        };
        handlers.getData = ({ id }) => send({ id, result: 1 });
    "#;
    let (mut pod, host) = attached(worker, &[]).await;
    let program = std::env::current_exe().unwrap();
    let impostor = json!({"program": program, "socket": pod.socket()});
    host.call("performAction", impostor).await.unwrap();
    pod.kill_sidecar();
    let said = pod.socket().with_extension("said");
    let said = eventually("the shim to have met the impostor", || {
        fs::read_to_string(&said)
            .ok()
            .filter(|said| !said.is_empty())
    });
    assert_eq!(said.await, "heard nothing");
    pod.start_sidecar();
    pod.serving().await;
    let host = Host::attach(&pod, &Store::default()).await;
    assert_eq!(host.call("getData", json!({})).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_callbacks_is_limited_and_counted() {
    let worker = r#"
        const codes = new Map();
        let asked = 0, answered = 0;
        handlers.getData = ({ id }) => {
            for (; asked < 10_000; asked++) send({ id: "w" + asked, method: "state.get", params: { stateKey: "k" } });
            const wait = () => answered === asked ? send({ id, result: Object.fromEntries(codes) }) : setTimeout(wait, 20);
            wait();
        };
        handlers.answer = ({ error }) => { answered++; const code = error?.code ?? 0; codes.set(code, (codes.get(code) ?? 0) + 1); };
        handlers.performAction = ({ id }) => send({ id, result: 1 });
    "#;
    let neighbour = Neighbour::start().await;
    let (pod, host) = attached(worker, &["plugin.state.read"]).await;
    let flood = host.call("getData", json!({}));
    let begun = Instant::now();
    let codes = neighbour.answers_during(flood).await.unwrap();
    // Two thousand a second.
    assert!(begun.elapsed() > Duration::from_millis(4_500));
    assert!(held_back(&pod).await > 0);
    let codes = codes.as_object().unwrap();
    let total: u64 = codes.values().map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(total, 10_000, "{codes:?}");
    assert!(
        codes
            .keys()
            .all(|code| ["0", "-32010"].contains(&code.as_str())),
        "{codes:?}"
    );
    assert_eq!(host.call("performAction", json!({})).await.unwrap(), 1);
    assert!(
        pod.sidecar_memory() < MOST_MEMORY,
        "{}",
        pod.sidecar_memory()
    );
    let counted = r#"capability_calls_total{capability="plugin.state.read",outcome="Used"} 10000"#;
    assert!(pod.metrics().await.contains(counted));
    let shown = pod.state("counted", |state| {
        let used = state
            .capabilities
            .iter()
            .find(|usage| usage.capability == "plugin.state.read");
        used.is_some_and(|usage| usage.used > 0 && usage.last_used.is_some())
    });
    shown.await;
}
