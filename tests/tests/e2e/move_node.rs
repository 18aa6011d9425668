//! A plugin moves to a node that never saw it, with the npm registry gone.

use anyhow::{Context, Result, ensure};

use crate::support::{
    COLD, cluster, eventually, inventory, kubectl, paperclip_json, pod_of, worker_processes,
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
    let namespace = inventory("e2e-move")?;
    ensure!(
        node_of(namespace.name())? == first,
        "the pod began on the first node"
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

    // Downloads from outside are counted by the registry, for the whole life of this cluster.
    for (path, count) in cluster().npm().counts()? {
        if path.ends_with(".tgz") {
            ensure!(count == 1, "{path} was fetched {count} times");
        }
    }
    Ok(())
}
