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
