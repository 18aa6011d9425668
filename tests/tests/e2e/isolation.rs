//! What a pod can reach, seen from inside one.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};

use anyhow::{Context, Result, ensure};
use json_patch::merge;
use serde_json::{Value, json};

use crate::support::{
    HOST_NAMESPACE, Namespace, PLATFORM_NAMESPACE, WARM, cluster, eventually, get, inventory,
    kubectl, kubectl_with_input, worker_processes,
};

/// A pod that Pod Security `restricted` takes, of an image that there is not.
fn restricted_pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "node", "image": "none",
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            }],
        },
    })
}

/// Runs a line of JavaScript in a restricted pod and returns what it printed.
pub fn node_in_pod(namespace: &Namespace, name: &str, script: &str) -> Result<String> {
    let mut pod = restricted_pod(name);
    let container = &mut pod["spec"]["containers"][0];
    container["image"] = json!(cluster().image("paperclip-runtime-node")?);
    container["command"] = json!(["/usr/local/bin/node", "-e", script]);
    namespace.apply(&pod.to_string())?;
    eventually("the pod to end", WARM, || {
        let pod = get(&["pod", name, "-n", namespace.name()])?;
        let phase = pod["status"]["phase"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        ensure!(
            phase == "Succeeded" || phase == "Failed",
            "phase {phase}: {}",
            pod["status"]
        );
        Ok(())
    })?;
    kubectl(&["logs", "-n", namespace.name(), name])
}

/// A script that tries to connect to each address: a line each, `<address> <outcome>`, where the
/// outcome is `connected` or the code of the error.
fn connect_to(addresses: &[SocketAddr]) -> String {
    let targets = json!(
        addresses
            .iter()
            .map(|one| (one.ip(), one.port()))
            .collect::<Vec<_>>()
    );
    format!(
        "const {{ connect }} = require('node:net');
         for (const [host, port] of {targets}) {{
           const socket = connect({{ host, port, timeout: 8000 }});
           const say = (outcome) => {{ console.log(host + ':' + port, outcome); socket.destroy(); }};
           socket.on('connect', () => say('connected'));
           socket.on('timeout', () => say('timeout'));
           socket.on('error', (error) => say(error.code));
         }}"
    )
}

/// An IPv4 address of this machine that is not the cluster's: the one it uses to reach others.
fn address_outside() -> Result<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    // Reserved for documentation. Nothing is sent: the kernel only chooses a route.
    socket
        .connect("203.0.113.1:9")
        .context("this machine has a route out")?;
    Ok(socket.local_addr()?.ip())
}

#[test]
fn pods_reach_the_pull_through_registry_and_have_no_route_to_anything_outside() -> Result<()> {
    let namespace = Namespace::create("e2e-isolation")?;
    let registry = socket_of(&cluster().npm().url_in_cluster())?;
    // One listener, at an address of the cluster's bridge and at one outside the cluster.
    let listener = TcpListener::bind("0.0.0.0:0")?;
    let port = listener.local_addr()?.port();
    let on_the_bridge = SocketAddr::new(registry.ip(), port);
    let outside = SocketAddr::new(address_outside()?, port);
    ensure!(outside.ip() != registry.ip(), "{outside}");
    TcpStream::connect(outside).context("the listener answers this machine")?;
    // The registry that the pull-through registry itself asks, by its address.
    let upstream = socket_of(&cluster().npm().upstream_url())?;
    let said = node_in_pod(
        &namespace,
        "routes",
        &connect_to(&[registry, on_the_bridge, outside, upstream]),
    )?;
    let mut found: Vec<&str> = said.lines().collect();
    found.sort_unstable();
    let mut expected = [
        format!("{registry} connected"),
        format!("{on_the_bridge} connected"),
        format!("{outside} ENETUNREACH"),
        format!("{upstream} ENETUNREACH"),
    ];
    expected.sort_unstable();
    ensure!(found == expected, "{found:?}, not {expected:?}");
    Ok(())
}

/// The first IPv4 address behind a URL, looked up on this machine.
fn socket_of(url: &str) -> Result<SocketAddr> {
    let url = reqwest::Url::parse(url)?;
    let found = url.socket_addrs(|| None)?;
    let address = found.into_iter().find(SocketAddr::is_ipv4);
    address.with_context(|| format!("{url} has an IPv4 address"))
}

/// Variables that Paperclip gives a worker, and nothing beside them.
const WORKER_ENVIRONMENT: [&str; 7] = [
    "NODE_ENV",
    "NODE_PATH",
    "PAPERCLIP_DEPLOYMENT_EXPOSURE",
    "PAPERCLIP_DEPLOYMENT_MODE",
    "PAPERCLIP_PLUGIN_ID",
    "PATH",
    "TZ",
];

#[test]
fn a_worker_sees_no_token_no_key_and_only_the_listed_environment() -> Result<()> {
    let namespace = inventory("e2e-worker-view")?;
    let workers = worker_processes(namespace.name(), "inventory")?;
    let worker = workers.first().context("the worker runs on this machine")?;

    let environment = std::fs::read_to_string(format!("/proc/{worker}/environ"))?;
    let mut names: Vec<_> = environment
        .split('\0')
        .filter_map(|variable| Some(variable.split_once('=')?.0))
        .collect();
    names.sort_unstable();
    ensure!(names == WORKER_ENVIRONMENT, "{names:?}");

    // What is mounted there, as the kernel tells it: our four folders, /tmp, and no Secret.
    let mounts = std::fs::read_to_string(format!("/proc/{worker}/mountinfo"))?;
    for forbidden in [
        "serviceaccount",
        "kubernetes.io~secret",
        "kubernetes.io~configmap",
        "kubernetes.io~projected",
    ] {
        ensure!(
            !mounts.contains(forbidden),
            "{forbidden} is mounted:\n{mounts}"
        );
    }
    let status = std::fs::read_to_string(format!("/proc/{worker}/status"))?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.map(|value| value.trim().to_owned())
            .unwrap_or_default()
    };
    ensure!(
        field("CapEff:") == "0000000000000000",
        "capabilities {}",
        field("CapEff:")
    );
    ensure!(
        field("NoNewPrivs:") == "1" && field("Seccomp:") == "2",
        "{status}"
    );
    ensure!(!field("Uid:").starts_with('0'), "runs as {}", field("Uid:"));
    // Its own code and the root are read-only for it.
    for folder in ["/", "/paperclip/artifact", "/paperclip/bin"] {
        let line = mounts
            .lines()
            .find(|line| line.split(' ').nth(4) == Some(folder));
        let options = line
            .and_then(|line| line.split(' ').nth(5))
            .with_context(|| format!("{folder} is a mount"))?;
        ensure!(
            options.split(',').any(|option| option == "ro"),
            "{folder} is mounted {options}"
        );
    }
    Ok(())
}

/// Pods that break the `restricted` standard, each in one way, and what must be said of it.
fn unrestricted() -> [(Value, &'static str); 4] {
    [
        (
            json!({"containers": [{"name": "node", "image": "none",
                "securityContext": {"privileged": true}}]}),
            "privileged",
        ),
        (json!({"hostNetwork": true}), "host namespaces"),
        (
            json!({"securityContext": {"runAsNonRoot": false}}),
            "runAsNonRoot",
        ),
        (
            json!({"volumes": [{"name": "node", "hostPath": {"path": "/"}}]}),
            "restricted volume types",
        ),
    ]
}

#[test]
fn a_pod_that_breaks_pod_security_is_refused_in_every_namespace_of_ours() -> Result<()> {
    let namespace = Namespace::create("e2e-pod-security")?;
    for ns in [PLATFORM_NAMESPACE, HOST_NAMESPACE, namespace.name()] {
        create_without_effect(ns, &restricted_pod("sound"))?;
        for (change, says) in unrestricted() {
            let mut pod = restricted_pod("unrestricted");
            merge(&mut pod["spec"], &change);
            let refused = create_without_effect(ns, &pod).err();
            let refused = refused.with_context(|| format!("{ns} takes a pod with {change}"))?;
            let refused = format!("{refused:#}");
            ensure!(
                refused.contains("violates PodSecurity \"restricted:latest\"")
                    && refused.contains(says),
                "{ns}, {change}: {refused}"
            );
        }
    }
    Ok(())
}

fn create_without_effect(namespace: &str, object: &Value) -> Result<()> {
    let create = ["create", "--dry-run=server", "-n", namespace, "-f", "-"];
    kubectl_with_input(&create, &object.to_string()).map(drop)
}
