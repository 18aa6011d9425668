//! Schedules, by a clock that the test turns.

use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicUsize, Ordering},
};

use chrono::{DateTime, TimeDelta, Utc};
use paperclip_host::clock::Clock;
use serde_json::{Value, json};

use crate::{
    PLUGIN, serving,
    support::{
        Authority, Host,
        pod::{Pod, Settings, manifest},
    },
};

/// Half a minute after a slot.
const BEGIN: &str = "2026-01-01T00:00:30Z";

/// A clock that stands still until the test turns it.
struct Turned(Arc<AtomicI64>);

impl Turned {
    fn new() -> (Self, Clock) {
        let begin: DateTime<Utc> = BEGIN.parse().unwrap();
        let ahead = Arc::new(AtomicI64::new(0));
        let read = Arc::clone(&ahead);
        let clock = Clock::new(move || begin + TimeDelta::seconds(read.load(Ordering::SeqCst)));
        (Self(ahead), clock)
    }

    fn forward(&self, by: TimeDelta) {
        self.0.fetch_add(by.num_seconds(), Ordering::SeqCst);
    }
}

fn every_minute() -> Value {
    let mut manifest = manifest();
    manifest["jobs"] = json!([{"jobKey": "sync", "displayName": "Sync", "schedule": "* * * * *"}]);
    manifest
}

async fn next_run_is(host: &Host, slot: &str) {
    host.wait_for(&format!("{PLUGIN}/jobs"), |jobs| {
        jobs[0]["nextRunAt"] == json!(slot)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_runs_once_when_its_time_comes_and_missed_ones_do_not_pile_up() {
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    let authority = Authority::new();
    let pod = Pod::start(
        &authority,
        Settings {
            manifest: every_minute(),
            worker: |_, asked| {
                Box::pin(async move {
                    assert_eq!(asked.method, "runJob");
                    RUNS.fetch_add(1, Ordering::SeqCst);
                    Ok(Value::Null)
                })
            },
            ..Settings::default()
        },
    )
    .await;
    let (turned, clock) = Turned::new();
    let folder = tempfile::tempdir().unwrap();
    let host = Host::start_at(&authority, &[&pod], folder, |_| {}, clock).await;
    serving(&host).await;
    let runs = format!("{PLUGIN}/jobs/sync/runs");
    next_run_is(&host, "2026-01-01T00:01:00.000Z").await;
    turned.forward(TimeDelta::seconds(60));
    next_run_is(&host, "2026-01-01T00:02:00.000Z").await;
    let ran = host
        .wait_for(&runs, |runs| runs[0]["status"] == "succeeded")
        .await;
    assert_eq!(
        (&ran[0]["trigger"], &ran[0]["scheduledAt"]),
        (&json!("schedule"), &json!("2026-01-01T00:01:00.000Z"))
    );
    // A day is 1440 slots.
    turned.forward(TimeDelta::days(1));
    next_run_is(&host, "2026-01-02T00:02:00.000Z").await;
    turned.forward(TimeDelta::seconds(60));
    next_run_is(&host, "2026-01-02T00:03:00.000Z").await;
    let ran = host
        .wait_for(&runs, |runs| {
            runs[0]["status"] == "succeeded" && runs[0]["scheduledAt"] == "2026-01-02T00:02:00.000Z"
        })
        .await;
    assert_eq!(ran.as_array().map(Vec::len), Some(2));
    assert_eq!(RUNS.load(Ordering::SeqCst), 2);
}
