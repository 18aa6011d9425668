//! Arbitrary bytes where a worker writes lines and where a host sends frames, while another
//! host goes on calling.
//!
//! Inputs are mutations of a stored corpus, and messages out of turn, repeated by their seed.
//! Each target runs for 15 s, or for `PAPERCLIP_FUZZ_SECONDS`, 3600 before a release, side by
//! side with the others; `PAPERCLIP_FUZZ_SEED` begins elsewhere.

#[path = "../in_memory/mod.rs"]
mod in_memory;
mod mutate;
mod neighbour;
#[path = "../../../artifact/packer/tests/fuzz/targets.rs"]
mod targets;

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use in_memory::{Host, random::Random};
use neighbour::Bridge;
use paperclip_bridge::{
    link::DEAD_AFTER,
    v1::{SessionRequest, session_request},
};
use paperclip_sidecar::envelope;
use prost::Message as _;
use tokio::io::AsyncWriteExt as _;
use tonic::Status;

const TARGETS: [targets::Target; 3] = [
    ("lines_of_a_worker", lines_of_a_worker),
    ("frames_of_a_host", frames_of_a_host),
    ("lines_to_a_worker", lines_to_a_worker),
];

/// What all runs together may add to the memory of the process: the largest inputs a few times over.
const MOST_MEMORY: u64 = 256 * 1024 * 1024;

/// A panic in a task ends that task alone; this makes it the test's.
static PANICKED: AtomicBool = AtomicBool::new(false);

struct Run {
    random: Random,
    seed: u64,
    end: Instant,
    inputs: u64,
    memory: u64,
}

impl Run {
    fn begin() -> Self {
        let number = |variable: &str, otherwise: u64| {
            let stated = std::env::var(variable).ok();
            stated.map_or(otherwise, |text| text.parse().expect("a number"))
        };
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICKED.store(true, Ordering::Relaxed);
            report(panic);
        }));
        let seed = number("PAPERCLIP_FUZZ_SEED", 1);
        Self {
            random: Random::new(seed),
            seed,
            end: Instant::now() + Duration::from_secs(number("PAPERCLIP_FUZZ_SECONDS", 15)),
            inputs: 0,
            memory: resident(),
        }
    }

    fn goes_on(&self) -> bool {
        assert!(
            !PANICKED.load(Ordering::Relaxed),
            "a task panicked, seed {}",
            self.seed
        );
        Instant::now() < self.end
    }

    fn ended(&self, target: &str) {
        let grown = resident().saturating_sub(self.memory);
        println!(
            "{target}: {} inputs, {} MiB more memory",
            self.inputs,
            grown / 1024 / 1024
        );
        assert!(grown < MOST_MEMORY, "{grown} bytes more memory");
    }
}

fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    let kibibytes = line.trim().trim_end_matches(" kB").parse::<u64>().unwrap();
    kibibytes * 1024
}

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fuzz/corpus")
        .join(name);
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(!files.is_empty());
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

#[test]
fn whatever_a_worker_writes_other_calls_are_answered() {
    targets::end_of("lines_of_a_worker");
}

fn in_a_runtime(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(work);
}

fn lines_of_a_worker() {
    in_a_runtime(write_lines());
}

async fn write_lines() {
    let corpus = corpus("lines");
    let mut run = Run::begin();
    let mut bridge = Bridge::start();
    while run.goes_on() {
        for _ in 0..16 {
            run.inputs += 1;
            let mut bytes = match run.random.once_in(8) {
                true => mutate::out_of_turn(&mut run.random),
                false => mutate::bytes(&mut run.random, &corpus),
            };
            if run.random.once_in(2000) {
                bytes.resize(bytes.len() + 4 * 1024 * 1024, b'x');
            }
            bytes.push(b'\n');
            bridge
                .worker
                .stdout
                .write_all(&bytes)
                .await
                .expect("the multiplexer reads on");
            bridge.serve_hosts();
        }
        bridge.worker_is_heard().await;
        bridge.call_is_answered().await;
    }
    run.ended("lines of a worker");
}

#[test]
fn whatever_a_host_sends_other_hosts_are_answered() {
    targets::end_of("frames_of_a_host");
}

fn frames_of_a_host() {
    in_a_runtime(send_frames());
}

async fn send_frames() {
    let corpus = corpus("frames");
    let mut run = Run::begin();
    let mut bridge = Bridge::start();
    let mut hostile = Host::attach(&bridge.multiplexer, "hostile");
    let mut ended = 0;
    while run.goes_on() {
        for _ in 0..16 {
            run.inputs += 1;
            let bytes = mutate::bytes(&mut run.random, &corpus);
            let message = SessionRequest::decode(&bytes[..]);
            let message = message.map_err(|error| Status::internal(error.to_string()));
            let is_last = message.is_err();
            // A session that ended by itself, by `shutdown` say, takes no more.
            if hostile.requests.send(message).await.is_err() || is_last {
                hostile = Host::attach(&bridge.multiplexer, "hostile");
                ended += 1;
            }
            while hostile.frames.try_recv().is_ok() {}
            bridge.serve_worker().await;
        }
        bridge.call_is_answered().await;
    }
    assert!(ended > 0, "no input ended a session");
    run.ended("frames of a host");
}

/// More than a session and its pipe hold.
const UNREAD: usize = 2_000;

#[tokio::test]
async fn a_host_that_does_not_read_is_detached_and_others_go_on() {
    let mut bridge = Bridge::start();
    let idle = Host::attach(&bridge.multiplexer, "idle");
    bridge.call_is_answered().await;
    let begun = Instant::now();
    for _ in 0..UNREAD {
        let stream = br#"{"jsonrpc":"2.0","method":"streams.emit","params":{}}"#;
        let line = [stream, &b"\n"[..]].concat();
        let written = bridge.worker.stdout.write_all(&line).await;
        written.expect("the multiplexer reads on");
        bridge.serve_hosts();
    }
    bridge.call_is_answered().await;
    while !idle.requests.is_closed() {
        assert!(begun.elapsed() < DEAD_AFTER / 2, "the session goes on");
        bridge.serve_hosts();
        tokio::task::yield_now().await;
    }
}

#[test]
fn whatever_is_passed_on_is_one_line_of_json() {
    targets::end_of("lines_to_a_worker");
}

fn lines_to_a_worker() {
    let corpus = corpus("lines");
    let mut run = Run::begin();
    let mut passed = 0_u64;
    while run.goes_on() {
        run.inputs += 1;
        let params = mutate::bytes(&mut run.random, &corpus);
        if !envelope::is_json(&params) {
            continue;
        }
        passed += 1;
        let method = String::from_utf8_lossy(&params[..params.len().min(40)]).into_owned();
        let line = envelope::call(Some(run.random.next()), &method, &params, &params);
        let text = std::str::from_utf8(&line).expect("UTF-8");
        assert!(envelope::is_json(&line), "{text}");
        assert_eq!(
            text.find(['\n', '\r', '\u{2028}', '\u{2029}']),
            Some(text.len() - 1),
            "{text}"
        );
        // Half a surrogate pair is JSON, but not to this parser.
        if let Ok(theirs) = serde_json::from_slice::<serde_json::Value>(&params) {
            let message: serde_json::Value = serde_json::from_str(text).expect(text);
            assert_eq!(message["method"], method.as_str());
            assert_eq!(message["params"], theirs);
        }
    }
    assert!(passed > 100, "{passed} inputs were JSON");
    run.ended("lines to a worker");
}

/// The corpus of frames, made again: `PAPERCLIP_FUZZ_WRITE_CORPUS=1`.
#[test]
fn the_corpus_of_frames_is_of_frames() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus/frames");
    if std::env::var_os("PAPERCLIP_FUZZ_WRITE_CORPUS").is_some() {
        for (name, frame) in neighbour::frames() {
            fs::write(
                folder.join(name),
                SessionRequest::from(frame).encode_to_vec(),
            )
            .unwrap();
        }
    }
    for bytes in corpus("frames") {
        let decoded = SessionRequest::decode(&bytes[..]).unwrap();
        assert!(!matches!(
            decoded.frame,
            None | Some(session_request::Frame::Hello(_))
        ));
    }
}
