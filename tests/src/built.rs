//! Programs of this workspace, as cargo built them beside the running one. Nothing here starts
//! cargo: whoever runs a program of this package has built the others with the same profile.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

/// Target that a static build must name, or procedural macros are built static too.
const STATIC_TARGET: &str = "x86_64-unknown-linux-gnu";

/// A program of this workspace.
///
/// # Errors
/// When it is not built.
pub fn program(name: &str) -> Result<PathBuf> {
    // A test is one folder further down than programs are.
    for folder in std::env::current_exe()?.ancestors().skip(1).take(2) {
        let candidate = folder.join(name);
        if candidate.is_file() {
            return Ok(candidate);
        }
    }
    bail!("{name} is not built beside this program: `cargo build --workspace --all-targets`")
}

/// A program of this workspace that brings its own libc, for images that are not ours.
///
/// # Errors
/// When it is not built.
pub fn static_program(name: &str) -> Result<PathBuf> {
    let executable = std::env::current_exe()?;
    let own = executable.parent().context("a program is in a folder")?;
    let profile = if own.ends_with("deps") {
        own.parent().unwrap_or(own)
    } else {
        own
    };
    let built = profile
        .with_file_name(STATIC_TARGET)
        .join(profile.file_name().unwrap_or_default());
    let candidate = built.join(name);
    if candidate.is_file() {
        return Ok(candidate);
    }
    bail!(
        "{name} is not built static: `RUSTFLAGS=-Ctarget-feature=+crt-static cargo build --target {STATIC_TARGET} -p PACKAGE`, with the profile of this program ({})",
        candidate.display()
    )
}
