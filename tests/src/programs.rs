//! The programs a cluster runs: built from pinned Go modules, fetched from npm, or
//! installed from Debian, on first use.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use crate::{
    cache::{self, Key},
    layout::command_output,
    platform::repository,
    progress::say,
    toolchain,
};
use paperclip_artifact::toolchain::{
    NODE_INTEGRITY, NODE_PACKAGE, NODE_VERSION, NPM_INTEGRITY, NPM_VERSION,
};
use paperclip_packer::npm::toolchain::Toolchain;

/// A Go module of ours, and what is built from it.
struct GoProgram {
    /// Name of the cache entry.
    name: &'static str,
    /// Folder below `tests/cluster/go`.
    module: &'static str,
    /// Packages to build, each into a program named after it.
    packages: &'static [&'static str],
    /// Build flags.
    flags: &'static [&'static str],
    /// What a first build costs on two cores.
    cost: &'static str,
}

const KUBE: GoProgram = GoProgram {
    name: "kube",
    module: "kube",
    packages: &["paperclip.ing/tests/cluster/kube"],
    flags: &[
        "-tags=providerless",
        "-ldflags=-s -w -X k8s.io/component-base/version.gitVersion=v1.36.3 -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=36",
    ],
    cost: "8 minutes",
};

const CONTAINERD: GoProgram = GoProgram {
    name: "containerd",
    module: "containerd",
    packages: &[
        "github.com/containerd/containerd/v2/cmd/containerd",
        "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
        "github.com/containerd/containerd/v2/cmd/ctr",
    ],
    flags: &[
        "-tags=no_btrfs,no_devmapper,no_zfs,no_aufs",
        "-ldflags=-s -w -X github.com/containerd/containerd/v2/version.Version=v2.3.2",
    ],
    cost: "2 minutes",
};

const REGISTRY: GoProgram = GoProgram {
    name: "registry",
    module: "tools",
    packages: &["github.com/distribution/distribution/v3/cmd/registry"],
    flags: &["-ldflags=-s -w"],
    cost: "2 minutes",
};

const COREDNS: GoProgram = GoProgram {
    name: "coredns",
    module: "tools",
    packages: &["github.com/coredns/coredns"],
    flags: &["-ldflags=-s -w"],
    cost: "3 minutes",
};

const HELM: GoProgram = GoProgram {
    name: "helm",
    module: "tools",
    packages: &["helm.sh/helm/v4/cmd/helm"],
    flags: &["-ldflags=-s -w"],
    cost: "2 minutes",
};

const HELM3: GoProgram = GoProgram {
    name: "helm3",
    module: "helm3",
    packages: &["helm.sh/helm/v3/cmd/helm"],
    flags: &["-ldflags=-s -w"],
    cost: "2 minutes",
};

/// Components in the one Kubernetes binary, each under its own name.
const COMPONENTS: &[&str] = &[
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "kubectl",
];

/// Debian packages, and a file that shows each is installed.
const DEBIAN: &[(&str, &str)] = &[
    ("runc", "/usr/sbin/runc"),
    ("containernetworking-plugins", "/usr/lib/cni/bridge"),
    ("iptables", "/usr/sbin/iptables"),
    ("conntrack", "/usr/sbin/conntrack"),
    ("ethtool", "/sbin/ethtool"),
    ("socat", "/usr/bin/socat"),
    ("busybox-static", "/bin/busybox"),
    ("iproute2", "/sbin/ip"),
    ("procps", "/sbin/sysctl"),
    ("util-linux", "/usr/bin/nsenter"),
];

/// The Kubernetes component of this name, or kubectl, or etcd.
pub fn kubernetes(component: &str) -> Result<PathBuf> {
    ensure!(
        COMPONENTS.contains(&component),
        "{component} is no Kubernetes component"
    );
    Ok(build(&KUBE)?.join(component))
}

/// containerd, its shim or ctr.
pub fn containerd(program: &str) -> Result<PathBuf> {
    Ok(build(&CONTAINERD)?.join(program))
}

/// The CNCF registry.
pub fn registry() -> Result<PathBuf> {
    Ok(build(&REGISTRY)?.join("registry"))
}

/// CoreDNS.
pub fn coredns() -> Result<PathBuf> {
    Ok(build(&COREDNS)?.join("coredns"))
}

/// Helm 3, which some still use.
pub fn helm3() -> Result<PathBuf> {
    Ok(build(&HELM3)?.join("helm"))
}

/// Helm 4.
pub fn helm() -> Result<PathBuf> {
    Ok(build(&HELM)?.join("helm"))
}

/// Builds everything that is missing, so that a later failure is not a build's.
pub fn prepare() -> Result<()> {
    install_debian_packages()?;
    for program in [&CONTAINERD, &KUBE, &REGISTRY, &COREDNS, &HELM] {
        build(program)?;
    }
    node()?;
    verdaccio().map(drop)
}

fn build(program: &GoProgram) -> Result<PathBuf> {
    let module = repository().join("tests/cluster/go").join(program.module);
    let key = go_key(program, &module)?;
    cache::entry(program.name, &key, |into| {
        say(format!(
            "building {} (first time: about {}) …",
            program.name, program.cost
        ));
        command_output(
            Command::new("go")
                .current_dir(&module)
                .env("CGO_ENABLED", "0")
                .env("GOFLAGS", "-mod=readonly")
                .args(["build", "-trimpath"])
                .args(program.flags)
                .args(["-o", &format!("{}/", into.display())])
                .args(program.packages),
        )
        .with_context(|| format!("build {}", program.name))?;
        if program.name == KUBE.name {
            for component in COMPONENTS {
                std::os::unix::fs::symlink("kube", into.join(component))?;
            }
        }
        Ok(())
    })
}

/// Hash of all that goes into a Go build.
fn go_key(program: &GoProgram, module: &Path) -> Result<String> {
    let version = command_output(
        Command::new("go")
            .current_dir(module)
            .args(["env", "GOVERSION"]),
    )?;
    let mut key = Key::default()
        .part("go", version.trim().as_bytes())
        .part("flags", program.flags.join("\n").as_bytes())
        .part("packages", program.packages.join("\n").as_bytes());
    let mut files: Vec<PathBuf> = fs::read_dir(module)
        .with_context(|| format!("list {}", module.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    files.sort();
    for file in files {
        let name = file
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if name == "go.mod" || name == "go.sum" || name.ends_with(".go") {
            key = key.part(&name, &fs::read(&file)?);
        }
    }
    Ok(key.finish())
}

/// The pinned Node and npm.
pub fn node() -> Result<Toolchain> {
    let key = Key::default()
        .part("node", NODE_INTEGRITY.as_bytes())
        .part("npm", NPM_INTEGRITY.as_bytes())
        .finish();
    let folder = cache::entry("node", &key, |into| {
        say(format!(
            "fetching Node {NODE_VERSION} and npm {NPM_VERSION} …"
        ));
        let node = toolchain::fetch(into, NODE_PACKAGE, NODE_VERSION, NODE_INTEGRITY)?;
        let npm = toolchain::fetch(into, "npm", NPM_VERSION, NPM_INTEGRITY)?;
        fs::create_dir_all(into.join("bin"))?;
        fs::create_dir_all(into.join("lib/node_modules"))?;
        fs::rename(node.join("bin/node"), into.join("bin/node"))?;
        fs::rename(npm, into.join("lib/node_modules/npm"))?;
        std::os::unix::fs::symlink(
            "../lib/node_modules/npm/bin/npm-cli.js",
            into.join("bin/npm"),
        )?;
        fs::remove_dir_all(node).context("remove what is left of the package of Node")
    })?;
    Ok(Toolchain::at(&folder))
}

/// A command that runs the pinned npm under the pinned Node, whatever is on PATH.
pub fn npm() -> Result<Command> {
    let node = node()?;
    let mut path = node.folder().join("bin").into_os_string();
    path.push(":");
    path.push(env::var_os("PATH").unwrap_or_default());
    let mut command = Command::new(node.node());
    command.arg(node.npm()).env("PATH", path);
    Ok(command)
}

/// Folder where Verdaccio is installed.
pub fn verdaccio() -> Result<PathBuf> {
    let manifest = include_str!("../cluster/verdaccio/package.json");
    let key = Key::default()
        .part("package.json", manifest.as_bytes())
        .finish();
    cache::entry("verdaccio", &key, |into| {
        say("installing Verdaccio (first time: about 40 seconds) …");
        fs::write(into.join("package.json"), manifest)?;
        let mut npm = npm()?;
        npm.current_dir(into).args([
            "install",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--loglevel=error",
        ]);
        command_output(&mut npm).map(drop)
    })
}

/// The npm registry this machine is configured for, with a slash at the end.
pub fn upstream_npm_registry() -> Result<String> {
    let registry = command_output(Command::new("npm").args(["config", "get", "registry"]))?;
    Ok(format!("{}/", registry.trim().trim_end_matches('/')))
}

fn install_debian_packages() -> Result<()> {
    let missing: Vec<&str> = DEBIAN
        .iter()
        .filter(|(_, file)| !Path::new(file).exists())
        .map(|(package, _)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    say(format!(
        "installing Debian packages: {} …",
        missing.join(" ")
    ));
    command_output(Command::new("apt-get").args(["update", "-qq"]))?;
    command_output(
        Command::new("apt-get")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(["install", "-y", "-qq", "--no-install-recommends"])
            .args(missing),
    )
    .map(drop)
}
