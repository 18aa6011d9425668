//! A plugin of one file, laid out as the package that npm would have installed.

use std::fs;
use std::path::{Path, PathBuf};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::json;
use sha2::{Digest as _, Sha512};

use paperclip_artifact::lock::{Lock, LockError};
use paperclip_packing_api::single_file::{SingleFile, SingleFileError};

/// Why one file was not laid out.
#[derive(Debug, thiserror::Error)]
pub enum LayOutError {
    /// The plugin manifest lacks what the layout needs.
    #[error(transparent)]
    SingleFile(#[from] SingleFileError),
    /// The tree could not be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The lock of one package is none, which would be a fault of this crate.
    #[error(transparent)]
    Lock(#[from] LockError),
}

/// Writes the package below `tree`, and gives the lock that says so.
///
/// # Errors
/// When the plugin manifest lacks what the layout needs, or the tree cannot be written.
pub fn lay_out(single_file: &SingleFile, tree: &Path) -> Result<Lock, LayOutError> {
    let (package, version) = (single_file.package()?, single_file.version()?);
    let folder = tree.join("node_modules").join(package);
    let mut hash = Sha512::new();
    for (path, content) in single_file.files()? {
        hash.update(path.as_os_str().as_encoded_bytes());
        hash.update([0]);
        hash.update(content.len().to_be_bytes());
        hash.update(&content);
        let path = folder.join(path);
        let written = path
            .parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| fs::write(&path, &content));
        written.map_err(|source| LayOutError::Write { path, source })?;
    }
    let integrity = format!("sha512-{}", BASE64_STANDARD.encode(hash.finalize()));
    let lock = json!({
        "lockfileVersion": 3,
        "packages": {
            "": {"dependencies": {package: version}},
            format!("node_modules/{package}"): {"version": version, "integrity": integrity},
        },
    });
    Ok(Lock::parse(lock.to_string().as_bytes(), package, version)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn single_file(id: &str, worker: &str) -> SingleFile {
        SingleFile {
            manifest: json!({"id": id, "version": "1.0.0", "entrypoints": {"worker": worker}}),
            worker: "process.stdin.resume();\n".into(),
        }
    }

    #[test]
    fn one_file_is_laid_out_as_a_package_with_a_lock() {
        let tree = tempfile::tempdir().unwrap();
        let lock = lay_out(
            &single_file("acme.greeter", "./dist/worker.js"),
            tree.path(),
        )
        .unwrap();
        let folder = tree.path().join("node_modules/acme.greeter");
        let worker = fs::read_to_string(folder.join("dist/worker.js")).unwrap();
        assert_eq!(worker, "process.stdin.resume();\n");
        assert!(folder.join("plugin-manifest.js").is_file());
        let again = tempfile::tempdir().unwrap();
        let same = lay_out(
            &single_file("acme.greeter", "./dist/worker.js"),
            again.path(),
        )
        .unwrap();
        assert_eq!(lock.digest(), same.digest());
        let other = SingleFile {
            worker: "//".into(),
            ..single_file("acme.greeter", "./dist/worker.js")
        };
        assert_ne!(
            lock.digest(),
            lay_out(&other, again.path()).unwrap().digest()
        );
    }

    #[test]
    fn paths_and_names_that_would_leave_the_package_are_refused_by_field() {
        let tree = tempfile::tempdir().unwrap();
        for worker in [
            "../x.js",
            "/etc/x.js",
            "",
            ".",
            "a/../../x.js",
            "dist/",
            "package.json",
        ] {
            let error = lay_out(&single_file("acme.greeter", worker), tree.path()).unwrap_err();
            assert!(
                error.to_string().contains("entrypoints.worker"),
                "{worker}: {error}"
            );
        }
        for id in ["../x", "A b", "", "a/b"] {
            let error = lay_out(&single_file(id, "worker.js"), tree.path()).unwrap_err();
            assert!(error.to_string().contains("`id`"), "{id}: {error}");
        }
        assert_eq!(fs::read_dir(tree.path()).unwrap().count(), 0);
    }
}
