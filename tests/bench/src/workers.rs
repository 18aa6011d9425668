//! The two workers: one that only echoes lines, and one written with the SDK.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use paperclip_bridge::facts::{Facts, HostFacts, InstanceFacts};
use paperclip_tests::programs;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Marker of the artifacts here.
const MARKER: &str = "0000000000000000000000000000000000000000000000000000000000000000";
const SDK: &str = "@paperclipai/plugin-sdk@2026.916.1";

/// Answers each call with its params and depends on nothing.
const ECHO: &str = r#"
let parts = [];
const send = (id, result) =>
  process.stdout.write(JSON.stringify({ jsonrpc: "2.0", id, result }) + "\n");
const take = (line) => {
  const { id, method, params } = JSON.parse(line);
  if (id === undefined) return;
  if (method === "initialize") send(id, { ok: true, supportedMethods: ["getData"] });
  else send(id, params?.params ?? null);
  if (method === "shutdown") process.exit(0);
};
process.stdin.setEncoding("utf8");
process.stdin.on("end", () => process.exit(0));
process.stdin.on("data", (data) => {
  const lines = data.split("\n");
  if (lines.length === 1) return void parts.push(data);
  lines[0] = parts.join("") + lines[0];
  parts = [lines.pop()];
  lines.forEach(take);
});
"#;

/// The same as an author would write it.
const WITH_SDK: &str = r#"
import { definePlugin, runWorker } from "@paperclipai/plugin-sdk";
const plugin = definePlugin({
  async setup(ctx) {
    ctx.data.register("echo", async (params) => params);
  },
});
export default plugin;
runWorker(plugin, import.meta.url);
"#;

/// A worker in an artifact folder as packing makes it.
pub struct Worker {
    /// What it is called in the report.
    pub name: &'static str,
    folder: TempDir,
    node: PathBuf,
    manifest: Value,
}

impl Worker {
    /// The worker without dependencies.
    pub fn echo() -> Result<Self> {
        Self::write("echo worker", ECHO)
    }

    /// The worker on the SDK, which is fetched from npm.
    pub fn sdk() -> Result<Self> {
        let worker = Self::write("SDK worker", WITH_SDK)?;
        let mut npm = programs::npm()?;
        npm.current_dir(worker.package())
            .args(["install", "--ignore-scripts", "--no-audit", "--no-fund"])
            .args(["--loglevel=error", SDK]);
        let output = npm.output().context("start npm")?;
        ensure!(
            output.status.success(),
            "npm install {SDK}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(worker)
    }

    fn write(name: &'static str, program: &str) -> Result<Self> {
        let worker = Self {
            name,
            folder: tempfile::tempdir()?,
            node: programs::node()?.node(),
            manifest: json!({
                "id": "bench.echo", "apiVersion": 1, "version": "1.0.0", "displayName": "Echo",
                "description": "Answers with what it is asked.", "author": "bench",
                "categories": ["automation"], "capabilities": [],
                "entrypoints": {"worker": "./worker.mjs"},
            }),
        };
        let facts = worker.artifact().join(".paperclip");
        fs::create_dir_all(worker.package())?;
        fs::create_dir_all(&facts)?;
        fs::write(worker.entry(), program)?;
        fs::write(
            worker.package().join("package.json"),
            r#"{"name": "bench", "version": "1.0.0", "private": true, "type": "module"}"#,
        )?;
        fs::write(facts.join("marker"), MARKER)?;
        fs::write(
            facts.join("plugin-manifest.json"),
            worker.manifest.to_string(),
        )?;
        let artifact =
            json!({"package": "bench", "version": "1.0.0", "packageDir": "node_modules/bench"});
        fs::write(facts.join("artifact.json"), artifact.to_string())?;
        Ok(worker)
    }

    /// Node as packing pins it.
    pub fn node(&self) -> &Path {
        &self.node
    }

    /// The artifact folder.
    pub fn artifact(&self) -> &Path {
        self.folder.path()
    }

    /// The file that Node runs.
    pub fn entry(&self) -> PathBuf {
        self.package().join("worker.mjs")
    }

    fn package(&self) -> PathBuf {
        self.artifact().join("node_modules/bench")
    }

    /// What a sidecar is told about the plugin.
    pub fn facts(&self) -> Facts {
        Facts {
            plugin_namespace: "bench".into(),
            plugin_name: "echo".into(),
            plugin_uid: "0d9f1a52-0000-4000-8000-000000000001".into(),
            activation: 1,
            artifact_digest: format!("sha256:{MARKER}"),
            marker: MARKER.into(),
            host: HostFacts {
                namespace: "paperclip".into(),
                name: "main".into(),
            },
            granted: Vec::new(),
            instance: InstanceFacts {
                instance_id: "paperclip/main".into(),
                host_version: "2026.916.1".into(),
                deployment_mode: "authenticated".into(),
                deployment_exposure: "private".into(),
            },
        }
    }

    /// What a worker is told first.
    pub fn initialize_params(&self) -> Value {
        json!({
            "manifest": self.manifest, "config": {}, "apiVersion": 1,
            "instanceInfo": self.facts().instance,
        })
    }
}

/// Params of a call whose answer is a text of this length.
pub fn params(length: usize) -> Value {
    json!({"key": "echo", "params": {"text": "x".repeat(length)}})
}
