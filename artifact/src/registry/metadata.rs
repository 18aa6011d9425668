//! What is read of npm's metadata here: where a version's tarball is. npm reads the rest.

use std::collections::BTreeMap;

use serde::Deserialize;

/// What npm asks for: the document with what an installation needs and no more.
pub const ABBREVIATED: &str =
    "application/vnd.npm.install-v1+json; q=1.0, application/json; q=0.8, */*";

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    versions: BTreeMap<String, Release>,
}

#[derive(Deserialize)]
struct Release {
    dist: Option<Distribution>,
}

#[derive(Deserialize)]
struct Distribution {
    tarball: Option<String>,
}

/// URL of the tarball of a version, as the registry states it. It is a text that the
/// registry chose: nothing about it is checked yet.
///
/// # Errors
/// When the document is not JSON in npm's shape.
pub fn tarball(document: &[u8], version: &str) -> Result<Option<String>, serde_json::Error> {
    let mut document: Document = serde_json::from_slice(document)?;
    let release = document.versions.remove(version);
    Ok(release.and_then(|release| release.dist?.tarball))
}
