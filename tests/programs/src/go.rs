//! Programs built from Go modules below `tests/cluster/go`.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
};

use anyhow::{Context, Result, ensure};

use crate::{
    cache::{self, Key},
    command,
};

/// A Go module of ours, and what is built from it.
pub struct Program {
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

const KUBE: Program = Program {
    name: "kube",
    module: "kube",
    packages: &["paperclip.ing/tests/cluster/kube"],
    flags: &[
        "-tags=providerless",
        "-ldflags=-s -w -X k8s.io/component-base/version.gitVersion=v1.36.3 -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=36",
    ],
    cost: "8 minutes",
};

const CONTAINERD: Program = Program {
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

const REGISTRY: Program = Program {
    name: "registry",
    module: "tools",
    packages: &["github.com/distribution/distribution/v3/cmd/registry"],
    flags: &["-ldflags=-s -w"],
    cost: "2 minutes",
};

const COREDNS: Program = Program {
    name: "coredns",
    module: "coredns",
    packages: &["paperclip.ing/tests/cluster/coredns"],
    flags: &["-ldflags=-s -w"],
    cost: "1 minute",
};

const HELM: Program = Program {
    name: "helm",
    module: "tools",
    packages: &["helm.sh/helm/v4/cmd/helm"],
    flags: &["-ldflags=-s -w"],
    cost: "2 minutes",
};

const HELM3: Program = Program {
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

/// Programs of every cluster, the one first that tests need without a cluster. Helm 3 is not
/// among them.
#[must_use]
pub fn all() -> [&'static Program; 5] {
    [&REGISTRY, &KUBE, &CONTAINERD, &COREDNS, &HELM]
}

/// The Kubernetes component of this name, or kubectl, or etcd.
///
/// # Errors
/// When it cannot be built.
pub fn kubernetes(component: &str) -> Result<PathBuf> {
    ensure!(
        COMPONENTS.contains(&component),
        "{component} is no Kubernetes component"
    );
    Ok(KUBE.build()?.join(component))
}

/// containerd, its shim or ctr.
///
/// # Errors
/// When it cannot be built.
pub fn containerd(program: &str) -> Result<PathBuf> {
    Ok(CONTAINERD.build()?.join(program))
}

/// The CNCF registry.
///
/// # Errors
/// When it cannot be built.
pub fn registry() -> Result<PathBuf> {
    Ok(REGISTRY.build()?.join("registry"))
}

/// CoreDNS.
///
/// # Errors
/// When it cannot be built.
pub fn coredns() -> Result<PathBuf> {
    Ok(COREDNS.build()?.join("coredns"))
}

/// Helm 3, which some still use.
///
/// # Errors
/// When it cannot be built.
pub fn helm3() -> Result<PathBuf> {
    Ok(HELM3.build()?.join("helm"))
}

/// Helm 4.
///
/// # Errors
/// When it cannot be built.
pub fn helm() -> Result<PathBuf> {
    Ok(HELM.build()?.join("helm"))
}

/// Folders that this process has asked for, since a key costs a start of Go.
static FOUND: Mutex<BTreeMap<&str, PathBuf>> = Mutex::new(BTreeMap::new());

impl Program {
    /// Folder of the programs, built on first use.
    ///
    /// # Errors
    /// When Go cannot be started or does not build them.
    pub fn build(&self) -> Result<PathBuf> {
        let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(folder) = found.get(self.name) {
            return Ok(folder.clone());
        }
        let module = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../cluster/go")
            .join(self.module);
        let key = go_key(self, &module)?;
        let folder = cache::entry(self.name, &key, |into| self.build_into(&module, into))?;
        found.insert(self.name, folder.clone());
        Ok(folder)
    }

    fn build_into(&self, module: &Path, into: &Path) -> Result<()> {
        let Self { name, cost, .. } = self;
        eprintln!("cluster: building {name} (first time: about {cost}) …");
        command::output(
            Command::new("go")
                .current_dir(module)
                .env("CGO_ENABLED", "0")
                .env("GOFLAGS", "-mod=readonly")
                .args(["build", "-trimpath"])
                .args(self.flags)
                .args(["-o", &format!("{}/", into.display())])
                .args(self.packages),
        )
        .with_context(|| format!("build {name}"))?;
        if *name == KUBE.name {
            for component in COMPONENTS {
                std::os::unix::fs::symlink("kube", into.join(component))?;
            }
        }
        Ok(())
    }
}

/// Hash of all that goes into a Go build.
fn go_key(program: &Program, module: &Path) -> Result<String> {
    let version = command::output(
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
