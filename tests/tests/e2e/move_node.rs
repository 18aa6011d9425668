//! A plugin moves to a node that never saw it, with the npm registry gone.

use anyhow::{Context, Result, ensure};

use crate::support::{
    COLD, Namespace, PLATFORM_NAMESPACE, WARM, cluster, eventually, get, inventory,
    inventory_of_version, kubectl, paperclip_json, pod_of, worker_processes,
};

const PLUGIN: &str = "inventory";

/// Uncordons every node, and brings the npm registry back, whatever happened in between.
struct Restore;

impl Drop for Restore {
    fn drop(&mut self) {
        for node in cluster().node_names() {
            let _ = kubectl(&["uncordon", &node]);
        }
        let _ = cluster().npm().restore();
    }
}

/// What tells the plugin's artifact from all others.
fn marker_of(namespace: &str) -> Result<String> {
    let plugin = get(&["paperclipplugin", PLUGIN, "-n", namespace])?;
    let marker = plugin["status"]["artifact"]["marker"].as_str();
    Ok(marker
        .context("status names the artifact's marker")?
        .to_owned())
}

/// Whether the artifact stands in a volume of any pod on a node, looked up on its disk.
fn unpacked_on(node: &str, marker: &str) -> bool {
    walkdir::WalkDir::new(cluster().dir().join(node))
        .into_iter()
        .filter_map(Result::ok)
        .filter(|entry| entry.path().ends_with("artifact/.paperclip/marker"))
        .any(|entry| std::fs::read_to_string(entry.path()).is_ok_and(|text| text.trim() == marker))
}

fn node_of(namespace: &str) -> Result<String> {
    let pod = pod_of(namespace, PLUGIN)?;
    Ok(pod["spec"]["nodeName"]
        .as_str()
        .context("pod has a node")?
        .to_owned())
}

#[test]
fn a_plugin_moves_to_a_node_without_its_artifact_while_npm_is_gone() -> Result<()> {
    let nodes = cluster().node_names();
    ensure!(nodes.len() == 2, "{nodes:?}");
    let (first, second) = (nodes[0].as_str(), nodes[1].as_str());
    let _restore = Restore;

    kubectl(&["cordon", second])?;
    let namespace = inventory_of_version("e2e-move", "1.0.1")?;
    ensure!(
        node_of(namespace.name())? == first,
        "the pod began on the first node"
    );

    let marker = marker_of(namespace.name())?;
    ensure!(
        unpacked_on(first, &marker),
        "the first node holds the artifact"
    );
    ensure!(
        !unpacked_on(second, &marker),
        "the second node never saw the artifact"
    );

    kubectl(&["uncordon", second])?;
    kubectl(&["cordon", first])?;
    cluster().npm().cut()?;
    let refused = crate::isolation::node_in_pod(
        &namespace,
        "npm-is-cut",
        &format!(
            "fetch('{}/zod',{{signal:AbortSignal.timeout(5000)}}).then(r=>console.log('answered',r.status),e=>console.log('refused'))",
            cluster().npm().url_in_cluster()
        ),
    )?;
    ensure!(refused.contains("refused"), "{refused}");

    let pod = pod_of(namespace.name(), PLUGIN)?;
    let name = pod["metadata"]["name"].as_str().context("name")?;
    kubectl(&[
        "delete",
        "pod",
        "-n",
        namespace.name(),
        name,
        "--wait=false",
    ])?;
    eventually("the plugin to answer from the second node", COLD, || {
        ensure!(node_of(namespace.name())? == second);
        paperclip_json(
            namespace.name(),
            &["-o", "json", "data", PLUGIN, "counters"],
        )
        .map(drop)
    })?;
    ensure!(!worker_processes(namespace.name(), PLUGIN)?.is_empty());
    Ok(())
}

#[test]
fn a_version_that_was_packed_once_starts_elsewhere_while_npm_is_gone() -> Result<()> {
    // Gone again, since its host has one plugin of an id.
    drop(inventory("e2e-packed-once")?);
    // Finished Jobs go after a while; only the store remembers then.
    kubectl(&["delete", "jobs", "-n", PLATFORM_NAMESPACE, "--all"])?;
    let _restore = Restore;
    cluster().npm().cut()?;
    let namespace = Namespace::create("e2e-packed-again")?;
    namespace.apply(include_str!("../../../examples/inventory.yaml"))?;
    namespace.wait_ready(PLUGIN, WARM)?;
    paperclip_json(
        namespace.name(),
        &["-o", "json", "data", PLUGIN, "counters"],
    )
    .map(drop)
}
