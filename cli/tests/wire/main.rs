//! Calls on the wire: the program against a small API server that forwards a port to a
//! host, so that paths, tokens, bodies and exit codes are what the other side sees.

mod cluster;
mod why;

use std::process::{Command, Output};

use cluster::FakeCluster;
use serde_json::{Value, json};

/// Runs the program against a cluster.
fn paperclip(cluster: &FakeCluster, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kubectl-paperclip"))
        .env("KUBECONFIG", cluster.kubeconfig())
        .env_remove("PAPERCLIP_TOKEN")
        .args(["-n", "shop"])
        .args(arguments)
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_tool_is_called_through_a_port_forward_with_a_short_lived_token() {
    let cluster = FakeCluster::start(
        200,
        json!({"result": {"content": "brewed", "data": {"cups": 2}}}),
    );
    let output = paperclip(
        &cluster,
        &[
            "call",
            "tea",
            "example.tea:brew",
            "--params",
            "{\"cups\":2}",
        ],
    );
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stdout(&output), "brewed\n{\n  \"cups\": 2\n}\n");

    let seen = cluster.requests_to_host();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].line, "POST /api/plugins/tools/execute");
    assert_eq!(
        seen[0].authorization.as_deref(),
        Some("Bearer token-of-main-client")
    );
    let body: Value = serde_json::from_slice(&seen[0].body).unwrap();
    assert_eq!(body["tool"], "uid-of-tea:brew");
    assert_eq!(body["parameters"], json!({"cups": 2}));
    assert_eq!(cluster.token_lifetime(), Some(600));
}

#[test]
fn the_token_of_the_kubeconfig_is_sent_on_request_only() {
    let cluster = FakeCluster::start(200, json!({"data": 1}));
    paperclip(&cluster, &["data", "tea", "cups"]);
    paperclip(&cluster, &["data", "tea", "cups", "--own-token"]);
    paperclip(&cluster, &["data", "tea", "cups", "--token", "given"]);
    let tokens: Vec<_> = cluster
        .requests_to_host()
        .into_iter()
        .filter_map(|request| request.authorization)
        .collect();
    assert_eq!(
        tokens,
        [
            "Bearer token-of-main-client",
            "Bearer token-of-kubeconfig",
            "Bearer given"
        ]
    );
}

#[test]
fn a_webhook_gets_the_bytes_as_they_are_and_no_token() {
    let cluster = FakeCluster::start(200, json!({"deliveryId": "d-1", "status": "success"}));
    let data = "{\"b\": 1,  \"a\":2}\n";
    let output = paperclip(
        &cluster,
        &["webhook", "tea", "in box", "--data", data, "-o", "json"],
    );
    assert!(output.status.success(), "{}", stderr(&output));
    let answer: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(answer["status"], "success");
    let seen = cluster.requests_to_host();
    assert_eq!(
        seen[0].line,
        "POST /api/plugins/uid-of-tea/webhooks/in%20box"
    );
    assert_eq!(seen[0].body, data.as_bytes());
    assert_eq!(seen[0].authorization, None);
}

#[test]
fn an_error_of_the_host_is_told_with_its_status() {
    let cluster = FakeCluster::start(404, json!({"error": "no such tool"}));
    let output = paperclip(&cluster, &["call", "tea", "pour"]);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(
        stderr(&output),
        "error: call tool pour of plugin shop/tea: the host answered 404 Not Found: no such tool\n"
    );
    assert!(output.stdout.is_empty());
}

#[test]
fn a_worker_that_is_away_has_an_exit_code_of_its_own() {
    let body = json!({"code": "WORKER_UNAVAILABLE", "message": "no pod serves"});
    let cluster = FakeCluster::start(502, body);
    let output = paperclip(&cluster, &["action", "tea", "pour"]);
    assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
}

#[test]
fn a_tool_that_reports_a_failure_fails_the_command() {
    let cluster = FakeCluster::start(200, json!({"result": {"error": "no water"}}));
    let output = paperclip(&cluster, &["call", "tea", "brew"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("no water"), "{}", stderr(&output));
}

#[test]
fn a_missing_plugin_is_not_found() {
    let cluster = FakeCluster::start(200, Value::Null);
    let output = paperclip(&cluster, &["get", "coffee"]);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(
        stderr(&output),
        "error: no PaperclipPlugin coffee in namespace shop\n\
         hint: `kubectl paperclip list -A` shows all plugins\n"
    );
}

#[test]
fn what_the_kubelet_says_about_the_port_is_told() {
    let cluster = FakeCluster::refusing("connection refused");
    let output = paperclip(&cluster, &["data", "tea", "cups"]);
    assert_eq!(output.status.code(), Some(4));
    assert!(
        stderr(&output).contains("connection refused"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn the_list_is_a_table_or_the_objects() {
    let cluster = FakeCluster::start(200, Value::Null);
    let output = paperclip(&cluster, &["list", "-A"]);
    let table = stdout(&output);
    assert!(
        table.starts_with("NAMESPACE   NAME   READY"),
        "{table}{}",
        stderr(&output)
    );
    let output = paperclip(&cluster, &["list", "-o", "json"]);
    let list: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(list["items"][0]["kind"], "PaperclipPlugin");
    assert_eq!(list["items"][0]["metadata"]["name"], "tea");
}

#[test]
fn logs_of_worker_and_sidecar_are_in_order_of_time() {
    let cluster = FakeCluster::start(200, Value::Null);
    let output = paperclip(&cluster, &["logs", "tea"]);
    assert_eq!(
        stdout(&output),
        "[tea-1/worker] one\n[tea-1/sidecar] two\n[tea-1/worker] three\n",
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let cluster = FakeCluster::start(200, Value::Null);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = Command::new(env!("CARGO_BIN_EXE_kubectl-paperclip"))
        .env("KUBECONFIG", cluster.kubeconfig())
        .args(["list", "-A"])
        .stdout(writer)
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap()
        .wait_with_output()
        .unwrap();
    assert!(output.status.success());
    assert_eq!(stderr(&output), "");
}

#[test]
fn a_host_that_ends_the_connection_is_dialled_again() {
    let cluster = FakeCluster::start(200, json!([{"id": "j-1", "jobKey": "brew"}]));
    let output = paperclip(&cluster, &["job", "tea", "runs", "brew"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let lines: Vec<_> = cluster
        .requests_to_host()
        .into_iter()
        .map(|request| request.line)
        .collect();
    assert_eq!(
        lines,
        [
            "GET /api/plugins/uid-of-tea/jobs",
            "GET /api/plugins/uid-of-tea/jobs/j-1/runs"
        ]
    );
}
