//! A plugin that is one file: the text of the worker, and the plugin manifest beside it. It is
//! laid out as the package that npm would have installed, so everything after it is the same.

use std::{
    collections::BTreeMap,
    fs,
    path::{Component, Path, PathBuf},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use paperclip_oci::canonical;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha512};

use crate::{
    inputs,
    lock::{Lock, LockError},
    manifest::{self, ManifestError},
};

/// Stands for the registry among the inputs.
pub const REGISTRY: &str = "configMap";

/// File of the laid out package that holds the plugin manifest.
const MANIFEST: &str = "plugin-manifest.js";

/// A worker of one file, which depends on nothing.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Inline {
    /// The whole plugin manifest.
    pub manifest: Value,
    /// Text of the worker file.
    pub worker: String,
}

/// Why one file is no package.
#[derive(Debug, thiserror::Error)]
pub enum InlineError {
    /// A field that the layout needs.
    #[error("the plugin manifest: `{field}` is {found}, wanted {wanted}")]
    Field {
        /// Path of the field.
        field: &'static str,
        /// What is there.
        found: String,
        /// What must be.
        wanted: &'static str,
    },
    /// A rule of Paperclip's for plugin manifests.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The tree could not be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The lock of one package is none, which would be a fault of this crate.
    #[error(transparent)]
    Lock(#[from] LockError),
}

impl Inline {
    /// Name of the package: the plugin's id.
    ///
    /// # Errors
    /// When the id is missing or npm would not install a package of that name.
    pub fn package(&self) -> Result<&str, InlineError> {
        let wanted = "an id that can be the name of a package, such as acme.greeter";
        self.field("id", &self.manifest["id"], inputs::is_package_name, wanted)
    }

    /// Version of the package: the plugin's.
    ///
    /// # Errors
    /// When it is missing or not exact.
    pub fn version(&self) -> Result<&str, InlineError> {
        let is_version = |text: &str| semver::Version::parse(text).is_ok();
        let wanted = "an exact version such as 1.2.3";
        self.field("version", &self.manifest["version"], is_version, wanted)
    }

    /// Checks the plugin manifest by Paperclip's rules, and what the layout needs of it.
    ///
    /// # Errors
    /// Names the first field that breaks its rule.
    pub fn check(&self) -> Result<(), InlineError> {
        self.files()?;
        Ok(manifest::validate(&self.manifest)?)
    }

    /// Path of the worker file in the package.
    fn worker_path(&self) -> Result<&Path, InlineError> {
        let is_inside = |text: &str| {
            let mut parts = Path::new(text).components();
            let plain = |part| matches!(part, Component::Normal(_) | Component::CurDir);
            !text.ends_with('/') && Path::new(text).file_name().is_some() && parts.all(plain)
        };
        let found = &self.manifest["entrypoints"]["worker"];
        let wanted = "a path in the package, such as ./worker.js";
        let path = self.field("entrypoints.worker", found, is_inside, wanted)?;
        let path = Path::new(path.strip_prefix("./").unwrap_or(path));
        let ours = [Path::new(MANIFEST), Path::new("package.json")];
        if ours.contains(&path) {
            return Err(InlineError::Field {
                field: "entrypoints.worker",
                found: format!("`{}`", path.display()),
                wanted: "a file name that the package does not use itself",
            });
        }
        Ok(path)
    }

    fn field<'a>(
        &self,
        field: &'static str,
        found: &'a Value,
        holds: impl Fn(&str) -> bool,
        wanted: &'static str,
    ) -> Result<&'a str, InlineError> {
        match found.as_str() {
            Some(text) if holds(text) => Ok(text),
            _ => Err(InlineError::Field {
                field,
                found: match found {
                    Value::Null => "missing".into(),
                    other => format!(
                        "`{}`",
                        other.to_string().chars().take(200).collect::<String>()
                    ),
                },
                wanted,
            }),
        }
    }

    /// Every file of the package, by its path.
    fn files(&self) -> Result<BTreeMap<PathBuf, Vec<u8>>, InlineError> {
        let worker = self.worker_path()?;
        let description = json!({
            "name": self.package()?, "version": self.version()?, "private": true, "type": "module",
            "paperclipPlugin": {
                "manifest": format!("./{MANIFEST}"),
                "worker": format!("./{}", worker.display()),
            },
        });
        let manifest = canonical::readable(&self.manifest);
        let manifest = [b"export default ".as_slice(), &manifest].concat();
        Ok(BTreeMap::from([
            ("package.json".into(), canonical::readable(&description)),
            (MANIFEST.into(), manifest),
            (worker.to_owned(), self.worker.clone().into_bytes()),
        ]))
    }

    /// Writes the package below `tree`, and gives the lock that says so.
    ///
    /// # Errors
    /// When the plugin manifest lacks what the layout needs, or the tree cannot be written.
    pub fn lay_out(&self, tree: &Path) -> Result<Lock, InlineError> {
        let (package, version) = (self.package()?, self.version()?);
        let folder = tree.join("node_modules").join(package);
        let mut hash = Sha512::new();
        for (path, content) in self.files()? {
            hash.update(path.as_os_str().as_encoded_bytes());
            hash.update([0]);
            hash.update(content.len().to_be_bytes());
            hash.update(&content);
            let path = folder.join(path);
            let written = path
                .parent()
                .map_or(Ok(()), fs::create_dir_all)
                .and_then(|()| fs::write(&path, &content));
            written.map_err(|source| InlineError::Write { path, source })?;
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
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inline(id: &str, worker: &str) -> Inline {
        Inline {
            manifest: json!({"id": id, "version": "1.0.0", "entrypoints": {"worker": worker}}),
            worker: "process.stdin.resume();\n".into(),
        }
    }

    #[test]
    fn one_file_is_laid_out_as_a_package_with_a_lock() {
        let tree = tempfile::tempdir().unwrap();
        let lock = inline("acme.greeter", "./dist/worker.js")
            .lay_out(tree.path())
            .unwrap();
        let folder = tree.path().join("node_modules/acme.greeter");
        let worker = fs::read_to_string(folder.join("dist/worker.js")).unwrap();
        assert_eq!(worker, "process.stdin.resume();\n");
        assert!(folder.join("plugin-manifest.js").is_file());
        let again = tempfile::tempdir().unwrap();
        let same = inline("acme.greeter", "./dist/worker.js")
            .lay_out(again.path())
            .unwrap();
        assert_eq!(lock.digest(), same.digest());
        let other = Inline {
            worker: "//".into(),
            ..inline("acme.greeter", "./dist/worker.js")
        };
        assert_ne!(lock.digest(), other.lay_out(again.path()).unwrap().digest());
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
            let error = inline("acme.greeter", worker)
                .lay_out(tree.path())
                .unwrap_err();
            assert!(
                error.to_string().contains("entrypoints.worker"),
                "{worker}: {error}"
            );
        }
        for id in ["../x", "A b", "", "a/b"] {
            let error = inline(id, "worker.js").lay_out(tree.path()).unwrap_err();
            assert!(error.to_string().contains("`id`"), "{id}: {error}");
        }
        assert_eq!(fs::read_dir(tree.path()).unwrap().count(), 0);
    }
}
