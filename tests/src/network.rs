//! The network of a cluster: a bridge on this machine and a namespace for each node.
//!
//! A node has routes to the bridge, to the other node's pods and to Services, and no
//! default route: what is not in the cluster does not exist for its pods.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result};

use crate::layout::{Layout, Node, command_output};

fn ip(arguments: &[&str]) -> Result<()> {
    command_output(Command::new("ip").args(arguments)).map(drop)
}

/// Makes the bridge and the nodes' namespaces.
pub fn create(layout: &Layout) -> Result<()> {
    let bridge = layout.bridge();
    ip(&["link", "add", &bridge, "type", "bridge"])?;
    ip(&[
        "address",
        "add",
        &format!("{}/24", layout.gateway()),
        "dev",
        &bridge,
    ])?;
    ip(&["link", "set", &bridge, "up"])?;
    let nodes = layout.nodes();
    for node in &nodes {
        connect(layout, node).with_context(|| format!("network of {}", node.name))?;
        ip(&[
            "route",
            "add",
            &node.pod_range,
            "via",
            &node.address.to_string(),
            "dev",
            &bridge,
        ])?;
    }
    for node in &nodes {
        for other in nodes.iter().filter(|other| other.name != node.name) {
            ip(&[
                "-n",
                &node.namespace,
                "route",
                "add",
                &other.pod_range,
                "via",
                &other.address.to_string(),
            ])?;
        }
    }
    Ok(())
}

fn connect(layout: &Layout, node: &Node) -> Result<()> {
    let namespace = node.namespace.as_str();
    ip(&["netns", "add", namespace])?;
    ip(&[
        "link", "add", &node.link, "type", "veth", "peer", "name", "eth0", "netns", namespace,
    ])?;
    ip(&["link", "set", &node.link, "master", &layout.bridge(), "up"])?;
    ip(&[
        "-n",
        namespace,
        "address",
        "add",
        &format!("{}/24", node.address),
        "dev",
        "eth0",
    ])?;
    ip(&["-n", namespace, "link", "set", "lo", "up"])?;
    ip(&["-n", namespace, "link", "set", "eth0", "up"])?;
    // The kernel wants a route before kube-proxy's rules send a Service's packet elsewhere.
    let gateway = layout.gateway().to_string();
    ip(&[
        "-n",
        namespace,
        "route",
        "add",
        &layout.service_range(),
        "via",
        &gateway,
    ])?;
    for setting in ["net.ipv4.ip_forward", "net.bridge.bridge-nf-call-iptables"] {
        set_in(namespace, setting)?;
    }
    Ok(())
}

fn set_in(namespace: &str, setting: &str) -> Result<()> {
    let net = format!("--net=/run/netns/{namespace}");
    command_output(Command::new("nsenter").args([
        &net,
        "--",
        "sysctl",
        "-qw",
        &format!("{setting}=1"),
    ]))
    .map(drop)
}

/// Removes whatever exists of it.
pub fn remove(layout: &Layout) -> Result<()> {
    for node in layout.nodes() {
        if Path::new("/run/netns").join(&node.namespace).exists() {
            ip(&["netns", "delete", &node.namespace])?;
        }
        // A link goes with its namespace, but only after the last process in it.
        if has_link(&node.link) {
            let _ = ip(&["link", "delete", &node.link]);
        }
    }
    if has_link(&layout.bridge()) {
        ip(&["link", "delete", &layout.bridge()])?;
    }
    Ok(())
}

fn has_link(name: &str) -> bool {
    Path::new("/sys/class/net").join(name).exists()
}

/// Unmounts everything below the cluster's folder: container roots, volumes, pod namespaces.
pub fn unmount_all(layout: &Layout) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("list mounts")?;
    let below = format!("{}/", layout.dir().display());
    let targets = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .filter(|target| target.starts_with(&below));
    for target in targets.collect::<Vec<_>>().into_iter().rev() {
        let target = target.replace("\\040", " ");
        command_output(Command::new("umount").args(["--lazy", &target]))?;
    }
    Ok(())
}
