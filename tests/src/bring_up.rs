//! Up and down: the order in which a cluster's parts come and go.

use std::{fs, thread, time::Duration};

use anyhow::{Context, Result, anyhow, ensure};

use crate::{
    control_plane, image_registry, images,
    layout::{Layout, state_lock},
    network, node, npm, process, programs,
    progress::{say, step},
};

/// Brings a cluster up, unless it is. What an interrupted attempt left is removed first.
pub fn up(name: &str) -> Result<Layout> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "run this as root: nodes need network namespaces and mounts"
    );
    programs::prepare()?;
    let layout = Layout::claim(name)?;
    let _lock = state_lock(&format!("cluster-{name}"))?;
    if is_up(&layout)? {
        say(format!("{name} is up"));
        return Ok(layout);
    }
    remove(&layout)?;
    let layout = Layout::claim(name)?;
    let start = std::time::Instant::now();
    step("network", || network::create(&layout))?;
    let authority = control_plane::write_identities(&layout)?;
    let nodes = layout.nodes();
    thread::scope(|scope| -> Result<()> {
        let npm = scope.spawn(|| step("npm registry", || npm::start(&layout)));
        let registry = scope.spawn(|| {
            step("image registry", || {
                image_registry::start(&layout)?;
                images::push_pause(&layout)
            })
        });
        step("API server", || control_plane::start_api_server(&layout))?;
        control_plane::start_controllers(&layout)?;
        joined(registry)?;
        for node in &nodes {
            node::prepare(&layout, node, &authority)?;
            node::start(&layout, node)?;
        }
        control_plane::apply_base_objects(&layout)?;
        step("two nodes", || control_plane::wait_until_usable(&layout))?;
        joined(npm)
    })?;
    fs::write(layout.path("complete"), "")?;
    say(format!(
        "{name} is up after {:.0} s: export KUBECONFIG={}",
        start.elapsed().as_secs_f32(),
        layout.kubeconfig().display()
    ));
    Ok(layout)
}

fn joined(thread: thread::ScopedJoinHandle<'_, Result<()>>) -> Result<()> {
    thread
        .join()
        .map_err(|_| anyhow!("a thread of the bring-up panicked"))?
}

/// Whether the bring-up was completed and nothing has ended since.
fn is_up(layout: &Layout) -> Result<bool> {
    Ok(is_complete(layout)
        && missing_daemons(layout)?.is_empty()
        && control_plane::kubectl(layout, &["get", "--raw=/readyz"]).is_ok())
}

fn is_complete(layout: &Layout) -> bool {
    layout.path("complete").exists()
}

/// Daemons that should run and do not.
pub fn missing_daemons(layout: &Layout) -> Result<Vec<String>> {
    if !is_complete(layout) {
        return Ok(vec!["all of it (the bring-up did not end)".to_owned()]);
    }
    let mut wanted: Vec<String> = [
        "etcd",
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
        "coredns",
        "registry",
        "npm-mirror",
        "npm-own",
        "npm-proxy",
    ]
    .map(str::to_owned)
    .into();
    for node in layout.nodes() {
        wanted.extend(
            ["containerd", "kubelet", "kube-proxy"].map(|part| format!("{}-{part}", node.name)),
        );
    }
    let running = process::running(layout)?;
    wanted.retain(|role| running.iter().all(|process| process.role != *role));
    Ok(wanted)
}

/// Takes a cluster down, whatever there is of it.
pub fn down(name: &str) -> Result<()> {
    let _lock = state_lock(&format!("cluster-{name}"))?;
    match Layout::load(name)? {
        Some(layout) => step(&format!("taking {name} down"), || remove(&layout)),
        None => {
            say(format!("{name} does not exist"));
            Ok(())
        }
    }
}

/// Ends processes before what they use, and forgets the cluster last: as long as
/// anything may be left, its name and slot are still written down.
fn remove(layout: &Layout) -> Result<()> {
    process::end_all(layout)?;
    for node in layout.nodes() {
        process::end_cgroups(&node.namespace)?;
    }
    process::eventually("mounts to end", Duration::from_secs(10), || {
        network::unmount_all(layout)
    })?;
    network::remove(layout)?;
    for node in layout.nodes() {
        node::remove_traces(layout, &node)?;
    }
    for entry in fs::read_dir(layout.dir())? {
        let path = entry?.path();
        if path != layout.path("layout.json") {
            remove_any(&path)?;
        }
    }
    remove_any(&layout.path("layout.json"))?;
    node::remove_dir(&layout.dir())
}

fn remove_any(path: &std::path::Path) -> Result<()> {
    let result = if path.is_dir() && !path.is_symlink() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    result.with_context(|| format!("remove {}", path.display()))
}
