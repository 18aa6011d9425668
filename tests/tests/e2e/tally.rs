//! A worker in another language than JavaScript, through the same path: built, packed and
//! published as its author would, found in the registry like any other.

use anyhow::{Context, Result, ensure};
use paperclip_tests::{built::static_program, platform::repository};
use serde_json::Value;

use crate::support::{
    COLD, Namespace, WARM, cluster, eventually, kill_all, paperclip_json, worker_processes,
};

const PLUGIN: &str = "tally";
const PROGRAM: &str = "bin/linux-x64/tally-worker";

fn publish() -> Result<()> {
    let package = repository().join("examples/plugins/tally");
    let release = tempfile::tempdir()?;
    for file in [
        "package.json",
        "README.md",
        "dist/manifest.js",
        "dist/worker.js",
    ] {
        let target = release.path().join(file);
        std::fs::create_dir_all(target.parent().context("a file has a folder")?)?;
        std::fs::copy(package.join(file), target).with_context(|| format!("copy {file}"))?;
    }
    let program = release.path().join(PROGRAM);
    std::fs::create_dir_all(program.parent().context("a file has a folder")?)?;
    // As `npm run build` of the package builds it, but for the profile.
    std::fs::copy(static_program("tally-worker")?, program).context("copy the worker")?;
    cluster().npm().publish(release.path())
}

/// Adds to a tally and says where it stands.
fn count(namespace: &Namespace) -> Result<i64> {
    let arguments = [
        "-o",
        "json",
        "call",
        PLUGIN,
        "count",
        "--params",
        r#"{"tally":"tea","by":2}"#,
    ];
    let answer: Value = paperclip_json(namespace.name(), &arguments)?;
    let now = answer["result"]["data"]["count"].as_i64();
    now.with_context(|| format!("no count in {answer}"))
}

#[test]
fn a_worker_that_is_no_javascript_serves_and_goes_on_after_a_kill() -> Result<()> {
    publish()?;
    let namespace = Namespace::create("e2e-tally")?;
    namespace.apply(include_str!("../../../examples/tally.yaml"))?;
    namespace.wait_ready(PLUGIN, COLD)?;
    ensure!(count(&namespace)? == 2);

    let before = worker_processes(namespace.name(), PLUGIN)?;
    let program = std::fs::read_link(format!("/proc/{}/exe", before[0]))?;
    ensure!(
        program.ends_with(PROGRAM),
        "Node gave its place to the program: {}",
        program.display()
    );
    kill_all(&before)?;
    let now = eventually("an answer of the next worker", WARM, || count(&namespace))?;
    ensure!(now == 4, "the tally went on from what was stored: {now}");
    ensure!(worker_processes(namespace.name(), PLUGIN)? != before);
    Ok(())
}
