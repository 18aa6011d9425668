//! gRPC clients that were not written here: Google's for Node, with the contract alone.

use std::{fs, process::Command};

use serde_json::{Value, json};

use crate::support::{
    artifact,
    pod::{Pod, host},
};

const WORKER: &str = r#"
    handlers.getData = ({ id, params }) => {
        if (params.refuse) send({ id, error: { code: -32002, message: "the till is shut", data: { until: 9 } } });
        else if (!params.silent) send({ id, result: { echo: params } });
    };
"#;

/// Asks health, reflection and `Call`, and prints what each said.
const CLIENT: &str = r#"
import { createRequire } from "node:module";
import fs from "node:fs";
const [tree, folder, address, contract] = process.argv.slice(2);
const require = createRequire(`${tree}/`);
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");
const reflection = require.resolve("@grpc/reflection/package.json").replace("package.json", "build/proto/grpc/reflection/v1/reflection.proto");
const health = `${folder}/health.proto`;
const options = { keepCase: true, defaults: true, enums: String };
const load = (file, ...include) => grpc.loadPackageDefinition(loader.loadSync(file, { ...options, includeDirs: include }));
const read = (name) => fs.readFileSync(`${folder}/${name}`);
// Pods are known by the URI in their certificate, which is checked below, not by a name.
let identity;
const credentials = grpc.credentials.createSsl(read("ca.crt"), read("tls.key"), read("tls.crt"), {
  checkServerIdentity: (_, certificate) => { identity = certificate.subjectaltname; },
});
// An address is no name to ask for in TLS.
const channel = { "grpc.ssl_target_name_override": "plugin" };
const { PluginBridgeService } = load(contract).paperclip.plugin.v1;
const bridge = new PluginBridgeService(address, credentials, channel);
const call = (method, params, deadline) => new Promise((resolve) => {
  const request = { method, params_json: Buffer.from(JSON.stringify(params)) };
  bridge.Call(request, { deadline: Date.now() + deadline }, (error, reply) => resolve(error
    ? { code: grpc.status[error.code], message: error.details, detailed: error.metadata.get("grpc-status-details-bin").length }
    : JSON.parse(reply.result_json)));
});
const { Health } = load(health).grpc.health.v1;
const checked = (service) => new Promise((resolve) =>
  new Health(address, credentials, channel).Check({ service }, (error, reply) => resolve(error ? grpc.status[error.code] : reply.status)));
const listed = () => new Promise((resolve, reject) => {
  const { ServerReflection } = load(reflection).grpc.reflection.v1;
  const stream = new ServerReflection(address, credentials, channel).ServerReflectionInfo();
  stream.on("data", (reply) => { stream.end(); resolve(reply.list_services_response.service.map(({ name }) => name).sort()); });
  stream.on("error", reject);
  stream.write({ list_services: "*" });
});
// The sidecar ends a call a moment before the client does; a machine that stalls may miss it once.
const late = async () => {
  let reply;
  for (let tries = 0; tries < 5; tries++) {
    reply = await call("getData", { silent: true }, 1000);
    if (reply.detailed) break;
  }
  return reply;
};
const report = {
  answered: await call("getData", { a: 1 }, 10000),
  refused: await call("getData", { refuse: true }, 10000),
  late: await late(),
  health: [await checked("paperclip.plugin.v1.PluginBridgeService"), await checked("nobody")],
  services: await listed(),
};
console.log(JSON.stringify({ identity, ...report }));
process.exit(0);
"#;

const HEALTH: &str = r#"
syntax = "proto3";
package grpc.health.v1;
message HealthCheckRequest { string service = 1; }
message HealthCheckResponse {
  enum ServingStatus { UNKNOWN = 0; SERVING = 1; NOT_SERVING = 2; SERVICE_UNKNOWN = 3; }
  ServingStatus status = 1;
}
service Health { rpc Check(HealthCheckRequest) returns (HealthCheckResponse); }
"#;

#[tokio::test]
async fn a_client_of_another_maker_uses_health_reflection_and_call() {
    // One package that brings the three: reflection depends on grpc-js and proto-loader.
    let tree = artifact::installed("@grpc/reflection@1");
    let pod = Pod::start(json!({}), |folder| artifact::raw(folder, WORKER, &[]));
    pod.serving().await;
    let folder = tempfile::tempdir().unwrap();
    let leaf = pod.authority.issue(&host());
    let files = [
        ("ca.crt", leaf.ca.as_str()),
        ("tls.crt", &leaf.certificate),
        ("tls.key", &leaf.key),
        ("health.proto", HEALTH),
        ("client.mjs", CLIENT),
    ];
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let contract = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../proto/bridge/proto/paperclip/plugin/v1/bridge.proto"
    );
    let address = pod.address().await.to_string();
    let mut client = Command::new(artifact::node());
    client
        .arg(folder.path().join("client.mjs"))
        .arg(&tree)
        .arg(folder.path())
        .args([&address, contract]);
    let output = tokio::task::spawn_blocking(move || client.output().unwrap())
        .await
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let mut report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let words = report["late"]["message"].take();
    let milliseconds = words
        .as_str()
        .and_then(|words| words.strip_prefix("the worker did not answer getData within "))
        .and_then(|words| words.strip_suffix(" ms")?.parse::<u64>().ok());
    // A tenth of a second before the client's own limit, less what was spent on the way.
    assert!((1..=900).contains(&milliseconds.unwrap_or(0)), "{words}");
    assert_eq!(
        report,
        json!({
            "identity": "URI:spiffe://paperclip.ing/ns/shop/plugin/commerce",
            "answered": {"echo": {"a": 1}},
            "refused": {"code": "UNKNOWN", "message": "the till is shut", "detailed": 1},
            "late": {"code": "DEADLINE_EXCEEDED", "message": null, "detailed": 1},
            "health": ["SERVING", "NOT_FOUND"],
            "services": [
                "grpc.health.v1.Health",
                "grpc.reflection.v1.ServerReflection",
                "paperclip.plugin.v1.PluginBridgeService",
                "paperclip.plugin.v1.PluginStatusService",
            ],
        })
    );
}
