//! The plugin as its artifact folder describes it.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Component, Path, PathBuf},
};

use bytes::Bytes;
use paperclip_artifact_format::{marker, names, platform::Platform};
use serde::{Deserialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};

/// A plugin as it lies in the artifact folder.
#[derive(Clone, Debug)]
pub struct Package {
    /// The plugin manifest, byte for byte.
    pub manifest_json: Bytes,
    /// The version of the protocol that the worker speaks.
    pub api_version: u32,
    /// The declared capabilities: the grant.
    pub capabilities: BTreeSet<String>,
    /// Name of the plugin's database namespace, when it declares one.
    pub database_namespace: Option<String>,
    /// Folder of the package; the worker starts there.
    pub directory: PathBuf,
    /// The worker's entry file.
    pub worker: PathBuf,
}

/// Why the artifact folder is unusable.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// A file is missing.
    #[error("reading {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("parsing {path}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// The parser's error.
        source: serde_json::Error,
    },
    /// A path leads out of the artifact.
    #[error("finding the worker: `{0}` leads out of the artifact")]
    Escape(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    id: String,
    api_version: u32,
    #[serde(default)]
    capabilities: BTreeSet<String>,
    entrypoints: Entrypoints,
    #[serde(default)]
    database: Option<Database>,
}

#[derive(Deserialize)]
struct Entrypoints {
    worker: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Database {
    #[serde(default)]
    namespace_slug: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Artifact {
    package_dir: String,
}

impl Package {
    /// Reads the facts of an artifact.
    pub fn read(folder: &Path) -> Result<Self, PackageError> {
        let (manifest, manifest_json): (Manifest, _) =
            json(&folder.join(names::fact(names::PLUGIN_MANIFEST)))?;
        let (artifact, _): (Artifact, _) = json(&folder.join(names::fact(names::ARTIFACT)))?;
        let directory = inside(folder, &artifact.package_dir)?;
        let worker = inside(&directory, &manifest.entrypoints.worker)?;
        let database_namespace = manifest
            .database
            .map(|database| database_namespace(&manifest.id, database.namespace_slug.as_deref()));
        Ok(Self {
            manifest_json,
            api_version: manifest.api_version,
            capabilities: manifest.capabilities,
            database_namespace,
            directory,
            worker,
        })
    }
}

/// The marker that this node's tree must have, by the marker of the artifact. Where there is
/// none for its CPU it is the whole, which no tree has.
#[must_use]
pub fn marker_of_this_node(marker: &str) -> &str {
    let platform = Platform::here();
    let found = platform.and_then(|platform| marker::of_platform(marker, &platform));
    found.unwrap_or(marker)
}

fn json<T: DeserializeOwned>(path: &Path) -> Result<(T, Bytes), PackageError> {
    let bytes = fs::read(path).map_err(|source| PackageError::Read {
        path: path.to_owned(),
        source,
    })?;
    let parsed = serde_json::from_slice(&bytes).map_err(|source| PackageError::Parse {
        path: path.to_owned(),
        source,
    })?;
    Ok((parsed, bytes.into()))
}

/// Joins a relative path that stays below the folder.
fn inside(folder: &Path, relative: &str) -> Result<PathBuf, PackageError> {
    let stays = Path::new(relative)
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !stays {
        return Err(PackageError::Escape(relative.to_owned()));
    }
    Ok(folder.join(relative).components().collect())
}

/// The host's formula: `plugin_<slug>_<10 hex of sha256(key)>`, slug at most 36, all at most 63.
fn database_namespace(key: &str, declared: Option<&str>) -> String {
    let slug = declared.map_or_else(|| slug(key), str::to_owned);
    let slug: String = slug.chars().take(36).collect();
    let hash = hex::encode(Sha256::digest(key.as_bytes()));
    let name = format!("plugin_{slug}_{}", &hash[..10]);
    name.chars().take(63).collect()
}

/// Lower case, with every run of other characters turned into one underscore.
fn slug(key: &str) -> String {
    let mut slug = String::new();
    for character in key.to_lowercase().chars() {
        if character.is_ascii_alphanumeric() {
            slug.push(character);
        } else if !slug.ends_with('_') {
            slug.push('_');
        }
    }
    slug.trim_matches('_').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_namespace_follows_the_hosts_formula() {
        let name = database_namespace("Acme.x--y", None);
        assert!(name.starts_with("plugin_acme_x_y_"), "{name}");
        assert_eq!(name.len(), "plugin_acme_x_y_".len() + 10);
    }

    #[test]
    fn a_tree_for_another_cpu_alone_is_never_the_one_that_is_wanted() {
        let here = Platform::here().unwrap();
        let both = format!("linux/other=1,{here}=2");
        assert_eq!(marker_of_this_node(&both), "2");
        assert_eq!(marker_of_this_node("3"), "3");
        assert_eq!(marker_of_this_node("linux/other=1"), "linux/other=1");
    }

    #[test]
    fn an_entry_point_outside_the_package_is_refused() {
        assert!(inside(Path::new("/a"), "../b.js").is_err());
        assert!(inside(Path::new("/a"), "/b.js").is_err());
        assert_eq!(
            inside(Path::new("/a"), "./dist/worker.js").unwrap(),
            Path::new("/a/dist/worker.js")
        );
    }
}
