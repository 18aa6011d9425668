//! The tree that npm left, compared with the lock it was installed from.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nodejs_semver::Version;
use serde_json::Value;

use crate::bounded;
use crate::limits;
use crate::lock::Lock;

/// Why a tree is not what its lock says.
#[derive(Debug, thiserror::Error)]
pub enum InstalledError {
    /// A package is missing, is there besides, or is another.
    #[error("cannot {action}: {message}")]
    Refused {
        /// The step of the comparison.
        action: String,
        /// The difference.
        message: String,
    },
    /// A folder could not be read.
    #[error("cannot read in {}", path.display())]
    Read {
        /// The folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// Compares what npm left with the lock, in both directions.
///
/// # Errors
/// Names the first package that differs.
pub fn compare(root: &Path, lock: &Lock) -> Result<(), InstalledError> {
    let refuse = |message: String| InstalledError::Refused {
        action: "compare the installed tree with the lock".into(),
        message,
    };
    let mut installed = BTreeMap::new();
    collect(&root.join("node_modules"), "node_modules", &mut installed)?;
    for (path, version, optional) in lock.packages() {
        match installed.remove(path) {
            Some(found) if found == version => {}
            Some(found) => {
                return Err(refuse(format!(
                    "{path} is {found}, and the lock says {version}"
                )));
            }
            None if optional => {}
            None => return Err(refuse(format!("{path} is in the lock and not in the tree"))),
        }
    }
    match installed.into_keys().next() {
        Some(extra) => Err(refuse(format!(
            "{extra} is in the tree and not in the lock"
        ))),
        None => Ok(()),
    }
}

/// Collects path and version of every package below a `node_modules` folder.
fn collect(
    folder: &Path,
    path: &str,
    found: &mut BTreeMap<String, String>,
) -> Result<(), InstalledError> {
    for child in children(folder)? {
        let name = child.to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        if name.starts_with('@') {
            for scoped in children(&folder.join(&child))? {
                let name = format!("{name}/{}", scoped.to_string_lossy());
                collect_package(
                    &folder.join(&child).join(&scoped),
                    &format!("{path}/{name}"),
                    found,
                )?;
            }
        } else {
            collect_package(&folder.join(&child), &format!("{path}/{name}"), found)?;
        }
    }
    Ok(())
}

fn collect_package(
    folder: &Path,
    path: &str,
    found: &mut BTreeMap<String, String>,
) -> Result<(), InstalledError> {
    let manifest = folder.join("package.json");
    let text =
        bounded::read(&manifest, limits::PACKAGE_JSON).map_err(|e| InstalledError::Refused {
            action: format!("read the package.json of {path}"),
            message: e.to_string(),
        })?;
    let manifest: Value = serde_json::from_slice(&text).unwrap_or_default();
    let version = manifest["version"].as_str().unwrap_or_default();
    // npm drops a leading `v` and build data where it compares.
    let version = Version::parse(version).map_or_else(|_| version.to_owned(), |v| v.to_string());
    found.insert(path.to_owned(), version);
    let nested = folder.join("node_modules");
    // A link is no folder here, wherever it leads.
    if fs::symlink_metadata(&nested).is_ok_and(|found| found.is_dir()) {
        collect(&nested, &format!("{path}/node_modules"), found)
    } else {
        Ok(())
    }
}

fn children(folder: &Path) -> Result<Vec<OsString>, InstalledError> {
    let failed = |source| InstalledError::Read {
        path: folder.to_owned(),
        source,
    };
    fs::read_dir(folder)
        .map_err(failed)?
        .map(|c| c.map(|c| c.file_name()).map_err(failed))
        .collect()
}
