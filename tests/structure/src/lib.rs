//! Structure of this repository, read from its sources: how long functions are, which file
//! imports which, and which crate may know which.
//!
//! Only what ships is read: files below a `src` folder outside `tests/`, without their
//! `#[cfg(test)]` modules. The rules and their exceptions stand in `tests/`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

pub mod dependencies;
pub mod functions;
pub mod imports;
mod sources;

pub use sources::{Crate, File, shipped};

/// Root of the repository that this crate is built from.
///
/// # Errors
/// Fails when the folder of this crate has been moved away since it was compiled.
pub fn repository() -> Result<PathBuf> {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .context("find the repository that this test was compiled in")
}
