//! The workers that are compared: a few lines over raw streams, one over the published SDK, and
//! one in another language.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::support::{
    artifact::{self, Artifact},
    pod,
};

/// A worker and the calls that are made to it.
pub struct Worker {
    pub manifest: Value,
    /// Whether it tells, when asked, what it heard.
    pub has_transcript: bool,
    /// Its package below `node_modules`, and the file in it that is run.
    package: &'static str,
    entry: &'static str,
    make: fn(&Path),
    pub cases: Vec<Value>,
}

impl Worker {
    /// Puts the worker into an artifact's folder.
    pub fn artifact(&self, folder: &Path) -> Artifact {
        let root = folder.join("artifact");
        let package = root.join("node_modules").join(self.package);
        fs::create_dir_all(&package).unwrap();
        (self.make)(&package);
        let name = format!("node_modules/{}", self.package);
        artifact::facts(&root, &self.manifest.to_string(), &name);
        Artifact(root)
    }

    /// The file that the original runs.
    pub fn entry(&self, folder: &Path) -> PathBuf {
        let package = folder.join("artifact/node_modules").join(self.package);
        package.join(self.entry)
    }
}

fn manifest(id: &str, entry: &str) -> Value {
    json!({
        "id": id, "apiVersion": 1, "version": "1.0.0", "displayName": "Test", "description": "d",
        "author": "a", "categories": ["automation"], "entrypoints": {"worker": format!("./{entry}")},
        "capabilities": ["plugin.state.read", "plugin.state.write", "agent.tools.register", "jobs.schedule"],
        "tools": [{"name": "search", "displayName": "Search", "description": "d", "parametersSchema": {"type": "object"}}],
        "jobs": [{"jobKey": "sync", "displayName": "Sync"}],
    })
}

/// A few lines of JavaScript that answer as the case asks for.
pub fn raw() -> Worker {
    let make = |package: &Path| {
        let text = format!("{}\n{}", artifact::RAW, include_str!("worker.mjs"));
        fs::write(package.join("worker.mjs"), text).unwrap();
    };
    Worker {
        manifest: manifest("test.raw", "worker.mjs"),
        has_transcript: true,
        package: "raw",
        entry: "worker.mjs",
        make,
        cases: raw_cases(),
    }
}

/// One that notes in which order it hears what, and says bursts.
pub fn ordered() -> Worker {
    let make = |package: &Path| {
        let text = format!("{}\n{}", artifact::RAW, include_str!("ordered.mjs"));
        fs::write(package.join("worker.mjs"), text).unwrap();
    };
    let mut manifest = manifest("test.ordered", "worker.mjs");
    let capabilities = manifest["capabilities"].as_array_mut().unwrap();
    capabilities.push("events.emit".into());
    Worker {
        manifest,
        has_transcript: false,
        package: "raw",
        entry: "worker.mjs",
        make,
        cases: Vec::new(),
    }
}

/// One that does what the original does not bear.
pub fn broken() -> Worker {
    let make = |package: &Path| {
        let text = format!("{}\n{}", artifact::RAW, include_str!("broken.mjs"));
        fs::write(package.join("worker.mjs"), text).unwrap();
    };
    Worker {
        manifest: manifest("test.breaks", "worker.mjs"),
        has_transcript: false,
        package: "raw",
        entry: "worker.mjs",
        make,
        cases: Vec::new(),
    }
}

/// A worker that the published SDK runs.
pub fn sdk() -> Worker {
    let make = |package: &Path| {
        fs::write(package.join("worker.mjs"), include_str!("sdk.mjs")).unwrap();
        let scope = artifact::installed("@paperclipai/server@2026.916.1");
        let modules = package.join("node_modules");
        fs::create_dir(&modules).unwrap();
        let scope = scope.join("node_modules/@paperclipai");
        symlink(scope, modules.join("@paperclipai")).unwrap();
    };
    Worker {
        manifest: manifest("test.sdk", "worker.mjs"),
        has_transcript: false,
        package: "sdk",
        entry: "worker.mjs",
        make,
        cases: sdk_cases(),
    }
}

/// The tally example, whose worker is written in Rust.
pub fn tally() -> Worker {
    let make = |package: &Path| {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/plugins/tally");
        for folder in ["dist", "bin/linux-x64"] {
            fs::create_dir_all(package.join(folder)).unwrap();
        }
        for file in ["package.json", "dist/worker.js", "dist/manifest.js"] {
            fs::copy(example.join(file), package.join(file)).unwrap();
        }
        let program = pod::built("tally-worker");
        fs::copy(program, package.join("bin/linux-x64/tally-worker")).unwrap();
    };
    Worker {
        manifest: manifest("test.tally", "dist/worker.js"),
        has_transcript: false,
        package: "tally",
        entry: "dist/worker.js",
        make,
        cases: tally_cases(),
    }
}

fn sdk_cases() -> Vec<Value> {
    let data = |name: &str, key: &str, params: Value| {
        let params = json!({"key": key, "params": params, "renderEnvironment": null});
        json!({"name": name, "method": "getData", "params": params})
    };
    let tool = |name: &str, tool: &str| {
        json!({"name": name, "method": "executeTool", "params": {
            "toolName": tool, "parameters": {"q": "auth"},
            "runContext": {"agentId": "a", "runId": "r", "companyId": "company-1", "projectId": "p"}}})
    };
    let job = |key: &str| {
        let job = json!({"jobKey": key, "runId": "r", "trigger": "schedule", "scheduledAt": "2026-09-20T10:01:00.000Z"});
        json!({"job": job})
    };
    vec![
        data("data", "echo", json!({"a": [1, null, "é\u{1F600}"]})),
        data("no data", "nothing", json!({})),
        data("data of a key that nobody has", "unknown", json!({})),
        data("a handler that fails", "fails", json!({})),
        data(
            "a handler that fails with a code",
            "fails",
            json!({"code": 4711}),
        ),
        data("a call back", "state", json!({"stateKey": "k"})),
        data(
            "a call back that the host refuses",
            "state",
            json!({"stateKey": "refused"}),
        ),
        json!({"name": "an action in a company", "method": "performAction", "params": {
            "key": "echo", "params": {"companyId": "company-1", "full": true},
            "actorContext": {"type": "user", "userId": "u", "agentId": null, "runId": null, "companyId": "company-1"},
            "renderEnvironment": null}}),
        tool("a tool", "search"),
        tool("a tool that nobody has", "other"),
        json!({"name": "a job", "method": "runJob", "params": job("sync")}),
        json!({"name": "a job that nobody has", "method": "runJob", "params": job("other")}),
        json!({"name": "a hook that the plugin leaves out", "method": "validateConfig", "params": {"config": {}}}),
        json!({"name": "a method that nobody has", "method": "vendor.other", "params": {}}),
        json!({"name": "no answer", "method": "getData", "params": {"key": "never", "params": {}}, "timeout": 300}),
    ]
}

fn tally_cases() -> Vec<Value> {
    let count = |name: &str, tool: &str, parameters: Value| {
        json!({"name": name, "method": "executeTool", "params": {
            "toolName": tool, "parameters": parameters, "runContext": {"companyId": "company-1"}}})
    };
    vec![
        count("a first count", "count", json!({"tally": "beans"})),
        count(
            "a count on top",
            "count",
            json!({"tally": "beans", "by": 41}),
        ),
        count("a tool that it lacks", "other", json!({"tally": "beans"})),
        count("parameters of another shape", "count", json!({"by": "x"})),
        json!({"name": "a method that it lacks", "method": "getData", "params": {"key": "k"}}),
    ]
}

/// Method, params and timeout of each call, under the name of the case.
fn raw_cases() -> Vec<Value> {
    let data =
        |name: &str, params: Value| json!({"name": name, "method": "getData", "params": params});
    let error = |error: Value| json!({"key": "error", "error": error});
    let asks = |asks: Value| json!({"key": "asks", "asks": asks});
    vec![
        data(
            "a result",
            json!({"key": "echo", "params": {"b": 1, "a": [true, null, -0.5, 1e21, "é\u{1F600}"]}}),
        ),
        data("a null result", json!({"key": "nothing"})),
        data("a large result", json!({"key": "large"})),
        data(
            "large params",
            json!({"key": "echo", "text": "y".repeat(200_000)}),
        ),
        data(
            "an error",
            error(json!({"code": -32002, "message": "it failed"})),
        ),
        data(
            "an error with data",
            error(json!({"code": -32002, "message": "it failed", "data": {"a": [1]}})),
        ),
        data(
            "an error with null data",
            error(json!({"code": -32002, "message": "it failed", "data": null})),
        ),
        data(
            "an error of the worker's own code",
            error(json!({"code": 4711, "message": ""})),
        ),
        data(
            "result and error together",
            json!({"key": "both", "error": {"code": -32099, "message": "e"}}),
        ),
        data("an answer that comes twice", json!({"key": "twice"})),
        data("answers to nobody", json!({"key": "other"})),
        data("noise on stdout", json!({"key": "noise"})),
        data("a notification before the result", json!({"key": "tells"})),
        json!({"name": "a method that the worker lacks", "method": "validateConfig", "params": {"config": {}}}),
        json!({"name": "no answer", "method": "getData", "params": {"key": "never"}, "timeout": 300}),
        json!({"name": "an action in a company", "method": "performAction",
            "params": {"key": "echo", "companyId": "company-1"}}),
        json!({"name": "a tool in a company", "method": "executeTool",
            "params": {"key": "echo", "runContext": {"companyId": "company-2"}}}),
        data(
            "a call back",
            asks(json!([{"id": "w-1", "method": "state.get", "params": {"stateKey": "k"}}])),
        ),
        data(
            "a call back with a number for its id",
            asks(json!([{"id": 7, "method": "state.get", "params": {}}])),
        ),
        data(
            "a call back in a company",
            json!({"key": "asks", "companyId": "company-1",
            "asks": [{"id": "w-2", "method": "state.get", "params": {"companyId": "company-1"}}]}),
        ),
        data(
            "a call back that the host refuses",
            asks(json!([{"id": "w-3", "method": "state.get",
            "params": {"fail": {"code": -32002, "message": "not today"}}}])),
        ),
        data(
            "a call back that the host does not serve",
            asks(json!([{"id": "w-4", "method": "vendor.other", "params": {}}])),
        ),
    ]
}
