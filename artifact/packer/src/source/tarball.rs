//! A package whose tarball somebody gives by its URL and SHA-512, and that no registry has.
//!
//! Its own `package.json` becomes the metadata that npm asks for, so everything after the
//! download is the same as for a package of a registry: lock, installation, checks.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use bytes::Bytes;
use flate2::read::GzDecoder;
use paperclip_artifact::{bounded, integrity, limits};
use paperclip_packing_api::naming;
use reqwest::Url;
use serde_json::{Map, Value, json};
use tempfile::NamedTempFile;

use crate::npm::archive::{self, Budget};
use crate::npm::download::{self, TarballError};
use crate::npm::registry::{RegistryClient, readable};

/// Fields of a `package.json` that npm reads when it resolves.
const FIELDS: [&str; 12] = [
    "bin",
    "bundleDependencies",
    "bundledDependencies",
    "cpu",
    "dependencies",
    "deprecated",
    "engines",
    "libc",
    "optionalDependencies",
    "os",
    "peerDependencies",
    "peerDependenciesMeta",
];

/// Why a tarball is no package.
#[derive(Debug, thiserror::Error)]
pub enum TarballSourceError {
    /// It could not be had, is not the one that is wanted, or breaks a rule.
    #[error(transparent)]
    Tarball(#[from] TarballError),
    /// It says no name or version that npm would take.
    #[error("the tarball at {url}: its package.json has the {field} {found}, wanted {wanted}")]
    Field {
        /// Where it is.
        url: String,
        /// The field.
        field: &'static str,
        /// The value found.
        found: String,
        /// The rule.
        wanted: &'static str,
    },
    /// It has no `package.json` that can be read.
    #[error("the tarball at {url} has no package.json that npm would read: {why}")]
    Description {
        /// Where it is.
        url: String,
        /// The fault.
        why: String,
    },
    /// The file could not be read again.
    #[error("cannot read the tarball of {url} again")]
    Read {
        /// Where it came from.
        url: String,
        /// The system's error.
        source: io::Error,
    },
}

/// A tarball that was downloaded, checked against its hash and walked.
#[derive(Debug)]
pub struct PackageTarball {
    /// Name of the package, from its `package.json`.
    pub name: String,
    /// Its exact version.
    pub version: String,
    pub(crate) hash: [u8; 64],
    file: NamedTempFile,
    document: Vec<u8>,
}

impl PackageTarball {
    /// Downloads a tarball into `folder`. It is gone from there with the value.
    ///
    /// # Errors
    /// When it cannot be had, has another hash, breaks a rule of tarballs, or is no package.
    pub async fn download(
        client: &RegistryClient,
        url: &str,
        integrity: &str,
        folder: &Path,
    ) -> Result<Self, TarballSourceError> {
        let (hash, parsed) = match (integrity::sha512(integrity), Url::parse(url)) {
            (Some(hash), Ok(parsed)) => (hash, parsed),
            (None, _) => return Err(field(url, "integrity", &integrity.into(), "`sha512-…`")),
            (_, Err(_)) => return Err(field(url, "url", &url.into(), "an http or https URL")),
        };
        let file = download::download_checked(client, &parsed, &hash, folder).await?;
        let url = readable(&parsed);
        let path = file.path().to_owned();
        let found = tokio::task::spawn_blocking(move || describe(&path, &url)).await;
        let found = found.map_err(|_| TarballError::Interrupted)??;
        let url = readable(&parsed);
        let (name, version) = names(&found.description, &url)?;
        let document = document(&found, &name, &version, integrity, &url);
        Ok(Self {
            name,
            version,
            hash,
            file,
            document,
        })
    }

    /// The client of the registry for its dependencies, which takes it for one of the registry's.
    #[must_use]
    pub fn add_to(&self, client: RegistryClient) -> RegistryClient {
        client.with_document(&self.name, self.document.clone())
    }

    pub(crate) fn read(&self) -> Result<Bytes, TarballError> {
        let path = self.file.path();
        let content = bounded::read(path, limits::TARBALL);
        let content = content.map_err(|source| TarballError::Cache {
            path: path.to_owned(),
            source,
        })?;
        Ok(content.into())
    }
}

/// What a tarball says of itself.
struct Found {
    description: Map<String, Value>,
    has_lock: bool,
}

fn describe(path: &Path, url: &str) -> Result<Found, TarballSourceError> {
    let failed = |source| TarballSourceError::Read {
        url: url.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    archive::check(file, &mut Budget::default())
        .map_err(|broken| TarballError::from(broken.of(url)))?;
    // The walk has shown that no name is there twice and that every size is bounded.
    let file = File::open(path).map_err(failed)?;
    let mut archive = tar::Archive::new(GzDecoder::new(file));
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for entry in archive.entries().map_err(failed)? {
        let mut entry = entry.map_err(failed)?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        // npm drops the first part, whatever it is.
        let name = path.split_once('/').map_or("", |(_, below)| below);
        if matches!(name, "package.json" | "npm-shrinkwrap.json") {
            let limit = limits::PACKAGE_JSON + 1;
            let mut content = Vec::new();
            entry
                .by_ref()
                .take(limit)
                .read_to_end(&mut content)
                .map_err(failed)?;
            files.insert(name.to_owned(), content);
        }
    }
    let unreadable = |why: String| TarballSourceError::Description {
        url: url.to_owned(),
        why,
    };
    let text = files.remove("package.json");
    let text = text.ok_or_else(|| unreadable("it is not there".into()))?;
    if text.len() as u64 > limits::PACKAGE_JSON {
        let limit = limits::PACKAGE_JSON;
        return Err(unreadable(format!(
            "found more than {limit} bytes, wanted at most {limit}"
        )));
    }
    // A byte order mark is what npm takes off.
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text);
    Ok(Found {
        description: serde_json::from_slice(text).map_err(|e| unreadable(e.to_string()))?,
        has_lock: files.contains_key("npm-shrinkwrap.json"),
    })
}

fn names(
    description: &Map<String, Value>,
    url: &str,
) -> Result<(String, String), TarballSourceError> {
    let of = |name: &'static str, holds: &dyn Fn(&str) -> bool, wanted| {
        let found = description.get(name).unwrap_or(&Value::Null);
        match found.as_str() {
            Some(text) if holds(text) => Ok(text.to_owned()),
            _ => Err(field(url, name, found, wanted)),
        }
    };
    let is_version = |text: &str| text.len() <= 256 && semver::Version::parse(text).is_ok();
    Ok((
        of(
            "name",
            &naming::is_package_name,
            "the name of an npm package",
        )?,
        of("version", &is_version, "an exact version such as 1.2.3")?,
    ))
}

fn field(
    url: &str,
    field: &'static str,
    found: &Value,
    wanted: &'static str,
) -> TarballSourceError {
    TarballSourceError::Field {
        url: url.to_owned(),
        field,
        found: found.to_string().chars().take(200).collect(),
        wanted,
    }
}

/// The metadata that a registry would have for a package of this one version.
fn document(found: &Found, name: &str, version: &str, integrity: &str, url: &str) -> Vec<u8> {
    let fields = found.description.iter();
    let fields = fields.filter(|(field, _)| FIELDS.contains(&field.as_str()));
    let mut release: Map<String, Value> = fields
        .map(|(field, value)| (field.clone(), value.clone()))
        .collect();
    release.insert("name".into(), name.into());
    release.insert("version".into(), version.into());
    let dist = json!({ "integrity": integrity, "tarball": url });
    release.insert("dist".into(), dist);
    if found.has_lock {
        release.insert("_hasShrinkwrap".into(), true.into());
    }
    let scripts = found.description.get("scripts").and_then(Value::as_object);
    let runs_on_install = |scripts: &Map<String, Value>| {
        let names = ["preinstall", "install", "postinstall"];
        names.iter().any(|name| scripts.contains_key(*name))
    };
    if scripts.is_some_and(runs_on_install) {
        release.insert("hasInstallScript".into(), true.into());
    }
    let document = json!({
        "name": name,
        "dist-tags": { "latest": version },
        "versions": { version: release },
    });
    document.to_string().into_bytes()
}
