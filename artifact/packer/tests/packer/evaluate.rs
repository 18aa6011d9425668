//! The sealed child: honest manifests pass, hostile ones reach nothing and end in time.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use paperclip_packer::sandbox::evaluate::{EvaluateError, Evaluator};
use serde_json::Value;

use crate::support;

const GOOD: &str = r#"{ id: "acme.x", apiVersion: 1, version: "1.0.0", displayName: "X", description: "d",
    author: "a", categories: ["connector"], capabilities: ["events.subscribe"],
    entrypoints: { worker: "./worker.js" } }"#;

async fn evaluate(code: &str) -> Result<Value, EvaluateError> {
    let tree = tempfile::tempdir().unwrap();
    let package = tree.path().join("node_modules/p");
    fs::create_dir_all(&package).unwrap();
    let package_json = r#"{"type": "module", "paperclipPlugin": {"manifest": "./manifest.js"}}"#;
    fs::write(package.join("package.json"), package_json).unwrap();
    fs::write(package.join("manifest.js"), code).unwrap();
    fs::write(package.join("worker.js"), "").unwrap();
    let toolchain = support::toolchain().await;
    let evaluator = Evaluator {
        packer: support::packer().to_owned(),
        toolchain,
    };
    evaluator.evaluate(tree.path(), "p")
}

async fn refusal(code: &str) -> String {
    evaluate(code).await.unwrap_err().to_string()
}

/// A module whose manifest tells in `description` how an attempt ended.
async fn attempt(code: &str) -> String {
    let module = format!(
        "let outcome; try {{ outcome = 'reached: ' + await (async () => {{ {code} }})(); }} \
         catch (error) {{ outcome = 'refused: ' + (error.code ?? error.message); }} \
         export default {{ ...{GOOD}, description: outcome.slice(0, 400) }};"
    );
    evaluate(&module).await.unwrap()["description"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[tokio::test]
async fn honest_manifest_that_imports_and_logs_passes() {
    let code = format!(
        "import {{ join }} from 'node:path'; console.log('hello', join('a', 'b')); export default {GOOD};"
    );
    assert_eq!(evaluate(&code).await.unwrap()["id"], "acme.x");
}

#[tokio::test]
async fn large_manifest_passes_a_small_pipe() {
    let code =
        format!("console.log('x'); export default {{ ...{GOOD}, extra: 'x'.repeat(900_000) }};");
    let manifest = evaluate(&code).await.unwrap();
    assert_eq!(manifest["extra"].as_str().unwrap().len(), 900_000);
}

#[tokio::test]
async fn files_of_the_machine_cannot_be_read_or_written() {
    for path in [
        "/etc/passwd",
        "/etc/shadow",
        "/proc/1/environ",
        "/proc/self/environ",
    ] {
        let outcome = attempt(&format!(
            "return (await import('node:fs')).readFileSync('{path}', 'utf8')"
        ))
        .await;
        assert!(outcome.starts_with("refused: EACCES"), "{path}: {outcome}");
    }
    let written = attempt("(await import('node:fs')).writeFileSync('./x', 'x'); return 1").await;
    assert!(written.starts_with("refused: E"), "{written}");
    let listed = attempt("return (await import('node:fs')).readdirSync('/').join()").await;
    assert!(listed.starts_with("refused: EACCES"), "{listed}");
}

#[tokio::test]
async fn sockets_and_processes_do_not_exist() {
    let connected = attempt(
        "const net = await import('node:net'); return await new Promise((yes, no) => \
         net.connect(53, '127.0.0.1').on('connect', () => yes('connected')).on('error', no))",
    )
    .await;
    assert!(connected.starts_with("refused: ENOSYS"), "{connected}");
    let listening = attempt(
        "const net = await import('node:net'); return await new Promise((yes, no) => \
         net.createServer().listen('/tmp/x.sock', () => yes('listens')).on('error', no))",
    )
    .await;
    assert!(listening.starts_with("refused: E"), "{listening}");
    let process = attempt(
        "const result = (await import('node:child_process')).spawnSync(process.execPath, ['-v']); \
         if (result.error) throw result.error; return String(result.stdout)",
    )
    .await;
    assert!(process.starts_with("refused: E"), "{process}");
    let killed = attempt("process.kill(process.ppid, 0); return 1").await;
    assert!(killed.starts_with("refused: E"), "{killed}");
}

#[tokio::test]
async fn environment_holds_no_secret() {
    let names = attempt("return Object.keys(process.env).sort().join()").await;
    assert_eq!(names, "reached: LANG,OPENSSL_CONF,TZ");
}

#[tokio::test]
async fn endless_loop_is_ended() {
    let begun = Instant::now();
    let why = refusal("for (;;) {}").await;
    assert!(
        why.contains("no end after") || why.contains("signal"),
        "{why}"
    );
    assert!(begun.elapsed() < Duration::from_secs(25));
}

#[tokio::test]
async fn endless_allocation_is_ended() {
    let heap = refusal("const all = []; for (;;) all.push(new Array(1e6).fill(all.length));").await;
    assert!(heap.contains("signal") || heap.contains("code"), "{heap}");
    let buffers = refusal("const all = []; for (;;) all.push(Buffer.alloc(64 << 20, 1));").await;
    assert!(
        buffers.contains("signal") || buffers.contains("code"),
        "{buffers}"
    );
}

#[tokio::test]
async fn endless_output_is_cut() {
    let large = refusal(&format!(
        "export default {{ ...{GOOD}, extra: 'x'.repeat(8 << 20) }};"
    ))
    .await;
    assert!(large.contains("printed more than"), "{large}");
    let direct = "import { writeSync } from 'node:fs'; const b = Buffer.alloc(1 << 20, 120); for (;;) writeSync(1, b);";
    assert!(refusal(direct).await.contains("printed more than"));
    let errors = "import { writeSync } from 'node:fs'; const b = Buffer.alloc(1 << 20, 120); for (;;) writeSync(2, b);";
    assert!(!refusal(errors).await.is_empty());
}

#[tokio::test]
async fn manifest_of_chance_or_time_is_refused() {
    let code = format!("export default {{ ...{GOOD}, description: String(Math.random()) }};");
    assert!(matches!(
        evaluate(&code).await,
        Err(EvaluateError::Unstable { .. })
    ));
}

#[tokio::test]
async fn module_that_throws_exits_or_exports_nothing_is_refused_with_its_words() {
    assert!(
        refusal("throw new Error('no way')")
            .await
            .contains("no way")
    );
    assert!(refusal("process.exit(3)").await.contains("code 3"));
    assert!(refusal("process.exit(0)").await.contains("no JSON"));
    assert!(
        refusal("export default undefined")
            .await
            .contains("missing")
    );
    assert!(
        refusal("export default 7")
            .await
            .contains("wanted an object")
    );
    assert!(
        refusal("await new Promise(() => {})")
            .await
            .contains("code 13")
    );
}

#[tokio::test]
async fn manifest_or_worker_outside_the_package_is_refused() {
    let tree = tempfile::tempdir().unwrap();
    let package = tree.path().join("node_modules/p");
    fs::create_dir_all(&package).unwrap();
    fs::write(
        tree.path().join("outside.js"),
        format!("export default {GOOD}"),
    )
    .unwrap();
    let evaluator = Evaluator {
        packer: support::packer().to_owned(),
        toolchain: support::toolchain().await,
    };
    let refusal = |package_json: &str| {
        fs::write(package.join("package.json"), package_json).unwrap();
        evaluator
            .evaluate(tree.path(), "p")
            .unwrap_err()
            .to_string()
    };
    let outside = refusal(r#"{"paperclipPlugin": {"manifest": "../../outside.js"}}"#);
    assert!(outside.contains("outside the package"), "{outside}");
    assert!(
        refusal(r#"{"paperclipPlugin": {"manifest": "/etc/passwd"}}"#)
            .contains("outside the package")
    );
    assert!(refusal("{}").contains("no plugin manifest"));
    fs::write(
        package.join("manifest.js"),
        format!("module.exports = {GOOD}"),
    )
    .unwrap();
    assert!(refusal("{}").contains("worker.js"));
}

#[tokio::test]
async fn program_without_the_seal_is_a_fault_of_ours() {
    let tree = tempfile::tempdir().unwrap();
    let package = tree.path().join("node_modules/p");
    fs::create_dir_all(&package).unwrap();
    fs::write(package.join("package.json"), "{}").unwrap();
    fs::write(package.join("manifest.js"), "").unwrap();
    let evaluator = Evaluator {
        packer: Path::new("/nonexistent").to_owned(),
        toolchain: support::toolchain().await,
    };
    assert!(matches!(
        evaluator.evaluate(tree.path(), "p"),
        Err(EvaluateError::Seal(_))
    ));
}
