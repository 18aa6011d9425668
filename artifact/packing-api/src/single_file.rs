//! A plugin that is one file: the text of the worker, and the plugin manifest beside it. It is
//! laid out as the package that npm would have installed, so everything after it is the same.

use std::{
    collections::BTreeMap,
    path::{Component, Path, PathBuf},
};

use paperclip_oci::canonical;
use paperclip_plugin_manifest::ManifestError;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::naming;

/// File of the laid out package that holds the plugin manifest.
const MANIFEST: &str = "plugin-manifest.js";

/// A worker of one file, which depends on nothing.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SingleFile {
    /// The whole plugin manifest.
    pub manifest: Value,
    /// Text of the worker file.
    pub worker: String,
}

/// Why one file is no package.
#[derive(Debug, thiserror::Error)]
pub enum SingleFileError {
    /// A field that the layout needs.
    #[error("the plugin manifest: `{field}` is {found}, wanted {wanted}")]
    Field {
        /// Path of the field.
        field: &'static str,
        /// The value found.
        found: String,
        /// The rule.
        wanted: &'static str,
    },
    /// A rule of Paperclip's for plugin manifests.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

impl SingleFile {
    /// Name of the package: the plugin's id.
    ///
    /// # Errors
    /// When the id is missing or npm would not install a package of that name.
    pub fn package(&self) -> Result<&str, SingleFileError> {
        let wanted = "an id that can be the name of a package, such as acme.greeter";
        self.field("id", &self.manifest["id"], naming::is_package_name, wanted)
    }

    /// Version of the package: the plugin's.
    ///
    /// # Errors
    /// When it is missing or not exact.
    pub fn version(&self) -> Result<&str, SingleFileError> {
        let is_version = |text: &str| semver::Version::parse(text).is_ok();
        let wanted = "an exact version such as 1.2.3";
        self.field("version", &self.manifest["version"], is_version, wanted)
    }

    /// Checks the plugin manifest by Paperclip's rules, and what the layout needs of it.
    ///
    /// # Errors
    /// Names the first field that breaks its rule.
    pub fn check(&self) -> Result<(), SingleFileError> {
        self.files()?;
        Ok(paperclip_plugin_manifest::validate(&self.manifest)?)
    }

    /// Path of the worker file in the package.
    fn worker_path(&self) -> Result<&Path, SingleFileError> {
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
            return Err(SingleFileError::Field {
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
    ) -> Result<&'a str, SingleFileError> {
        match found.as_str() {
            Some(text) if holds(text) => Ok(text),
            _ => Err(SingleFileError::Field {
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
    ///
    /// # Errors
    /// When the plugin manifest lacks what the layout needs.
    pub fn files(&self) -> Result<BTreeMap<PathBuf, Vec<u8>>, SingleFileError> {
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
}
