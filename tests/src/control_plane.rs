//! etcd, API server, controller manager, scheduler and DNS, on this machine's own network.

use std::fs;

use anyhow::{Context, Result, ensure};

use crate::{
    inventory,
    layout::{Layout, command_output},
    pki::{Authority, Subject, write_key_pair},
    process::{Daemon, PATIENCE, eventually, log_tail},
    programs,
};

/// Names under which the API server is reached.
fn api_names(layout: &Layout) -> Vec<String> {
    vec![
        "kubernetes".into(),
        "kubernetes.default".into(),
        "kubernetes.default.svc".into(),
        "kubernetes.default.svc.cluster.local".into(),
        layout.api_service().to_string(),
        layout.gateway().to_string(),
    ]
}

/// Writes certificates, keys and kubeconfigs; returns the authority for the nodes'.
pub fn write_identities(layout: &Layout) -> Result<Authority> {
    let dir = layout.path("pki");
    fs::create_dir_all(&dir)?;
    let authority = Authority::create(&dir)?;
    write_key_pair(&dir, "service-accounts")?;
    let names = api_names(layout);
    let api = Subject {
        user: "kube-apiserver",
        group: None,
        serves: &names,
    };
    authority.issue(api)?.write(&dir, "kube-apiserver")?;
    authority
        .issue(Subject::client("kube-apiserver", Some("system:masters")))?
        .write(&dir, "kubelet-client")?;
    let server = layout.api_server();
    for user in [
        "system:kube-controller-manager",
        "system:kube-scheduler",
        "system:coredns",
    ] {
        let file = layout.path(format!("{}.kubeconfig", user.trim_start_matches("system:")));
        authority.write_kubeconfig(&file, &server, Subject::client(user, None))?;
    }
    let administrator = Subject::client("administrator", Some("system:masters"));
    authority.write_kubeconfig(&layout.kubeconfig(), &server, administrator)?;
    Ok(authority)
}

/// Starts etcd and the API server and waits until it is ready.
pub fn start_api_server(layout: &Layout) -> Result<()> {
    let loopback = layout.loopback();
    let (client, peer) = (
        format!("http://{loopback}:2379"),
        format!("http://{loopback}:2380"),
    );
    Daemon::new("etcd", programs::kubernetes("etcd")?)
        .args(["--name=etcd", "--unsafe-no-fsync", "--log-level=warn"])
        .args([format!("--data-dir={}", layout.path("etcd").display())])
        .args([
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
        ])
        .args([
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
        ])
        .args([format!("--initial-cluster=etcd={peer}")])
        .start(layout)?;

    fs::create_dir_all(layout.path("audit"))?;
    fs::write(
        layout.path("audit/policy.yaml"),
        include_str!("../cluster/audit-policy.yaml"),
    )?;
    let pki = layout.path("pki");
    let file = |name: &str| pki.join(name).display().to_string();
    let gateway = layout.gateway();
    Daemon::new("kube-apiserver", programs::kubernetes("kube-apiserver")?)
        .args([
            format!("--etcd-servers={client}"),
            format!("--bind-address={gateway}"),
            format!("--advertise-address={gateway}"),
            "--secure-port=6443".into(),
            format!("--service-cluster-ip-range={}", layout.service_range()),
            format!("--tls-cert-file={}", file("kube-apiserver.crt")),
            format!("--tls-private-key-file={}", file("kube-apiserver.key")),
            format!("--client-ca-file={}", file("ca.crt")),
            format!("--kubelet-certificate-authority={}", file("ca.crt")),
            format!(
                "--kubelet-client-certificate={}",
                file("kubelet-client.crt")
            ),
            format!("--kubelet-client-key={}", file("kubelet-client.key")),
            // Otherwise logs and exec look the node's name up in DNS.
            "--kubelet-preferred-address-types=InternalIP".into(),
            format!(
                "--service-account-key-file={}",
                file("service-accounts.pub")
            ),
            format!(
                "--service-account-signing-key-file={}",
                file("service-accounts.key")
            ),
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local".into(),
            "--authorization-mode=Node,RBAC".into(),
            "--enable-admission-plugins=NodeRestriction".into(),
            "--allow-privileged".into(),
            "--enable-aggregator-routing".into(),
            format!(
                "--audit-policy-file={}",
                layout.path("audit/policy.yaml").display()
            ),
            format!("--audit-log-path={}", layout.audit_log().display()),
            "--profiling=false".into(),
        ])
        .start(layout)?;
    eventually("the API server", PATIENCE, || {
        kubectl(layout, &["get", "--raw=/readyz"]).map(drop)
    })
    .with_context(|| log_tail(layout, "kube-apiserver"))
}

/// Starts what acts on the API: controller manager, scheduler, DNS.
pub fn start_controllers(layout: &Layout) -> Result<()> {
    let loopback = layout.loopback();
    let pki = layout.path("pki");
    let file = |name: &str| pki.join(name).display().to_string();
    let kubeconfig = |name: &str| {
        format!(
            "--kubeconfig={}",
            layout.path(format!("{name}.kubeconfig")).display()
        )
    };
    Daemon::new(
        "kube-controller-manager",
        programs::kubernetes("kube-controller-manager")?,
    )
    .args([
        kubeconfig("kube-controller-manager"),
        format!("--bind-address={loopback}"),
        "--leader-elect=false".into(),
        "--use-service-account-credentials".into(),
        format!(
            "--service-account-private-key-file={}",
            file("service-accounts.key")
        ),
        format!("--root-ca-file={}", file("ca.crt")),
        format!("--cluster-signing-cert-file={}", file("ca.crt")),
        format!("--cluster-signing-key-file={}", file("ca.key")),
    ])
    .start(layout)?;
    Daemon::new("kube-scheduler", programs::kubernetes("kube-scheduler")?)
        .args([
            kubeconfig("kube-scheduler"),
            format!("--bind-address={loopback}"),
            "--leader-elect=false".into(),
        ])
        .start(layout)?;
    start_dns(layout)
}

/// CoreDNS runs beside the API server; its Service points to it by address.
fn start_dns(layout: &Layout) -> Result<()> {
    let corefile = include_str!("../cluster/Corefile")
        .replace("{gateway}", &layout.gateway().to_string())
        .replace(
            "{kubeconfig}",
            &layout.path("coredns.kubeconfig").display().to_string(),
        );
    fs::write(layout.path("Corefile"), corefile)?;
    Daemon::new("coredns", programs::coredns()?)
        .args(["-conf".into(), layout.path("Corefile").into_os_string()])
        .start(layout)
}

/// Applies what every cluster has: DNS, its rights, the storage class with its volumes.
pub fn apply_base_objects(layout: &Layout) -> Result<()> {
    let mut objects = include_str!("../cluster/base.yaml")
        .replace("{gateway}", &layout.gateway().to_string())
        .replace("{dns}", &layout.dns_service().to_string());
    objects.push_str(&crate::storage::volumes(layout)?);
    let file = layout.path("base.yaml");
    fs::write(&file, objects)?;
    kubectl(
        layout,
        &["apply", "--server-side", "-f", &file.display().to_string()],
    )
    .map(drop)
}

/// Waits until every node is Ready and everything is there that components make by themselves.
pub fn wait_until_usable(layout: &Layout) -> Result<()> {
    eventually("both nodes to be Ready", PATIENCE, || {
        let ready = r"jsonpath={.items[*].status.conditions[?(@.type=='Ready')].status}";
        let states = kubectl(layout, &["get", "nodes", "-o", ready])?;
        let ready = states
            .split_whitespace()
            .filter(|state| *state == "True")
            .count();
        ensure!(ready == layout.nodes().len(), "nodes: {states:?}");
        Ok(())
    })
    .with_context(|| {
        let tails = layout.nodes().into_iter().map(|node| {
            format!(
                "{}: {}",
                node.name,
                log_tail(layout, &format!("{}-kubelet", node.name))
            )
        });
        tails.collect::<Vec<_>>().join("\n")
    })?;
    eventually("the cluster to settle", PATIENCE, || {
        inventory::is_settled(layout)
    })
}

/// Runs kubectl as the administrator.
pub fn kubectl(layout: &Layout, arguments: &[&str]) -> Result<String> {
    let mut command = std::process::Command::new(programs::kubernetes("kubectl")?);
    command_output(
        command
            .env("KUBECONFIG", layout.kubeconfig())
            .args(arguments),
    )
}
