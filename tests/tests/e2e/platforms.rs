//! Nodes of two CPUs: an artifact whose tree differs has one for each, and its pods are where
//! it fits.
//!
//! The node with the other CPU is an object without a kubelet. It takes no pods and is gone
//! when the test ends, however it ends.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::support::{
    COLD, HOST_NAMESPACE, Namespace, cluster, get, kubectl, kubectl_with_input, pod_of,
    worker_processes,
};

const PLUGIN: &str = "settings";
const PACKAGE: &str = "paperclip-plugin-test-settings";
const ENGINES: [(&str, &str); 2] = [
    ("paperclip-test-engine-x64", "x64"),
    ("paperclip-test-engine-arm64", "arm64"),
];

/// A node that is an object alone, on which nothing may be.
struct Node;

impl Node {
    const NAME: &str = "arm64-without-a-kubelet";

    fn create() -> Result<Self> {
        Self::remove()?;
        let node = json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {
                "name": Self::NAME,
                "labels": {"kubernetes.io/os": "linux", "kubernetes.io/arch": "arm64"},
            },
            "spec": {"unschedulable": true, "taints": [
                {"key": "test.paperclip.ing/no-kubelet", "effect": "NoSchedule"},
                {"key": "test.paperclip.ing/no-kubelet", "effect": "NoExecute"},
            ]},
        });
        kubectl_with_input(&["create", "-f", "-"], &node.to_string())?;
        Ok(Self)
    }

    fn remove() -> Result<()> {
        kubectl(&["delete", "node", Self::NAME, "--ignore-not-found"]).map(drop)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Err(error) = Self::remove() {
            eprintln!("removing node {}: {error:#}", Self::NAME);
        }
    }
}

/// Publishes a package for each CPU, and a version of the plugin that may have either.
fn publish(version: &str) -> Result<()> {
    let folder = tempfile::tempdir()?;
    for (name, cpu) in ENGINES {
        let package = folder.path().join(cpu);
        fs::create_dir(&package)?;
        let described = json!({"name": name, "version": version, "os": ["linux"], "cpu": [cpu], "main": "index.js"});
        fs::write(package.join("package.json"), described.to_string())?;
        fs::write(
            package.join("index.js"),
            format!("module.exports = '{cpu}';\n"),
        )?;
        cluster().npm().publish(&package)?;
    }
    let engines: serde_json::Map<_, _> = ENGINES
        .iter()
        .map(|(name, _)| ((*name).to_owned(), json!(version)))
        .collect();
    let optional = format!(
        "\"type\": \"module\",\n  \"optionalDependencies\": {},",
        Value::Object(engines)
    );
    let files = ["package.json", "manifest.js", "worker.js"];
    let replacements = [
        ("\"1.0.0\"", format!("\"{version}\"")),
        ("\"type\": \"module\",", optional),
    ];
    crate::support::publish("tests/plugins/settings", version, &files, &replacements)
}

/// A blob or manifest of the store, from the volume beside it.
fn stored(digest: &Value) -> Result<Value> {
    let digest = digest.as_str().context("a digest")?;
    let hex = digest.strip_prefix("sha256:").context("sha256")?;
    let wanted = PathBuf::from(hex).join("data");
    for entry in walkdir::WalkDir::new(cluster().dir().join("volumes")) {
        let entry = entry?;
        if entry.path().ends_with(&wanted) {
            return Ok(serde_json::from_slice(&fs::read(entry.path())?)?);
        }
    }
    anyhow::bail!("{digest} is not in the store")
}

/// The engines in the tree that the plugin's worker runs on.
fn engines_of_the_worker(namespace: &str) -> Result<Vec<String>> {
    let processes = worker_processes(namespace, PLUGIN)?;
    let worker = processes
        .first()
        .context("the worker runs on this machine")?;
    let modules = format!("/proc/{worker}/root/paperclip/artifact/node_modules");
    let mut names = Vec::new();
    for entry in fs::read_dir(&modules).with_context(|| modules.clone())? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.retain(|name| name.starts_with("paperclip-test-engine"));
    Ok(names)
}

#[test]
fn nodes_of_two_cpus_have_one_artifact_with_a_tree_for_each() -> Result<()> {
    // A version that was never packed, also not by an earlier run on this cluster.
    let version = format!("5.0.{}", std::time::UNIX_EPOCH.elapsed()?.as_secs());
    publish(&version)?;
    let namespace = Namespace::create("e2e-platforms")?;
    let ns = namespace.name();
    let node = Node::create()?;
    let plugin = json!({
        "apiVersion": "plugins.paperclip.ing/v1alpha1", "kind": "PaperclipPlugin",
        "metadata": {"name": PLUGIN},
        "spec": {
            "source": {"npm": {"package": PACKAGE, "version": version}},
            "config": {"default": {"colour": "red"}},
            "host": {"name": "main", "namespace": HOST_NAMESPACE},
        },
    });
    namespace.apply(&plugin.to_string())?;
    namespace.wait_ready(PLUGIN, COLD)?;

    let both = json!(["linux/amd64", "linux/arm64"]);
    let plugin = get(&["paperclipplugin", PLUGIN, "-n", ns])?;
    let artifact = &plugin["status"]["artifact"];
    ensure!(artifact["platforms"] == both, "{artifact}");
    ensure!(artifact["packedFor"] == both, "{artifact}");
    let index = stored(&artifact["digest"])?;
    let images = index["manifests"].as_array().context("an index")?;
    let mut trees = Vec::new();
    for (image, cpu) in images.iter().zip(["amd64", "arm64"]) {
        ensure!(image["platform"]["architecture"] == cpu, "{index}");
        let manifest = stored(&image["digest"])?;
        trees.push(manifest["layers"][1]["digest"].clone());
    }
    ensure!(trees.len() == 2 && trees[0] != trees[1], "{trees:?}");

    // The pod is where its tree fits, and has that tree.
    let pod = pod_of(ns, PLUGIN)?;
    let on = pod["spec"]["nodeName"].as_str().context("a node")?;
    let on = get(&["node", on])?;
    let cpu = &on["metadata"]["labels"]["kubernetes.io/arch"];
    ensure!(cpu == "amd64", "{cpu}");
    let affinity = pod["spec"]["affinity"].to_string();
    ensure!(affinity.contains(r#"["amd64","arm64"]"#), "{affinity}");
    let engines = engines_of_the_worker(ns)?;
    ensure!(engines == [ENGINES[0].0], "{engines:?}");

    // A node that goes changes nothing.
    let uid = pod["metadata"]["uid"].clone();
    drop(node);
    crate::support::paperclip(ns, &["reconcile", PLUGIN])?;
    namespace.wait_ready(PLUGIN, COLD)?;
    let after = get(&["paperclipplugin", PLUGIN, "-n", ns])?;
    ensure!(
        after["status"]["artifact"] == *artifact,
        "{}",
        after["status"]
    );
    ensure!(pod_of(ns, PLUGIN)?["metadata"]["uid"] == uid);
    Ok(())
}
