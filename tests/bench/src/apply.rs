//! From `kubectl apply` to Ready, and what the parts take in a cluster.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, PostParams},
    core::{ApiResource, GroupVersionKind},
    runtime::wait::await_condition,
};
use paperclip_tests::{
    Cluster,
    platform::{HOST, HOST_NAMESPACE, PLATFORM_NAMESPACE, repository},
    programs,
};
use serde_json::{Value, json};

use crate::{
    report::{Better, Printed, Row, Section},
    statistics::{Samples, median},
    usage,
};

/// Heading of the section.
pub const TITLE: &str = "Apply to Ready, and memory";
const NAMESPACE: &str = "bench-apply";
const PACKAGE: &str = "paperclip-plugin-example-inventory";
const CAPABILITIES: [&str; 7] = [
    "agent.tools.register",
    "events.emit",
    "events.subscribe",
    "jobs.schedule",
    "plugin.state.read",
    "plugin.state.write",
    "webhooks.receive",
];
/// Starts before the measured ones, so that each node has pulled the images.
const WARM_UP: usize = 2;
/// Starts of an artifact that nobody uses any more.
const FORGOTTEN: usize = 3;
/// How long anything may take before the benchmark gives up.
const PATIENCE: Duration = Duration::from_secs(300);

/// Measures on a cluster in which nothing else happens.
pub async fn measure(cluster: &Cluster, cold: usize, warm: usize) -> Result<Section> {
    ensure!(cold > 0 && warm > 0, "nothing to measure");
    let bench = Bench::new(cluster).await?;
    let mut rows = bench.idle_memory()?;
    let (colds, memory, version) = bench.colds(cold).await?;
    rows.extend(cold_rows(&colds));
    rows.extend(memory);
    rows.extend(warm_rows(&bench.warms(warm, &version).await?));
    rows.push(bench.forgotten(&version).await?);
    cluster.kubectl(&["delete", "namespace", NAMESPACE, "--wait=false"])?;
    Ok(Section {
        rows,
        ..Section::new(
            TITLE,
            format!(
                "A two-node cluster of this machine's own with the platform installed, platform images present. \
             Cold: a version of `examples/plugins/inventory` published a moment before, so packing starts from \
             npm; against `npm install` of the same package by the pinned npm, with an empty cache, from the \
             same registry; {cold} interleaved runs. From the second run on, the dependencies' tarballs are in \
             the artifact store. Warm: the artifact is in the store; against a Deployment with the generated pod \
             template under labels of its own, until Available; {warm} interleaved runs. A host has a plugin id once, so \
             there is one plugin at a time."
            ),
        )?
    })
}

struct Bench<'a> {
    cluster: &'a Cluster,
    plugins: Api<DynamicObject>,
    deployments: Api<DynamicObject>,
    pods: Api<DynamicObject>,
    /// Makes versions of this run its own.
    run: u64,
}

/// One cold run, in seconds.
struct Cold {
    npm: f64,
    ready: f64,
}

/// One warm run, in seconds.
struct Warm {
    deployment: f64,
    ready: f64,
}

impl<'a> Bench<'a> {
    async fn new(cluster: &'a Cluster) -> Result<Self> {
        let client = cluster.client().await?;
        let wait = ["--ignore-not-found", "--wait"];
        cluster.kubectl(&[&["delete", "namespace", NAMESPACE], &wait[..]].concat())?;
        cluster.kubectl(&["create", "namespace", NAMESPACE])?;
        let level = "pod-security.kubernetes.io/enforce=restricted";
        cluster.kubectl(&["label", "namespace", NAMESPACE, level])?;
        let since_epoch = std::time::SystemTime::UNIX_EPOCH.elapsed()?;
        Ok(Self {
            cluster,
            plugins: api(
                &client,
                "plugins.paperclip.ing",
                "v1alpha1",
                "PaperclipPlugin",
            ),
            deployments: api(&client, "apps", "v1", "Deployment"),
            pods: api(&client, "", "v1", "Pod"),
            run: since_epoch.as_secs(),
        })
    }

    /// Packs versions that nobody packed before. Gives the memory of a plugin's pod and the last
    /// version, too.
    async fn colds(&self, runs: usize) -> Result<(Vec<Cold>, Vec<Row>, String)> {
        let mut all = Vec::new();
        let mut memory = Vec::new();
        let mut version = String::new();
        for number in 1..=runs {
            version = format!("1.{}.{number}", self.run);
            self.publish(&version)?;
            let npm = self.npm_install(&version)?;
            let name = format!("cold-{number}");
            let ready = self.until_ready(&name, &version).await?;
            eprintln!("cold, run {number} of {runs}: npm {npm:.1} s, Ready after {ready:.1} s");
            all.push(Cold { npm, ready });
            memory = self.plugin_memory(&name)?;
            self.delete(&self.plugins, &name).await?;
            self.wait_for_no_pods().await?;
        }
        Ok((all, memory, version))
    }

    /// Starts an artifact that is in the store, and its pod template without us.
    async fn warms(&self, runs: usize, version: &str) -> Result<Vec<Warm>> {
        let mut all = Vec::new();
        for number in 1..=runs + WARM_UP {
            let (plugin, plain) = (format!("warm-{number}"), format!("plain-{number}"));
            let ready = self.until_ready(&plugin, version).await?;
            let deployment = self.until_available(&plugin, &plain).await?;
            self.delete(&self.deployments, &plain).await?;
            self.delete(&self.plugins, &plugin).await?;
            self.wait_for_no_pods().await?;
            eprintln!(
                "warm, run {number} of {} ({WARM_UP} not counted): Deployment {deployment:.2} s, Ready after {ready:.2} s",
                runs + WARM_UP
            );
            if number > WARM_UP {
                all.push(Warm { deployment, ready });
            }
        }
        Ok(all)
    }

    /// Publishes the example under another version.
    fn publish(&self, version: &str) -> Result<()> {
        let source = repository().join("examples/plugins/inventory");
        let copy = tempfile::tempdir()?;
        fs::create_dir(copy.path().join("dist"))?;
        for file in [
            "package.json",
            "README.md",
            "dist/manifest.js",
            "dist/stock.js",
            "dist/worker.js",
        ] {
            let text =
                fs::read_to_string(source.join(file)).with_context(|| format!("read {file}"))?;
            let text = text
                .replace(
                    "\"version\": \"1.0.0\"",
                    &format!("\"version\": \"{version}\""),
                )
                .replace("version: \"1.0.0\"", &format!("version: \"{version}\""));
            fs::write(copy.path().join(file), text)?;
        }
        self.cluster.npm().publish(copy.path())
    }

    /// A plain install of the same package from the same registry, with an empty cache.
    fn npm_install(&self, version: &str) -> Result<f64> {
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("package.json"), r#"{"private": true}"#)?;
        let mut npm = programs::npm()?;
        npm.current_dir(folder.path())
            .args(["install", "--no-audit", "--no-fund", "--loglevel=error"])
            .arg("--registry")
            .arg(self.cluster.npm().url_on_this_machine())
            .arg("--cache")
            .arg(folder.path().join("cache"))
            .arg(format!("{PACKAGE}@{version}"));
        let start = Instant::now();
        let output = npm.output().context("start npm")?;
        let elapsed = start.elapsed().as_secs_f64();
        ensure!(
            output.status.success(),
            "npm install {PACKAGE}@{version}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(elapsed)
    }

    /// Creates a plugin and measures until it is Ready.
    async fn until_ready(&self, name: &str, version: &str) -> Result<f64> {
        let plugin = json!({
            "apiVersion": "plugins.paperclip.ing/v1alpha1", "kind": "PaperclipPlugin",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {
                "source": {"npm": {"package": PACKAGE, "version": version}},
                "manifest": {"id": "example.inventory", "version": version, "capabilities": CAPABILITIES},
                "host": {"name": HOST, "namespace": HOST_NAMESPACE},
            },
        });
        seconds_until(&self.plugins, plugin, "Ready").await
    }

    /// Creates the Deployment of a plugin again under another name and measures until it
    /// is Available.
    async fn until_available(&self, plugin: &str, name: &str) -> Result<f64> {
        let original = self.deployments.get(&format!("pcp-{plugin}")).await?;
        let mut spec = original.data["spec"].clone();
        let labels = json!({"app": name});
        spec["selector"] = json!({"matchLabels": labels});
        spec["template"]["metadata"]["labels"] = labels;
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec,
        });
        seconds_until(&self.deployments, deployment, "Available").await
    }

    async fn delete(&self, api: &Api<DynamicObject>, name: &str) -> Result<()> {
        let deleted = api.delete(name, &DeleteParams::foreground()).await;
        deleted.map(drop).with_context(|| format!("delete {name}"))
    }

    /// Starts an artifact that is in the store when no Job is left to show it.
    async fn forgotten(&self, version: &str) -> Result<Row> {
        let mut all = Vec::new();
        for number in 1..=FORGOTTEN {
            let jobs = [
                "delete",
                "jobs",
                "--all",
                "--wait",
                "-n",
                PLATFORM_NAMESPACE,
            ];
            self.cluster.kubectl(&jobs)?;
            let name = format!("forgotten-{number}");
            all.push(self.until_ready(&name, version).await?);
            self.delete(&self.plugins, &name).await?;
            self.wait_for_no_pods().await?;
        }
        Ok(Row::plain(
            format!(
                "apply to Ready, artifact in the store but no Job left that packed it, median of {FORGOTTEN}"
            ),
            format!("{:.1} s", median(all)),
        ))
    }

    /// The pods of one run must not slow the next.
    async fn wait_for_no_pods(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !self.pods.list(&Default::default()).await?.items.is_empty() {
            ensure!(Instant::now() < deadline, "pods of a finished run stay");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }

    /// Operator and host before any plugin is there.
    fn idle_memory(&self) -> Result<Vec<Row>> {
        let of = |namespace: &str, program: &str, name: &str| -> Result<Row> {
            let figure = self.resident(namespace, program)?;
            Ok(Row::plain(
                format!("resident memory, {name}, no plugin yet"),
                figure,
            ))
        };
        Ok(vec![
            of(PLATFORM_NAMESPACE, "paperclip-operator", "operator")?,
            of(HOST_NAMESPACE, "paperclip-host", "host")?,
        ])
    }

    /// Sidecar, shim and worker of a plugin's pod.
    fn plugin_memory(&self, plugin: &str) -> Result<Vec<Row>> {
        let selector = format!("plugins.paperclip.ing/plugin={plugin}");
        let pods = self.pods_of(NAMESPACE, &["-l", &selector])?;
        let mut rows = Vec::new();
        for (program, name) in [
            ("paperclip-sidecar", "sidecar"),
            ("paperclip-shim", "shim"),
            ("node", "worker"),
        ] {
            let figure = resident_in(&pods, program)?;
            rows.push(Row::plain(
                format!("resident memory, {name} of a plugin's pod, idle"),
                figure,
            ));
        }
        Ok(rows)
    }

    fn resident(&self, namespace: &str, program: &str) -> Result<String> {
        resident_in(&self.pods_of(namespace, &[])?, program)
    }

    /// UIDs of pods.
    fn pods_of(&self, namespace: &str, more: &[&str]) -> Result<Vec<String>> {
        let arguments = [&["get", "pods", "-o", "json", "-n", namespace], more].concat();
        let list: Value = serde_json::from_str(&self.cluster.kubectl(&arguments)?)?;
        let items = list["items"].as_array().into_iter().flatten();
        Ok(items
            .filter_map(|pod| pod["metadata"]["uid"].as_str().map(str::to_owned))
            .collect())
    }
}

/// Resident memory of the program in pods; the kernel keeps 15 bytes of its name.
fn resident_in(pods: &[String], program: &str) -> Result<String> {
    let short = &program[..program.len().min(15)];
    for uid in pods {
        for (pid, name) in usage::of_pod(uid)? {
            let main = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
            let is_it = name == short || main.file_name().is_some_and(|file| file == program);
            if is_it {
                return Ok(format!("{:.1} MB", usage::resident_megabytes(pid)?));
            }
        }
    }
    anyhow::bail!("no process {program} in the pods {pods:?}")
}

fn api(client: &Client, group: &str, version: &str, kind: &str) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    Api::namespaced_with(client.clone(), NAMESPACE, &resource)
}

/// Creates an object and measures until a condition of it is True.
async fn seconds_until(api: &Api<DynamicObject>, object: Value, condition: &str) -> Result<f64> {
    let object: DynamicObject = serde_json::from_value(object)?;
    let name = object
        .metadata
        .name
        .clone()
        .context("the object has a name")?;
    let is_true = |object: Option<&DynamicObject>| {
        let conditions = object.and_then(|object| object.data["status"]["conditions"].as_array());
        conditions
            .into_iter()
            .flatten()
            .any(|found| found["type"] == condition && found["status"] == "True")
    };
    let start = Instant::now();
    api.create(&PostParams::default(), &object)
        .await
        .with_context(|| format!("create {name}"))?;
    tokio::time::timeout(PATIENCE, await_condition(api.clone(), &name, is_true))
        .await
        .with_context(|| format!("wait until {name} is {condition}"))??;
    Ok(start.elapsed().as_secs_f64())
}

fn cold_rows(runs: &[Cold]) -> Vec<Row> {
    let npm = median(runs.iter().map(|run| run.npm));
    let ready = median(runs.iter().map(|run| run.ready));
    let all = cold_row("apply to Ready, cold, median", &Cold { npm, ready });
    let first = runs.first();
    let first = first.map(|run| cold_row("apply to Ready, cold, first plugin of the cluster", run));
    // The first is one run alone, so no ratio is kept of it.
    let first = first.map(|(row, _)| row);
    let all = all.0.ratio(all.1, Better::Lower);
    [Some(all), first].into_iter().flatten().collect()
}

/// A row, and the share of the limit that it shows.
fn cold_row(what: &str, run: &Cold) -> (Row, Printed) {
    let limit = Printed::new(1.5 * run.npm + 8.0, 1);
    let ready = Printed::new(run.ready, 1);
    let share = Printed::new(run.ready / limit.value(), 2);
    let row = Row::plain(
        what,
        format!(
            "{ready} s against {:.1} s; {share} of the limit of {limit} s",
            run.npm
        ),
    );
    let met = ready.value() <= limit.value();
    (
        row.judged("within 1.5 times npm install plus 8 s", met),
        share,
    )
}

fn warm_rows(runs: &[Warm]) -> Vec<Row> {
    let more = Samples::new(
        runs.iter()
            .map(|run| Duration::from_secs_f64((run.ready - run.deployment).max(0.0))),
    );
    let ready = median(runs.iter().map(|run| run.ready));
    let deployment = median(runs.iter().map(|run| run.deployment));
    let [p50, p95] = [0.50, 0.95].map(|share| Printed::new(more.percentile(share) / 1e3, 2));
    let times = Printed::new(ready / deployment, 2);
    vec![
        Row::plain(
            "apply to Ready, warm, median",
            format!("{p50} s more ({ready:.2} s against {deployment:.2} s; {times} times)"),
        )
        .ratio(times, Better::Lower),
        Row::plain(
            format!("apply to Ready, warm, p95 of {}", more.len()),
            format!("{p95} s more than the Deployment"),
        )
        .at_most(p95, 0.5, "s more"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cold_start_is_judged_by_the_limit_it_prints() {
        let judged = |ready| cold_row("cold", &Cold { npm: 2.2, ready }).0;
        let row = judged(11.34);
        assert_eq!(
            row.figure,
            "11.3 s against 2.2 s; 1.00 of the limit of 11.3 s"
        );
        assert_eq!(row.met, Some(true));
        assert_eq!(judged(11.36).met, Some(false));
    }
}
