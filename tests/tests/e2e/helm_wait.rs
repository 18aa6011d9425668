//! `helm install --wait` and `kubectl wait` end when a plugin does: with success when it is
//! Ready, with failure when nothing more will happen.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::{
    resilience::{NAMESPACE, publish_ledger},
    support::{HOST, HOST_NAMESPACE, Namespace, cluster, condition, get},
};

/// How long Helm may take to see that a plugin cannot work. It would wait for two minutes.
const GIVES_UP: Duration = Duration::from_secs(30);

/// A chart of one plugin of this version.
fn chart(version: &str) -> Result<tempfile::TempDir> {
    let chart = tempfile::tempdir()?;
    std::fs::write(
        chart.path().join("Chart.yaml"),
        "apiVersion: v2\nname: shop\nversion: 0.1.0\n",
    )?;
    std::fs::create_dir(chart.path().join("templates"))?;
    let plugin = format!(
        "apiVersion: plugins.paperclip.ing/v1alpha1
kind: PaperclipPlugin
metadata:
  name: ledger
spec:
  source:
    npm:
      package: paperclip-plugin-test-ledger
      version: {version}
  host:
    name: main
    namespace: {HOST_NAMESPACE}
"
    );
    std::fs::write(chart.path().join("templates/plugin.yaml"), plugin)?;
    Ok(chart)
}

fn install(namespace: &Namespace, version: &str) -> Result<String> {
    let chart = chart(version)?;
    let path = chart.path().display().to_string();
    let ns = namespace.name();
    cluster().helm(&[
        "upgrade",
        "--install",
        "shop",
        &path,
        "-n",
        ns,
        "--wait",
        "--timeout=120s",
    ])
}

#[test]
fn helm_waits_for_a_plugin_and_gives_up_on_one_that_cannot_work() -> Result<()> {
    publish_ledger("1.0.0", "serve")?;
    let namespace = Namespace::create(NAMESPACE)?;
    install(&namespace, "1.0.0")?;
    namespace
        .wait_ready("ledger", Duration::from_secs(1))
        .context("Ready when Helm returns")?;

    let started = Instant::now();
    let refused = install(&namespace, "99.0.0");
    let took = started.elapsed();
    let error = refused.err().context("Helm says that it failed")?;
    let error = format!("{error:#}");
    // Helm gives up because of what the plugin's status says, and repeats it.
    for words in [
        "PaperclipPlugin/e2e-ledger/ledger",
        "status: Failed",
        "No match found for version 99.0.0",
    ] {
        ensure!(error.contains(words), "{words:?} is not in {error}");
    }
    ensure!(took < GIVES_UP, "{took:?}: {error}");
    println!("helm: gave up after {took:?}");
    let plugin = get(&["paperclipplugin", "ledger", "-n", NAMESPACE])?;
    let stalled = condition(&plugin, "Stalled");
    ensure!(stalled["reason"] == "VersionNotFound", "{stalled}");
    Ok(())
}

#[test]
fn the_hosts_release_tests_itself() -> Result<()> {
    let said = cluster().helm(&["test", HOST, "-n", HOST_NAMESPACE, "--timeout=90s"])?;
    ensure!(said.contains("Succeeded"), "{said}");
    Ok(())
}
