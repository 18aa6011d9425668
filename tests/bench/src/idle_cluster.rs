//! What idle plugins cost on a cluster: in their pods, and the operator.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use paperclip_tests::{
    Cluster,
    platform::{HOST_NAMESPACE, PLATFORM_NAMESPACE},
};
use serde_json::Value;

use crate::{
    plugins::Plugins,
    report::{Row, Section},
    usage::{self, Activity},
};

/// Heading of the section.
pub const TITLE: &str = "Idle plugins on a cluster";
const NAMESPACE: &str = "bench-idle";
/// After plugins came or went, until nothing is done about it any more.
const SETTLE: Duration = Duration::from_secs(30);

/// What the platform's own processes took in one window, in milliseconds a minute.
struct Platform {
    operator: f64,
    host: f64,
}

/// Watches no plugin, so many plugins, and no plugin again.
pub async fn measure(cluster: &Cluster, plugins: usize, seconds: u64) -> Result<Section> {
    ensure!(plugins > 0 && seconds > 0, "nothing to measure");
    let time = Duration::from_secs(seconds);
    let before = platform(cluster, time).await?;
    let namespace = Plugins::new(cluster, NAMESPACE).await?;
    let mut pods = Vec::new();
    for number in 1..=plugins {
        let name = format!("idle-{number}");
        eprintln!("idle plugins: {number} of {plugins}");
        namespace.start(&name).await?;
        pods.extend(namespace.pods(&name)?.into_iter().map(|(uid, _)| uid));
    }
    tokio::time::sleep(SETTLE).await;
    let (with, [sidecar, shim]) = tokio::join!(platform(cluster, time), in_pods(&pods, time));
    let with = with?;
    drop(namespace);
    tokio::time::sleep(SETTLE).await;
    let after = platform(cluster, time).await?;

    let row = |name: &str, of: fn(&Platform) -> f64| {
        let none = f64::midpoint(of(&before), of(&after));
        let each = (of(&with) - none) / plugins as f64;
        Row::plain(
            format!("CPU of the {name}"),
            format!(
                "{:.1} times that without plugins ({:.0} ms a minute against {none:.0}); {each:.0} a plugin",
                of(&with) / none,
                of(&with)
            ),
        )
    };
    let in_pod = |name: &str, (activity, memory): (Activity, f64)| {
        Row::plain(
            format!("{name} of a plugin's pod"),
            format!(
                "{:.0} ms and {:.0} wakeups a minute, {memory:.1} MB",
                activity.milliseconds, activity.wakeups
            ),
        )
    };
    Ok(Section {
        rows: vec![
            row("operator", |platform| platform.operator),
            row("host", |platform| platform.host),
            in_pod("sidecar", sidecar?),
            in_pod("shim", shim?),
        ],
        ..Section::new(
            TITLE,
            format!(
                "{plugins} plugins that nobody calls, each with the host's session, for {seconds} s; for operator \
                 and host against as long before they came and after they went. Figures of pods are means \
                 over them, probes of the kubelet included."
            ),
        )?
    })
}

/// Watches operator and host.
async fn platform(cluster: &Cluster, time: Duration) -> Result<Platform> {
    let operators = pods_of(cluster, PLATFORM_NAMESPACE)?;
    let hosts = pods_of(cluster, HOST_NAMESPACE)?;
    let (operator, host) = tokio::join!(
        watch(&operators, "paperclip-operator", time),
        watch(&hosts, "paperclip-host", time)
    );
    Ok(Platform {
        operator: operator?.0.milliseconds,
        host: host?.0.milliseconds,
    })
}

/// Watches sidecars and shims; means over the pods.
async fn in_pods(pods: &[String], time: Duration) -> [Result<(Activity, f64)>; 2] {
    let mean = |sum: (Activity, f64)| {
        let count = pods.len() as f64;
        let activity = Activity {
            milliseconds: sum.0.milliseconds / count,
            wakeups: sum.0.wakeups / count,
        };
        (activity, sum.1 / count)
    };
    let (sidecar, shim) = tokio::join!(
        watch(pods, "paperclip-sidecar", time),
        watch(pods, "paperclip-shim", time)
    );
    [sidecar.map(mean), shim.map(mean)]
}

/// What a program took in these pods a minute, and its memory in megabytes; sums over them.
async fn watch(pods: &[String], program: &str, time: Duration) -> Result<(Activity, f64)> {
    let processes = processes(pods, program)?;
    let look = || -> Result<Activity> {
        let each = processes.iter().map(|pid| Activity::of(*pid));
        each.sum()
    };
    let before = look()?;
    tokio::time::sleep(time).await;
    let minutes = time.as_secs_f64() / 60.0;
    let taken = look()?.since(before);
    let memory: f64 = processes
        .iter()
        .map(|pid| usage::resident_megabytes(*pid))
        .sum::<Result<_>>()?;
    let activity = Activity {
        milliseconds: taken.milliseconds / minutes,
        wakeups: taken.wakeups / minutes,
    };
    Ok((activity, memory))
}

/// The kernel keeps 15 bytes of a program's name.
fn processes(pods: &[String], program: &str) -> Result<Vec<u32>> {
    let short = &program[..program.len().min(15)];
    let mut found = Vec::new();
    for uid in pods {
        let all = usage::of_pod(uid)?.into_iter();
        found.extend(all.filter(|(_, name)| name == short).map(|(pid, _)| pid));
    }
    ensure!(!found.is_empty(), "no {program} runs in the pods {pods:?}");
    Ok(found)
}

/// UIDs of the pods of a namespace.
fn pods_of(cluster: &Cluster, namespace: &str) -> Result<Vec<String>> {
    let pods = cluster.kubectl(&["get", "pods", "-o", "json", "-n", namespace])?;
    let list: Value = serde_json::from_str(&pods)?;
    let pods = list["items"].as_array().into_iter().flatten();
    pods.map(|pod| {
        let uid = pod["metadata"]["uid"].as_str().map(str::to_owned);
        uid.context("a pod has a UID")
    })
    .collect()
}
