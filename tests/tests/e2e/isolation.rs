//! What a pod can reach, seen from inside one.

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::support::{
    Namespace, WARM, cluster, eventually, get, inventory, kubectl, worker_processes,
};

/// Runs a line of JavaScript in a restricted pod and returns what it printed.
pub fn node_in_pod(namespace: &Namespace, name: &str, script: &str) -> Result<String> {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "node", "image": cluster().image("paperclip-runtime-node")?,
                "command": ["/usr/local/bin/node", "-e", script],
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}
            }]
        }
    });
    namespace.apply(&pod.to_string())?;
    eventually("the pod to end", WARM, || {
        let pod = get(&["pod", name, "-n", namespace.name()])?;
        let phase = pod["status"]["phase"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        ensure!(
            phase == "Succeeded" || phase == "Failed",
            "phase {phase}: {}",
            pod["status"]
        );
        Ok(())
    })?;
    kubectl(&["logs", "-n", namespace.name(), name])
}

/// A request that says whether it was answered.
fn ask(url: &str) -> String {
    format!(
        "fetch({url:?},{{signal:AbortSignal.timeout(8000)}}).then(r=>console.log('answered',r.status),e=>console.log('refused',e.cause?.code??e.name))"
    )
}

#[test]
fn pods_reach_the_pull_through_registry_and_nothing_else_outside() -> Result<()> {
    let namespace = Namespace::create("e2e-isolation")?;
    let registry = cluster().npm().url_in_cluster();
    let inside = node_in_pod(&namespace, "registry", &ask(&format!("{registry}/zod")))?;
    ensure!(inside.contains("answered 200"), "{inside}");
    // The registry that the pull-through registry itself asks: known by name and by address.
    let upstream = cluster().npm().upstream_url();
    let outside = node_in_pod(&namespace, "upstream", &ask(&format!("{upstream}zod")))?;
    ensure!(outside.contains("refused"), "{outside}");
    Ok(())
}

/// Variables that Paperclip gives a worker, and nothing beside them.
const WORKER_ENVIRONMENT: [&str; 7] = [
    "NODE_ENV",
    "NODE_PATH",
    "PAPERCLIP_DEPLOYMENT_EXPOSURE",
    "PAPERCLIP_DEPLOYMENT_MODE",
    "PAPERCLIP_PLUGIN_ID",
    "PATH",
    "TZ",
];

#[test]
fn a_worker_sees_no_token_no_key_and_only_the_listed_environment() -> Result<()> {
    let namespace = inventory("e2e-worker-view")?;
    let workers = worker_processes(namespace.name(), "inventory")?;
    let worker = workers.first().context("the worker runs on this machine")?;

    let environment = std::fs::read_to_string(format!("/proc/{worker}/environ"))?;
    let mut names: Vec<_> = environment
        .split('\0')
        .filter_map(|variable| Some(variable.split_once('=')?.0))
        .collect();
    names.sort_unstable();
    ensure!(names == WORKER_ENVIRONMENT, "{names:?}");

    // What is mounted there, as the kernel tells it: our four folders, /tmp, and no Secret.
    let mounts = std::fs::read_to_string(format!("/proc/{worker}/mountinfo"))?;
    for forbidden in [
        "serviceaccount",
        "kubernetes.io~secret",
        "kubernetes.io~configmap",
        "kubernetes.io~projected",
    ] {
        ensure!(
            !mounts.contains(forbidden),
            "{forbidden} is mounted:\n{mounts}"
        );
    }
    let status = std::fs::read_to_string(format!("/proc/{worker}/status"))?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.map(|value| value.trim().to_owned())
            .unwrap_or_default()
    };
    ensure!(
        field("CapEff:") == "0000000000000000",
        "capabilities {}",
        field("CapEff:")
    );
    ensure!(
        field("NoNewPrivs:") == "1" && field("Seccomp:") == "2",
        "{status}"
    );
    ensure!(!field("Uid:").starts_with('0'), "runs as {}", field("Uid:"));
    // Its own code and the root are read-only for it.
    for folder in ["/", "/paperclip/artifact", "/paperclip/bin"] {
        let line = mounts
            .lines()
            .find(|line| line.split(' ').nth(4) == Some(folder));
        let options = line
            .and_then(|line| line.split(' ').nth(5))
            .with_context(|| format!("{folder} is a mount"))?;
        ensure!(
            options.split(',').any(|option| option == "ro"),
            "{folder} is mounted {options}"
        );
    }
    Ok(())
}
