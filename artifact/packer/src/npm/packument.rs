//! What is read of npm's metadata here: one version of a package, and which versions there are.
//! npm reads the rest.

use std::collections::BTreeMap;

use paperclip_artifact::lock::PeerMeta;
use serde::Deserialize;
use serde_json::value::RawValue;

/// What npm asks for: the document with what an installation needs and no more.
pub const ABBREVIATED: &str =
    "application/vnd.npm.install-v1+json; q=1.0, application/json; q=0.8, */*";

/// The document of a package. Its versions are read when they are asked for: what one of them
/// holds is no concern of who wants another.
#[derive(Debug, Deserialize)]
pub struct Document {
    #[serde(default)]
    versions: BTreeMap<String, Box<RawValue>>,
}

/// One version, as the registry states it. It is text that the registry chose: nothing about
/// it is checked yet.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Release {
    /// Where the tarball is, and what it must be.
    pub dist: Distribution,
    /// Ranges by name.
    pub dependencies: BTreeMap<String, String>,
    /// Ranges by name; the package works without them.
    pub optional_dependencies: BTreeMap<String, String>,
    /// Ranges by name of what others bring.
    pub peer_dependencies: BTreeMap<String, String>,
    /// Which of these may lack.
    pub(crate) peer_dependencies_meta: BTreeMap<String, PeerMeta>,
}

/// The tarball of a version.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Distribution {
    /// Its URL.
    pub tarball: Option<String>,
    /// Its hashes.
    pub integrity: Option<String>,
}

impl Document {
    /// Reads the document of a package.
    ///
    /// # Errors
    /// When it is not JSON in npm's shape.
    pub fn parse(text: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(text)
    }

    /// What it says of a version, if it has that.
    ///
    /// # Errors
    /// When that is not in npm's shape.
    pub fn release(&self, version: &str) -> Result<Option<Release>, serde_json::Error> {
        let release = self.versions.get(version);
        release
            .map(|release| serde_json::from_str(release.get()))
            .transpose()
    }

    /// Every version that it names.
    pub fn versions(&self) -> impl Iterator<Item = &str> {
        self.versions.keys().map(String::as_str)
    }
}
