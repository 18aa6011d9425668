//! Trust policies: none, one for others, one that is not met, and one that asks for nothing;
//! and the platform's own signature.
//!
//! A policy is of the whole cluster, so the test has it to itself and takes every policy
//! away again, also when it fails.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::poison::catalogue;
use crate::support::{
    COLD, HOST_NAMESPACE, Namespace, PLATFORM_NAMESPACE, WARM, condition, eventually, get, kubectl,
    kubectl_with_input, pod_of, publish, publish_settings,
};

const PLUGIN: &str = "settings";
const PACKAGE: &str = "paperclip-plugin-test-settings";
/// A package that no policy lets in.
const DISTRUSTED: &str = "paperclip-plugin-test-distrusted";
/// A P-256 key with which no registry signs.
const KEY: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==";

/// A policy that goes with the test.
struct Policy(&'static str);

impl Policy {
    fn apply(name: &'static str, spec: &Value) -> Result<Self> {
        let policy = Self(name);
        let object = json!({
            "apiVersion": "plugins.paperclip.ing/v1alpha1", "kind": "PaperclipTrustPolicy",
            "metadata": {"name": name}, "spec": spec,
        });
        kubectl_with_input(&["apply", "-f", "-"], &object.to_string())?;
        Ok(policy)
    }
}

impl Drop for Policy {
    fn drop(&mut self) {
        let gone = kubectl(&[
            "delete",
            "papercliptrustpolicy",
            self.0,
            "--ignore-not-found",
        ]);
        if let Err(error) = gone {
            eprintln!("policy {} stays: {error:#}", self.0);
        }
    }
}

fn apply(namespace: &Namespace, version: &str) -> Result<()> {
    apply_package(namespace, PLUGIN, PACKAGE, version)
}

fn apply_package(namespace: &Namespace, plugin: &str, package: &str, version: &str) -> Result<()> {
    let plugin = json!({
        "apiVersion": "plugins.paperclip.ing/v1alpha1", "kind": "PaperclipPlugin",
        "metadata": {"name": plugin},
        "spec": {
            "source": {"npm": {"package": package, "version": version}},
            "config": {"default": {"colour": "red"}},
            "host": {"name": "main", "namespace": HOST_NAMESPACE},
        },
    });
    namespace.apply(&plugin.to_string()).map(drop)
}

/// Waits until `Verified` says this, and gives its message.
fn wait_verified(namespace: &Namespace, status: &str, reason: &str) -> Result<String> {
    wait_verified_of(namespace, PLUGIN, status, reason)
}

fn wait_verified_of(
    namespace: &Namespace,
    plugin: &str,
    status: &str,
    reason: &str,
) -> Result<String> {
    eventually(&format!("Verified to be {status} {reason}"), COLD, || {
        let plugin = get(&["paperclipplugin", plugin, "-n", namespace.name()])?;
        let verified = condition(&plugin, "Verified");
        ensure!(
            verified["status"] == status && verified["reason"] == reason,
            "{verified}"
        );
        Ok(verified["message"].as_str().unwrap_or_default().to_owned())
    })
}

#[test]
fn what_no_policy_trusts_does_not_roll_out_and_what_runs_goes_on() -> Result<()> {
    publish_settings("7.0.0")?;
    publish_settings("7.1.0")?;
    let renamed = [
        ("\"1.0.0\"", "\"7.9.0\"".to_owned()),
        (PACKAGE, DISTRUSTED.to_owned()),
    ];
    let files = ["package.json", "manifest.js", "worker.js"];
    publish("tests/plugins/settings", "7.9.0", &files, &renamed)?;
    let namespace = Namespace::create("e2e-trust")?;
    let ns = namespace.name();
    apply(&namespace, "7.0.0")?;
    namespace.wait_ready(PLUGIN, COLD)?;
    wait_verified(&namespace, "Unknown", "Skipped")?;
    let uid = || -> Result<Value> { Ok(pod_of(ns, PLUGIN)?["metadata"]["uid"].clone()) };
    let pod = uid()?;

    // A policy for others alone: everything else is denied, and nothing is stopped.
    let others = json!({"match": {"packages": ["@nobody/*"]}, "require": []});
    let others = Policy::apply("e2e-others", &others)?;
    let says = wait_verified(&namespace, "False", "NoPolicyMatches")?;
    ensure!(says.contains(PACKAGE), "{says}");
    ensure!(uid()? == pod);

    // One that wants a signature, which this registry does not make: the Job says so.
    let here = json!({"namespaces": {"names": [ns]}});
    let signature = json!([{"npmSignature": {"keys": [{"keyid": "SHA256:nobody", "key": KEY}]}}]);
    let signed = json!({"match": here, "require": signature});
    let signed = Policy::apply("e2e-signed", &signed)?;
    let says = wait_verified(&namespace, "False", "SignatureMissing")?;
    ensure!(
        says.contains("e2e-signed") && says.contains("SHA256:nobody"),
        "{says}"
    );
    ensure!(uid()? == pod);

    // A new version is judged before it is pushed, and does not roll out.
    apply(&namespace, "7.1.0")?;
    eventually("the new version to be refused", COLD, || {
        let plugin = get(&["paperclipplugin", PLUGIN, "-n", ns])?;
        let packed = condition(&plugin, "ArtifactReady");
        ensure!(packed["reason"] == "SignatureMissing", "{packed}");
        let status = &plugin["status"];
        ensure!(status["artifact"]["version"] == "7.0.0", "{status}");
        ensure!(
            status["verification"]["refused"] == "SignatureMissing",
            "{status}"
        );
        ensure!(status["activeRevision"]["number"] == 1, "{status}");
        Ok(())
    })?;
    ensure!(uid()? == pod);

    // A package that is refused leaves no trace in the store.
    apply_package(&namespace, "distrusted", DISTRUSTED, "7.9.0")?;
    let says = wait_verified_of(&namespace, "distrusted", "False", "SignatureMissing")?;
    ensure!(says.contains("e2e-signed"), "{says}");
    let repositories = catalogue()?.join("\n");
    ensure!(repositories.contains(PACKAGE), "{repositories}");
    ensure!(!repositories.contains(DISTRUSTED), "{repositories}");
    kubectl(&["delete", "paperclipplugin", "distrusted", "-n", ns])?;

    // A policy that asks for nothing lets it go on by itself.
    drop(signed);
    let open = json!({"match": {"namespaces": {"names": [ns]}}, "require": []});
    let open = Policy::apply("e2e-open", &open)?;
    eventually("the new version to serve", COLD, || {
        namespace.wait_ready(PLUGIN, WARM)?;
        let plugin = get(&["paperclipplugin", PLUGIN, "-n", ns])?;
        let number = &plugin["status"]["activeRevision"]["number"];
        ensure!(*number == 2, "{number}");
        Ok(())
    })?;
    let says = wait_verified(&namespace, "Unknown", "Skipped")?;
    ensure!(says.contains("e2e-open"), "{says}");
    let status = get(&["papercliptrustpolicy", "e2e-open"])?["status"].clone();
    ensure!(status["conditions"][0]["status"] == "True", "{status}");
    drop((open, others));
    Ok(())
}

#[test]
fn what_is_packed_is_signed_and_pods_are_told_who_may_sign() -> Result<()> {
    publish_settings("7.2.0")?;
    let namespace = Namespace::create("e2e-signed")?;
    let ns = namespace.name();
    apply(&namespace, "7.2.0")?;
    namespace.wait_ready(PLUGIN, COLD)?;
    let keys = [
        "configmap",
        "paperclip-signing-keys",
        "-n",
        PLATFORM_NAMESPACE,
    ];
    let keys = get(&keys)?["data"].clone();
    let current = keys["cosign.pub"].as_str().context("a key")?;
    ensure!(current.starts_with("-----BEGIN PUBLIC KEY-----"), "{keys}");
    let status = get(&["paperclipplugin", PLUGIN, "-n", ns])?["status"].clone();
    let by = status["artifact"]["signedBy"].as_str();
    ensure!(by.is_some_and(|by| by.starts_with("sha256:")), "{status}");
    let pod = pod_of(ns, PLUGIN)?;
    let steps = pod["spec"]["initContainers"].as_array().context("steps")?;
    let told = steps
        .iter()
        .flat_map(|step| step["env"].as_array().into_iter().flatten())
        .find(|variable| variable["name"] == "PAPERCLIP_SIGNING_KEYS");
    let told = told.context("the pod is told the keys")?["value"].as_str();
    ensure!(told.is_some_and(|told| told.contains(current)), "{told:?}");
    Ok(())
}

#[test]
fn a_policy_that_cannot_be_checked_is_refused_or_says_why() -> Result<()> {
    let two = json!({"require": [{"npmSignature": {"keys": [{"keyid": "a", "key": KEY}]},
        "cosign": {"key": KEY}}]});
    let refused = Policy::apply("e2e-two", &two);
    let refusal = format!("{:#}", refused.err().context("two in one are refused")?);
    ensure!(refusal.contains("exactly one of npmSignature"), "{refusal}");

    let elsewhere = json!({"namespaces": {"names": ["e2e-nowhere"]}});
    let broken = json!({"match": elsewhere, "require": [{"cosign": {"key": "none"}}]});
    let broken = Policy::apply("e2e-broken", &broken)?;
    eventually("the policy to say why", WARM, || {
        let status = get(&["papercliptrustpolicy", "e2e-broken"])?["status"].clone();
        let ready = &status["conditions"][0];
        ensure!(ready["reason"] == "PolicyInvalid", "{status}");
        ensure!(status["plugins"] == 0, "{status}");
        Ok(())
    })?;
    drop(broken);
    Ok(())
}
