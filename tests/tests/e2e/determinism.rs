//! One lock, one digest: another node, another umask, another machine's tools.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use paperclip_tests::built;
use serde_json::{Value, json};

use crate::support::{
    COLD, PLATFORM_NAMESPACE, cluster, eventually, get, inventory_of_version, kubectl,
    kubectl_with_input,
};

const PLUGIN: &str = "inventory";
const PACKAGE: &str = "paperclip-plugin-example-inventory";

/// The packing Job's pod spec as the operator made it, pinned to a node, under an
/// umask, pushing to a repository of its own so that nothing is found there.
fn packing_again(job: &Value, name: &str, node: &str, repository: &str) -> Result<Value> {
    let mut pod = job["spec"]["template"]["spec"].clone();
    pod["nodeName"] = json!(node);
    for list in ["initContainers", "containers"] {
        for container in pod[list].as_array_mut().context("containers")? {
            let command: Vec<Value> = ["command", "args"]
                .iter()
                .flat_map(|key| container[*key].as_array().cloned().unwrap_or_default())
                .collect();
            // The image has no shell, but it has Node.
            let script = format!(
                "process.umask(0o077);const r=require('child_process').spawnSync({},{},{{stdio:'inherit'}});process.exit(r.status??1)",
                command.first().context("a command")?,
                json!(command[1..])
            );
            container["command"] = json!(["/opt/node/bin/node", "-e", script]);
            container
                .as_object_mut()
                .context("container")?
                .remove("args");
            for variable in container["env"].as_array_mut().into_iter().flatten() {
                if variable["name"] == "PAPERCLIP_PACK_REQUEST" {
                    let mut request: Value =
                        serde_json::from_str(variable["value"].as_str().context("request")?)?;
                    request["repository"] = json!(repository);
                    variable["value"] = json!(request.to_string());
                }
            }
        }
    }
    Ok(json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": name, "namespace": PLATFORM_NAMESPACE},
        "spec": {"backoffLimit": 0, "template": {"spec": pod}}
    }))
}

/// What the push step of a Job's pod reported.
fn outcome(job: &str) -> Result<Value> {
    let pods = get(&[
        "pods",
        "-n",
        PLATFORM_NAMESPACE,
        "-l",
        &format!("batch.kubernetes.io/job-name={job}"),
    ])?;
    let pod = pods["items"].get(0).context("the Job has a pod")?;
    let message = pod["status"]["containerStatuses"][0]["state"]["terminated"]["message"]
        .as_str()
        .with_context(|| format!("no outcome yet: {}", pod["status"]))?;
    Ok(serde_json::from_str(message)?)
}

#[test]
fn one_lock_gives_one_digest_in_the_cluster_and_outside() -> Result<()> {
    // A version that was never packed, also not by an earlier run on this cluster.
    let version = format!("1.1.{}", std::time::UNIX_EPOCH.elapsed()?.as_secs());
    let namespace = inventory_of_version("e2e-determinism", &version)?;
    let plugin = get(&["paperclipplugin", PLUGIN, "-n", namespace.name()])?;
    let digest = plugin["status"]["artifact"]["digest"]
        .as_str()
        .context("digest")?
        .to_owned();

    // The lock it was packed from, as any pod of it carries.
    let worker = crate::support::worker_processes(namespace.name(), PLUGIN)?;
    let worker = worker.first().context("the worker runs on this machine")?;
    let lock = std::fs::read_to_string(format!(
        "/proc/{worker}/root/paperclip/artifact/.paperclip/package-lock.json"
    ))?;

    let jobs = get(&["jobs", "-n", PLATFORM_NAMESPACE])?;
    let template = jobs["items"].as_array().into_iter().flatten().find(|job| {
        job.to_string().contains(&format!("{PACKAGE}@{version}"))
            && !job["metadata"]["name"]
                .as_str()
                .unwrap_or_default()
                .starts_with("again-")
    });
    let template = template.context("the packing Job is kept for a while")?;
    for (index, node) in cluster().node_names().iter().enumerate() {
        let name = format!("again-{index}");
        kubectl(&[
            "delete",
            "job",
            "-n",
            PLATFORM_NAMESPACE,
            &name,
            "--ignore-not-found",
        ])?;
        let mut job = packing_again(template, &name, node, &format!("plugins/again-{index}"))?;
        with_lock(&mut job, &lock)?;
        kubectl_with_input(&["apply", "-f", "-"], &job.to_string())?;
        let outcome = eventually("the packing to end", COLD, || outcome(&name))?;
        ensure!(
            outcome["ok"]["digest"] == digest.as_str(),
            "on {node}: {outcome}, wanted {digest}"
        );
        kubectl(&["delete", "job", "-n", PLATFORM_NAMESPACE, &name])?;
    }

    // The library outside the cluster, with another Node first on the path.
    let folder = tempfile::tempdir()?;
    let lock_file = folder.path().join("lock.json");
    std::fs::write(&lock_file, &lock)?;
    let output = Command::new(built::program("paperclip-packer")?)
        .args([
            "pack",
            "--package",
            PACKAGE,
            "--version",
            &version,
            "--lock",
        ])
        .arg(&lock_file)
        .args([
            "--registry",
            &cluster().npm().url_on_this_machine(),
            "--output",
        ])
        .arg(folder.path().join("layout"))
        .output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let printed = String::from_utf8_lossy(&output.stdout);
    ensure!(
        printed.contains(&digest),
        "outside: {printed}, in the cluster: {digest}"
    );
    Ok(())
}

/// Puts the lock into each step's request.
fn with_lock(job: &mut Value, lock: &str) -> Result<()> {
    let pod = &mut job["spec"]["template"]["spec"];
    for list in ["initContainers", "containers"] {
        for container in pod[list].as_array_mut().context("containers")? {
            for variable in container["env"].as_array_mut().into_iter().flatten() {
                if variable["name"] == "PAPERCLIP_PACK_REQUEST" {
                    let mut request: Value =
                        serde_json::from_str(variable["value"].as_str().context("request")?)?;
                    request["lock"] = json!(lock);
                    variable["value"] = json!(request.to_string());
                }
            }
        }
    }
    Ok(())
}
