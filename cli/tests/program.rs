//! The program as a user runs it, as far as it needs no cluster.

use std::process::{Command, Output};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kubectl-paperclip"))
        .args(arguments)
        .env("KUBECONFIG", "/nonexistent/kubeconfig")
        .env_remove("KUBERNETES_SERVICE_HOST")
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_wrong_command_line_exits_with_2_and_keeps_standard_output_empty() {
    for arguments in [
        &["call", "tea"][..],
        &["get", "Tea"],
        &["list", "-o", "xml"],
        &["get", "tea", "-A"],
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_missing_kubeconfig_is_named() {
    let output = run(&["list", "--kubeconfig", "/nonexistent/other"]);
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    assert!(said.starts_with("error: read the kubeconfig"), "{said}");
    assert!(said.contains("/nonexistent/other"), "{said}");
}

#[test]
fn completion_needs_no_cluster() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let output = run(&["completion", shell]);
        assert!(output.status.success(), "{shell}");
        assert!(text(&output.stdout).contains("paperclip"), "{shell}");
    }
}

#[test]
fn kubectl_gets_candidates_for_a_word() {
    let output = run(&["__complete", "--", "lo"]);
    assert_eq!(text(&output.stdout), "logs\n:4\n");
}

#[test]
fn the_compatibility_matrix_is_as_committed_and_needs_no_cluster() {
    let output = run(&["compatibility"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    insta::assert_snapshot!("compatibility", text(&output.stdout));
}

#[test]
fn a_version_that_is_not_served_is_refused_with_those_that_are() {
    let output = run(&["compatibility", "--api-version", "7"]);
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    let wanted = "no sidecar of this release serves apiVersion 7, wanted 1";
    assert!(said.contains(wanted), "{said}");
    let output = run(&["compatibility", "--api-version", "1", "-o", "json"]);
    let matrix: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let methods = &matrix["apiVersions"][0]["methods"];
    let asks = methods.as_array().unwrap().iter();
    let found = asks.filter(|method| method["name"] == "state.set");
    let wanted = serde_json::json!({
        "name": "state.set", "direction": "worker asks", "capability": "plugin.state.write",
        "since": "0.1.0",
    });
    assert_eq!(found.collect::<Vec<_>>(), [&wanted]);
}
