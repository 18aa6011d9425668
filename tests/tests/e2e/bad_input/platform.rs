//! What an administrator of the cluster does to plugins: closes nodes, refuses pods by
//! policy and quota, installs the platform with values that are wrong. Each is undone when
//! dropped.

use anyhow::{Result, bail};
use serde_json::json;

use crate::support::{
    Namespace, PLATFORM_NAMESPACE, WARM, cluster, eventually, kubectl, kubectl_with_input,
    upgrade_platform,
};

const POLICY: &str = "e2e-bad-input";
const SECRET: &str = "e2e-wrong-credential";

/// No node takes new pods.
pub struct Cordon;

impl Cordon {
    /// Closes every node.
    pub fn all() -> Result<Self> {
        let cordon = Self;
        for node in cluster().node_names() {
            kubectl(&["cordon", &node])?;
        }
        Ok(cordon)
    }
}

impl Drop for Cordon {
    fn drop(&mut self) {
        for node in cluster().node_names() {
            let _ = kubectl(&["uncordon", &node]);
        }
    }
}

/// Allows no pod in a namespace.
pub fn close_by_quota(namespace: &Namespace) -> Result<()> {
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "tight"},
        "spec": {"hard": {"pods": "0"}},
    });
    namespace.apply(&quota.to_string())?;
    eventually("the quota to be counted", WARM, || {
        let used = kubectl(&[
            "get",
            "resourcequota",
            "tight",
            "-n",
            namespace.name(),
            "-o",
            "jsonpath={.status.used.pods}",
        ])?;
        anyhow::ensure!(used == "0", "{used:?}");
        Ok(())
    })
}

/// A policy that refuses the pods of one plugin.
pub struct Policy;

impl Policy {
    /// Refuses the pods of this plugin, and waits until that holds.
    pub fn refusing(namespace: &str, plugin: &str) -> Result<Self> {
        let label = "plugins.paperclip.ing/plugin";
        let policy = Self;
        let list = json!({"apiVersion": "v1", "kind": "List", "items": [
            {
                "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
                "metadata": {"name": POLICY},
                "spec": {
                    "failurePolicy": "Fail",
                    "matchConstraints": {"resourceRules": [
                        {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]},
                    ]},
                    "validations": [{
                        "expression": format!("!has(object.metadata.labels) || !('{label}' in object.metadata.labels) || object.metadata.labels['{label}'] != '{plugin}'"),
                        "message": "pods need a cost centre",
                    }],
                },
            },
            {
                "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
                "metadata": {"name": POLICY},
                "spec": {
                    "policyName": POLICY, "validationActions": ["Deny"],
                    "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}},
                },
            },
        ]});
        kubectl_with_input(&["apply", "-f", "-"], &list.to_string())?;
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "probe", "labels": {label: plugin}},
            "spec": {
                "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
                "containers": [{
                    "name": "probe", "image": "probe",
                    "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
                }],
            },
        });
        eventually("the policy to hold", WARM, || {
            let asked = kubectl_with_input(
                &["create", "--dry-run=server", "-n", namespace, "-f", "-"],
                &pod.to_string(),
            );
            match asked {
                Err(error) if format!("{error:#}").contains("cost centre") => Ok(()),
                other => bail!("{other:?}"),
            }
        })?;
        Ok(policy)
    }
}

impl Drop for Policy {
    fn drop(&mut self) {
        for kind in [
            "validatingadmissionpolicybinding",
            "validatingadmissionpolicy",
        ] {
            let _ = kubectl(&["delete", kind, POLICY, "--ignore-not-found"]);
        }
    }
}

/// The platform with a credential that its registry refuses and a runtime image that does
/// not exist.
pub struct WrongValues;

impl WrongValues {
    /// Upgrades the platform's release to these values.
    pub fn install() -> Result<Self> {
        let registry = cluster().npm().url_in_cluster();
        let host = registry.trim_start_matches("http:");
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": SECRET, "namespace": PLATFORM_NAMESPACE},
            "stringData": {"npmrc": format!("{host}/:_authToken=wrong\n")},
        });
        kubectl_with_input(&["apply", "-f", "-"], &secret.to_string())?;
        let values = Self;
        upgrade_platform(&[
            &format!("--set=npm.caSecret={SECRET}"),
            "--set=images.runtimeNode.tag=there-is-none",
        ])?;
        Ok(values)
    }
}

impl Drop for WrongValues {
    fn drop(&mut self) {
        let _ = upgrade_platform(&["--set=npm.caSecret=", "--set=images.runtimeNode.tag="]);
        let _ = kubectl(&["delete", "secret", SECRET, "-n", PLATFORM_NAMESPACE]);
    }
}

/// The npm registry is gone for pods.
pub struct Cut;

impl Cut {
    /// Refuses every connection of a pod.
    pub fn registry() -> Result<Self> {
        let cut = Self;
        cluster().npm().cut()?;
        Ok(cut)
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        let _ = cluster().npm().restore();
    }
}
