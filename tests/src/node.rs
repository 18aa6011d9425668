//! A node: containerd, kubelet and kube-proxy in a network namespace of their own.

use std::{
    fs,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde_json::json;

use crate::{
    layout::{Layout, Node},
    pki::{Authority, Subject},
    process::{Daemon, PATIENCE, eventually, log_tail},
    programs,
};

/// Folder for the sockets of container shims. The path of a socket may have 107 bytes
/// and the shim adds 65, so the cluster's own folder would be too long.
fn socket_dir(node: &Node) -> PathBuf {
    Path::new("/run").join(&node.link)
}

/// Writes a node's configuration and identities.
pub fn prepare(layout: &Layout, node: &Node, authority: &Authority) -> Result<()> {
    for folder in [
        "cni",
        "containerd",
        "run",
        "kubelet",
        "pod-logs",
        "registries",
    ] {
        fs::create_dir_all(node.dir.join(folder))?;
    }
    make_cgroup(&node.namespace)?;
    let names = [node.name.clone(), node.address.to_string()];
    let serving = Subject {
        user: &node.name,
        group: None,
        serves: &names,
    };
    authority.issue(serving)?.write(&node.dir, "kubelet")?;
    let server = layout.api_server();
    let user = format!("system:node:{}", node.name);
    let identity = Subject::client(&user, Some("system:nodes"));
    authority.write_kubeconfig(&node.dir.join("kubelet.kubeconfig"), &server, identity)?;
    let proxy = Subject::client("system:kube-proxy", None);
    authority.write_kubeconfig(&node.dir.join("kube-proxy.kubeconfig"), &server, proxy)?;
    write(
        &node.dir.join("cni/10-bridge.conflist"),
        &cni(node).to_string(),
    )?;
    write(
        &node.dir.join("kubelet.json"),
        &kubelet(layout, node).to_string(),
    )?;
    write(
        &node.dir.join("resolv.conf"),
        &format!("nameserver {}\n", layout.dns_service()),
    )?;
    write(
        &node.dir.join("containerd.toml"),
        &containerd(layout, node)?,
    )?;
    let registry = layout.image_registry();
    let hosts = node.dir.join("registries").join(&registry);
    fs::create_dir_all(&hosts)?;
    write(
        &hosts.join("hosts.toml"),
        &format!(
            "server = \"http://{registry}\"\n[host.\"http://{registry}\"]\ncapabilities = [\"pull\", \"resolve\"]\n"
        ),
    )
}

/// Starts a node's daemons.
pub fn start(layout: &Layout, node: &Node) -> Result<()> {
    let shims = programs::containerd("containerd")?
        .parent()
        .context("containerd has a folder")?
        .to_owned();
    let mut path = shims.into_os_string();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let file = |name: &str| node.dir.join(name).display().to_string();
    Daemon::new(
        &format!("{}-containerd", node.name),
        programs::containerd("containerd")?,
    )
    .in_namespace(&node.namespace)
    .env("PATH", path)
    .args(["--config".to_owned(), file("containerd.toml")])
    .start(layout)?;
    // A kubelet that finds no runtime ends.
    let socket = node.dir.join("run/containerd.sock");
    eventually("containerd", PATIENCE, || {
        UnixStream::connect(&socket).with_context(|| format!("connect to {}", socket.display()))
    })
    .with_context(|| log_tail(layout, &format!("{}-containerd", node.name)))?;
    Daemon::new(
        &format!("{}-kubelet", node.name),
        programs::kubernetes("kubelet")?,
    )
    .in_namespace(&node.namespace)
    .args([
        format!("--config={}", file("kubelet.json")),
        format!("--kubeconfig={}", file("kubelet.kubeconfig")),
        format!("--root-dir={}", file("kubelet")),
        format!("--hostname-override={}", node.name),
        format!("--node-ip={}", node.address),
    ])
    .start(layout)?;
    Daemon::new(
        &format!("{}-kube-proxy", node.name),
        programs::kubernetes("kube-proxy")?,
    )
    .in_namespace(&node.namespace)
    .args([
        format!("--kubeconfig={}", file("kube-proxy.kubeconfig")),
        format!("--hostname-override={}", node.name),
        format!("--cluster-cidr={}", layout.pod_range()),
        "--proxy-mode=iptables".into(),
        "--conntrack-max-per-core=0".into(),
        format!("--healthz-bind-address={}:10256", node.address),
    ])
    .start(layout)
}

/// Removes what a node leaves outside the cluster's folder.
pub fn remove_traces(layout: &Layout, node: &Node) -> Result<()> {
    remove_dir(&socket_dir(node))?;
    // CNI keeps results in one folder for all networks, by the network's name first.
    for entry in fs::read_dir("/var/lib/cni/results")
        .into_iter()
        .flatten()
        .flatten()
    {
        if entry
            .file_name()
            .to_string_lossy()
            .starts_with(&format!("{}-", node.namespace))
        {
            fs::remove_file(entry.path())?;
        }
    }
    for entry in fs::read_dir("/var/log/containers")
        .into_iter()
        .flatten()
        .flatten()
    {
        if fs::read_link(entry.path()).is_ok_and(|target| target.starts_with(layout.dir())) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Removes a folder, if there is one.
pub fn remove_dir(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}

/// Makes the node's cgroup: kubelet wants it to exist, with processors and memory to use.
fn make_cgroup(name: &str) -> Result<()> {
    let root = Path::new("/sys/fs/cgroup");
    if root.join("cgroup.controllers").exists() {
        fs::create_dir_all(root.join(name))?;
        return Ok(());
    }
    for entry in fs::read_dir(root)? {
        let controller = entry?.path();
        // Links like `cpu -> cpu,cpuacct` lead to a folder that is in the list itself, and
        // the mount of version 2 beside the others has no controllers.
        if controller.is_symlink() || !controller.is_dir() || controller.ends_with("unified") {
            continue;
        }
        let group = controller.join(name);
        fs::create_dir_all(&group).with_context(|| format!("create {}", group.display()))?;
        for setting in ["cpuset.cpus", "cpuset.mems"] {
            if let Ok(value) = fs::read_to_string(controller.join(setting)) {
                fs::write(group.join(setting), value)?;
            }
        }
    }
    Ok(())
}

fn cni(node: &Node) -> serde_json::Value {
    json!({
        "cniVersion": "1.0.0",
        "name": node.namespace,
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": true,
                "hairpinMode": true,
                "ipMasq": false,
                "ipam": {
                    "type": "host-local",
                    "dataDir": node.dir.join("addresses"),
                    "ranges": [[{"subnet": node.pod_range}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    })
}

fn kubelet(layout: &Layout, node: &Node) -> serde_json::Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": node.address,
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": layout.path("pki/ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": node.dir.join("kubelet.crt"),
        "tlsPrivateKeyFile": node.dir.join("kubelet.key"),
        "containerRuntimeEndpoint": format!("unix://{}", node.dir.join("run/containerd.sock").display()),
        "clusterDNS": [layout.dns_service()],
        "clusterDomain": "cluster.local",
        "resolvConf": node.dir.join("resolv.conf"),
        "podLogsDir": node.dir.join("pod-logs"),
        "cgroupRoot": format!("/{}", node.namespace),
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": false,
        "failSwapOn": false,
        "localStorageCapacityIsolation": false,
        "healthzPort": 0,
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": {"memory.available": "100Mi"},
        "serializeImagePulls": false,
        "volumePluginDir": node.dir.join("volume-plugins"),
    })
}

fn containerd(layout: &Layout, node: &Node) -> Result<String> {
    let template = include_str!("../cluster/containerd.toml");
    Ok(template
        .replace("{dir}", &node.dir.display().to_string())
        .replace("{sockets}", &socket_dir(node).display().to_string())
        .replace("{pause}", &crate::images::pause_reference(layout)?))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}
