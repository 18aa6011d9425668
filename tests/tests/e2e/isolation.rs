//! What a pod can reach, seen from inside one.

use anyhow::{Result, ensure};
use serde_json::json;

use crate::support::{Namespace, WARM, cluster, eventually, get, kubectl};

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
