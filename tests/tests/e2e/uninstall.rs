//! The platform goes while plugins serve, comes back, and at the end everything goes: what
//! stays is what the guide says. Takes the platform from the cluster, so it runs last.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use paperclip_tests::{Inventory, platform::Installation};
use serde_json::{Value, json};

use crate::{
    load::host_address,
    support::{
        COLD, HOST, HOST_NAMESPACE, PLATFORM_NAMESPACE, WARM, cluster, eventually, get, inventory,
        kubectl, pod_of, worker_processes,
    },
};

const GUIDE: &str = include_str!("../../../docs/install.md");

/// Rows of the guide's table of what stays, as the inventory writes them. A name that ends
/// in `*` stands for every name that begins so, if any does.
fn documented() -> Result<Vec<String>> {
    let (_, section) = GUIDE.split_once("## What stays").context("the section")?;
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter_map(|line| {
        let mut cells = line.split('|').map(|cell| cell.trim().trim_matches('`'));
        let (kind, name) = (cells.nth(1)?, cells.next()?);
        let is_row = !kind.is_empty() && kind != "kind" && !kind.starts_with('-');
        is_row.then(|| format!("{kind} {name}"))
    });
    let rows: Vec<String> = rows.collect();
    ensure!(!rows.is_empty(), "the guide lists what stays");
    Ok(rows)
}

fn is_documented(object: &str, documented: &[String]) -> bool {
    documented.iter().any(|row| match row.strip_suffix('*') {
        Some(prefix) => object.starts_with(prefix),
        None => object == row,
    })
}

/// Posts to a plugin's webhook until told to stop, and counts.
struct Deliveries {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Result<usize>>,
}

impl Deliveries {
    fn start(plugin: &Value) -> Result<Self> {
        let uid = plugin["metadata"]["uid"].as_str().context("uid")?;
        let url = format!("{}/api/plugins/{uid}/webhooks/delivery", host_address()?);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(deliver(&url, &stopped))
        });
        Ok(Self { stop, thread })
    }

    fn stop(self) -> Result<usize> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread
            .join()
            .ok()
            .context("the deliveries end by themselves")?
    }
}

async fn deliver(url: &str, stop: &AtomicBool) -> Result<usize> {
    let client = reqwest::Client::builder()
        .timeout(Duration::from_secs(20))
        .build()?;
    let mut pace = tokio::time::interval(Duration::from_millis(50));
    let mut delivered = 0;
    while !stop.load(Ordering::Relaxed) {
        pace.tick().await;
        let goods = json!({"sku": "farewell", "quantity": 1});
        let answer = client.post(url).json(&goods).send().await?;
        ensure!(answer.status().is_success(), "{}", answer.text().await?);
        delivered += 1;
    }
    Ok(delivered)
}

fn uninstall(release: &str, namespace: &str) -> Result<()> {
    cluster()
        .helm(&[
            "uninstall",
            release,
            "-n",
            namespace,
            "--wait",
            "--timeout=2m",
        ])
        .map(drop)
}

fn certificate_authority() -> Result<Value> {
    let secret = get(&["secret", "paperclip-ca", "-n", PLATFORM_NAMESPACE])?;
    Ok(secret["data"].clone())
}

#[test]
fn last_plugins_serve_without_the_platform_and_nothing_stays_but_what_the_guide_says() -> Result<()>
{
    let before = cluster().inventory_before_installation()?;
    let namespace = inventory("e2e-uninstall")?;
    let ns = namespace.name();
    let identity = || -> Result<Value> {
        Ok(json!([
            pod_of(ns, "inventory")?["metadata"]["uid"],
            worker_processes(ns, "inventory")?
        ]))
    };
    let (running, authority) = (identity()?, certificate_authority()?);
    let deliveries = Deliveries::start(&get(&["paperclipplugin", "inventory", "-n", ns])?)?;

    uninstall("paperclip", PLATFORM_NAMESPACE)?;
    eventually("the platform's pods to be gone", WARM, || {
        // Jobs that packed go by themselves, two minutes after they ended.
        let others = "app.kubernetes.io/name!=paperclip-packer";
        let pods = get(&["pods", "-n", PLATFORM_NAMESPACE, "-l", others])?;
        ensure!(pods["items"] == json!([]), "{pods}");
        Ok(())
    })?;
    ensure!(identity()? == running, "the plugin runs on");

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(Installation::on(cluster())?.apply())?;
    ensure!(
        certificate_authority()? == authority,
        "the certificate authority survives"
    );
    namespace.wait_ready("inventory", COLD)?;
    ensure!(identity()? == running, "the plugin runs on");
    let delivered = deliveries.stop()?;
    println!("uninstall: {delivered} deliveries, none failed");
    ensure!(delivered > 50, "{delivered} deliveries");

    // As the guide says.
    kubectl(&[
        "delete",
        "paperclipplugins",
        "--all",
        "-A",
        "--wait",
        "--timeout=60s",
    ])?;
    drop(namespace);
    uninstall(HOST, HOST_NAMESPACE)?;
    uninstall("paperclip", PLATFORM_NAMESPACE)?;
    uninstall("paperclip-crds", PLATFORM_NAMESPACE)?;
    let documented = documented()?;
    eventually("what stays to be what the guide says", 2 * WARM, || {
        let now = cluster().inventory()?;
        let undocumented: Inventory = now
            .difference(&before)
            .filter(|object| !is_documented(object, &documented))
            .cloned()
            .collect();
        ensure!(undocumented.is_empty(), "also there: {undocumented:#?}");
        let missing: BTreeSet<_> = before.difference(&now).collect();
        ensure!(missing.is_empty(), "gone, and not ours: {missing:#?}");
        // The guide promises no more than there is.
        for row in documented.iter().filter(|row| !row.ends_with('*')) {
            let found = now
                .iter()
                .any(|object| is_documented(object, std::slice::from_ref(row)));
            ensure!(found, "the guide lists {row}, which is not there");
        }
        Ok(())
    })
}
