//! Fifty plugins at once: few Jobs, steady progress, and each says where it stands. Then they go
//! with their namespace, the operator first.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use k8s_openapi::api::batch::v1::Job;
use kube::{
    Api, ResourceExt,
    api::{ApiResource, DynamicObject, GroupVersionKind},
    runtime::watcher::{self, Event, watcher},
};
use paperclip_tests::block_on;
use serde_json::json;

use crate::{
    support::{
        COLD, HOST_NAMESPACE, Namespace, PLATFORM_NAMESPACE, cluster, condition, kubectl, publish,
    },
    survival::Operator,
};

const PLUGINS: usize = 50;
/// The chart's default.
const AT_ONCE: usize = 4;

/// What was seen while plugins became Ready.
#[derive(Default)]
struct Seen {
    jobs: BTreeMap<String, Job>,
    /// The most Jobs that ran at once.
    most: usize,
    ready: BTreeSet<String>,
    /// Plugins that said that they wait for their turn.
    waited: BTreeSet<String>,
}

impl Seen {
    fn job(&mut self, event: Event<Job>) -> Result<()> {
        match event {
            Event::Apply(job) | Event::InitApply(job) => {
                self.jobs.insert(job.name_any(), job);
            }
            Event::Delete(job) => {
                self.jobs.remove(&job.name_any());
            }
            Event::Init | Event::InitDone => {}
        }
        let active = |job: &&Job| job.status.as_ref().and_then(|status| status.active) > Some(0);
        let running = self.jobs.values().filter(active).count();
        ensure!(running <= AT_ONCE, "{running} packing Jobs at once");
        self.most = self.most.max(running);
        Ok(())
    }

    fn plugin(&mut self, event: Event<DynamicObject>) {
        let (Event::Apply(plugin) | Event::InitApply(plugin)) = event else {
            return;
        };
        let ready = condition(&plugin.data, "Ready");
        if ready["status"] == "True" {
            self.ready.insert(plugin.name_any());
        }
        let says = ready["message"].as_str().unwrap_or_default();
        if says.contains("waits to be packed") {
            self.waited.insert(plugin.name_any());
        }
    }
}

/// Watches Jobs and plugins until each plugin was Ready.
async fn watch_until_ready(namespace: &str) -> Result<Seen> {
    let client = cluster().client().await?;
    let jobs: Api<Job> = Api::namespaced(client.clone(), PLATFORM_NAMESPACE);
    let kind = GroupVersionKind::gvk("plugins.paperclip.ing", "v1alpha1", "PaperclipPlugin");
    let plugins: Api<DynamicObject> =
        Api::namespaced_with(client, namespace, &ApiResource::from_gvk(&kind));
    let mut jobs = pin!(watcher(jobs, watcher::Config::default()));
    let mut plugins = pin!(watcher(plugins, watcher::Config::default()));
    let mut seen = Seen::default();
    while seen.ready.len() < PLUGINS {
        tokio::select! {
            Some(event) = jobs.next() => seen.job(event?)?,
            Some(event) = plugins.next() => seen.plugin(event?),
        }
    }
    Ok(seen)
}

/// In the long run only: fifty packings take minutes on two cores.
#[test]
fn long_fifty_plugins_are_packed_in_turn_and_gone_in_under_a_minute_without_the_operator()
-> Result<()> {
    let files = ["package.json", "manifest.js", "worker.js"];
    let namespace = Namespace::create("e2e-queue")?;
    let mut plugins = Vec::new();
    for number in 1..=PLUGINS {
        let version = format!("7.{number}.0");
        let id = format!("queue{number}");
        // An id of its own for each, since a host has one plugin of an id.
        let changes = [
            ("\"1.0.0\"", format!("\"{version}\"")),
            ("id: \"test.settings\"", format!("id: \"test.{id}\"")),
        ];
        publish("tests/plugins/settings", &version, &files, &changes)?;
        plugins.push(
            json!({
                "apiVersion": "plugins.paperclip.ing/v1alpha1", "kind": "PaperclipPlugin",
                "metadata": {"name": id},
                "spec": {
                    "source": {"npm": {"package": "paperclip-plugin-test-settings", "version": version}},
                    "config": {"default": {"colour": "red"}},
                    "host": {"name": "main", "namespace": HOST_NAMESPACE},
                },
            })
            .to_string(),
        );
    }
    let started = Instant::now();
    namespace.apply(&plugins.join("\n---\n"))?;
    let seen = block_on(async {
        let watched = watch_until_ready(namespace.name());
        let ended = tokio::time::timeout(6 * COLD, watched).await;
        ended.context("not every plugin became Ready")?
    })?;
    println!(
        "queue: {PLUGINS} Ready after {:?}, at most {} Jobs at once, {} said that they wait",
        started.elapsed(),
        seen.most,
        seen.waited.len()
    );
    ensure!(seen.waited.len() >= PLUGINS / 2, "{:?}", seen.waited);

    let _away = Operator::sent_away()?;
    let started = Instant::now();
    let namespace = namespace.name();
    kubectl(&["delete", "namespace", namespace, "--wait", "--timeout=120s"])?;
    let took = started.elapsed();
    println!("queue: {PLUGINS} plugins and their namespace gone after {took:?}");
    ensure!(took < Duration::from_secs(60), "{took:?}");
    Ok(())
}
