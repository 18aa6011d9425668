//! Dependencies between the crates of the workspace, and the packages that a program links.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// For each crate of the workspace, the crates of the workspace that it links when it ships.
///
/// # Errors
/// Fails when cargo cannot read the workspace.
pub fn between_crates(repository: &Path) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let text = cargo(
        repository,
        &["metadata", "--format-version=1", "--no-deps", "--offline"],
    )?;
    let metadata: Metadata =
        serde_json::from_str(&text).context("parse what cargo metadata printed")?;
    let members: BTreeSet<String> = metadata
        .packages
        .iter()
        .map(|package| package.name.clone())
        .collect();
    let known = |package: &Package| {
        let shipped = package
            .dependencies
            .iter()
            .filter(|dependency| dependency.kind.is_none());
        let names = shipped.map(|dependency| dependency.name.clone());
        names.filter(|name| members.contains(name)).collect()
    };
    let all = metadata
        .packages
        .iter()
        .map(|package| (package.name.clone(), known(package)));
    Ok(all.collect())
}

/// Packages that a crate links, itself included, build scripts and tests aside.
///
/// # Errors
/// Fails when cargo cannot resolve the workspace without the network.
pub fn linked_packages(repository: &Path, package: &str) -> Result<BTreeSet<String>> {
    let text = cargo(
        repository,
        &[
            "tree",
            "--offline",
            "--edges=normal",
            "--prefix=none",
            "--format={p}",
            "-p",
            package,
        ],
    )?;
    let names = text
        .lines()
        .map(|line| line.trim_end_matches(" (*)").trim());
    Ok(names
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect())
}

fn cargo(repository: &Path, arguments: &[&str]) -> Result<String> {
    let output = Command::new(env!("CARGO"))
        .current_dir(repository)
        .args(arguments)
        .arg("--locked")
        .output()
        .context("start cargo")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "cargo {} failed: {said}",
        arguments.join(" ")
    );
    String::from_utf8(output.stdout).context("cargo prints UTF-8")
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// `dev` and `build`; none for what ships.
    kind: Option<String>,
}
