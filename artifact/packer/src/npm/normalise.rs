//! Brings an installed tree to the shape that depends on nothing but the lock.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use paperclip_artifact::tree::{self, Entry, LIMITS, TreeError};

/// npm's state, which holds times and registries.
const NPM_STATE: [&str; 3] = [".package-lock.json", ".bin", ".cache"];

/// Why a tree could not be normalised.
#[derive(Debug, thiserror::Error)]
pub enum NormaliseError {
    /// The tree breaks a rule.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The file system said no.
    #[error("cannot remove {}", path.display())]
    Remove {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// Drops the lock beside `package.json` and npm's state in every `node_modules`, then
/// lists what is left. Modes, times and owners are no part of the listing but for the
/// owner's execute bit, so umask and user do not matter.
///
/// # Errors
/// When an entry breaks a rule of [`tree::list`] or cannot be removed.
pub fn normalise(root: &Path) -> Result<Vec<Entry>, NormaliseError> {
    remove(&root.join("package-lock.json"))?;
    let state: Vec<PathBuf> = walkdir::WalkDir::new(root)
        .follow_links(false)
        .into_iter()
        .filter_entry(|found| !is_state(found) || found.depth() == 0)
        .filter_map(Result::ok)
        .filter(|found| found.file_type().is_dir() && found.file_name() == "node_modules")
        .flat_map(|folder| NPM_STATE.map(|name| folder.path().join(name)))
        .collect();
    state.iter().try_for_each(|path| remove(path))?;
    Ok(tree::list(root, LIMITS)?)
}

fn is_state(found: &walkdir::DirEntry) -> bool {
    NPM_STATE.iter().any(|name| found.file_name() == *name)
        && found
            .path()
            .parent()
            .and_then(Path::file_name)
            .is_some_and(|parent| parent == "node_modules")
}

fn remove(path: &Path) -> Result<(), NormaliseError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(NormaliseError::Remove {
            path: path.to_owned(),
            source: error,
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_of_npm_goes_and_files_of_packages_stay() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for path in [
            "package.json",
            "package-lock.json",
            "node_modules/.package-lock.json",
            "node_modules/a/x.js",
            "node_modules/a/.bin/keep",
            "node_modules/a/node_modules/.bin/b",
            "node_modules/.bin/a",
        ] {
            fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            fs::write(root.join(path), "").unwrap();
        }
        let paths: Vec<_> = normalise(root)
            .unwrap()
            .into_iter()
            .map(|entry| entry.path)
            .collect();
        assert_eq!(
            paths,
            [
                "node_modules",
                "node_modules/a",
                "node_modules/a/.bin",
                "node_modules/a/.bin/keep",
                "node_modules/a/node_modules",
                "node_modules/a/x.js",
                "package.json"
            ]
        );
    }
}
