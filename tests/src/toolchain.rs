//! Brings the pinned Node and npm onto this machine, by the hash of their packages.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use base64::Engine;
use sha2::{Digest, Sha512};

use crate::layout::command_output;

/// Fetches a package with the machine's own npm, checks it and unpacks it below a folder.
pub fn fetch(into: &Path, package: &str, version: &str, integrity: &str) -> Result<PathBuf> {
    let specifier = format!("{package}@{version}");
    let archive = command_output(
        Command::new("npm")
            .current_dir(into)
            .args(["pack", "--silent", &specifier]),
    )?;
    let archive = into.join(archive.trim());
    let bytes = fs::read(&archive).with_context(|| format!("read {}", archive.display()))?;
    let digest = base64::engine::general_purpose::STANDARD.encode(Sha512::digest(&bytes));
    ensure!(
        format!("sha512-{digest}") == integrity,
        "{specifier} has integrity sha512-{digest}, wanted {integrity}"
    );
    let scratch = into.join(format!("unpacked-{package}"));
    // The archive is pinned by its hash; nothing in it needs to be feared.
    tar::Archive::new(flate2::read::GzDecoder::new(bytes.as_slice())).unpack(&scratch)?;
    fs::remove_file(&archive)?;
    let target = into.join(package);
    fs::rename(scratch.join("package"), &target)
        .with_context(|| format!("{specifier} has a folder `package`"))?;
    fs::remove_dir(&scratch)?;
    Ok(target)
}
