//! What a registry says of a package before npm is asked to resolve it: whether the version is
//! there, what its tarball must be, and which of Paperclip's packages it wants beside it.
//!
//! npm could tell it as well, and takes most of a second for every question.

use nodejs_semver::{Range, Version};
use paperclip_artifact::integrity;
use paperclip_artifact::lock::{self, MissingPeer};
use reqwest::StatusCode;

use crate::npm::error::InstallError;
use crate::npm::packument::{Document, Release};
use crate::npm::registry::{FetchError, RegistryClient};

/// The newest plugin SDK this release knows: peers of Paperclip are brought in at most at it.
pub const SDK_VERSION: &str = "2026.916.1";

/// Scope of the packages that [`SDK_VERSION`] bounds.
const PAPERCLIP_SCOPE: &str = "@paperclipai/";

/// Most characters of a version that are shown; those of npm have at most 256.
const MAX_SHOWN: usize = 100;

/// An exact version of a package.
#[derive(Debug)]
pub struct Found {
    /// npm's integrity of its tarball; it holds a SHA-512.
    pub integrity: String,
    /// Paperclip's packages that it wants beside it and does not bring.
    pub peers: Vec<MissingPeer>,
}

/// Asks for an exact version.
///
/// # Errors
/// When the version is not there, has no SHA-512, depends on what is in no registry, or the
/// registry does not answer.
pub async fn exact(
    client: &RegistryClient,
    package: &str,
    version: &str,
) -> Result<Found, InstallError> {
    let spec = format!("{package}@{version}");
    let action = format!("look up {spec}");
    let document = document(client, package, &spec, &action).await?;
    read(&document, package, version)
}

/// Judges what a document says of an exact version.
///
/// # Errors
/// As [`exact`], whose document is there.
pub fn read(document: &Document, package: &str, version: &str) -> Result<Found, InstallError> {
    let spec = format!("{package}@{version}");
    let refused = |message: String| InstallError::Refused {
        action: format!("look up {spec}"),
        message,
    };
    let release = document
        .release(version)
        .map_err(|e| refused(format!("its metadata cannot be read: {e}")))?
        .ok_or_else(|| InstallError::VersionNotFound {
            package: spec.clone(),
            message: not_among(version, document),
        })?;
    for specs in [&release.dependencies, &release.optional_dependencies] {
        if let Some(message) = lock::foreign_spec(specs) {
            return Err(refused(message));
        }
    }
    let peers = peers(package, &release);
    match release.dist.integrity {
        Some(integrity) if integrity::sha512(&integrity).is_some() => {
            Ok(Found { integrity, peers })
        }
        _ => Err(refused("it has no sha512 integrity".into())),
    }
}

/// What to put into the root for a peer: an exact version of Paperclip's own, else the range.
///
/// # Errors
/// When no version within the range is known to this release, or the registry does not answer.
pub async fn choose_peer(
    client: &RegistryClient,
    peer: &MissingPeer,
) -> Result<String, InstallError> {
    let MissingPeer {
        name,
        range,
        wanted_by,
    } = peer;
    if !name.starts_with(PAPERCLIP_SCOPE) {
        return Ok(range.clone());
    }
    let action = format!("find the versions of {name}, a peer of {wanted_by}");
    let document = document(client, name, name, &action).await?;
    newest_within(range, document.versions()).ok_or_else(|| InstallError::Refused {
        action: format!("bring in {name}@{range}, a peer of {wanted_by}"),
        message: format!("no version of it is at most {SDK_VERSION}, the SDK of this release"),
    })
}

async fn document(
    client: &RegistryClient,
    package: &str,
    spec: &str,
    action: &str,
) -> Result<Document, InstallError> {
    let text = client.metadata(package).await.map_err(|source| {
        let status = match &source {
            FetchError::Status { status, .. } => Some(*status),
            _ => None,
        };
        match status {
            Some(StatusCode::NOT_FOUND | StatusCode::GONE) => InstallError::PackageNotFound {
                package: spec.to_owned(),
                message: source.to_string(),
            },
            _ => InstallError::Fetch {
                action: action.to_owned(),
                source,
            },
        }
    })?;
    Document::parse(&text).map_err(|e| InstallError::Refused {
        action: action.to_owned(),
        message: format!("its metadata cannot be read: {e}"),
    })
}

/// Of a package's own peers those that are always to be brought in; further ones show in the
/// tree that npm resolves.
fn peers(package: &str, release: &Release) -> Vec<MissingPeer> {
    let brings = |name: &String| {
        release.dependencies.contains_key(name) || release.optional_dependencies.contains_key(name)
    };
    let wanted = release.peer_dependencies.iter().filter(|(name, _)| {
        name.starts_with(PAPERCLIP_SCOPE)
            && lock::is_needed_peer(name, &release.peer_dependencies_meta)
            && !brings(name)
    });
    let missing = wanted.map(|(name, range)| MissingPeer {
        name: name.clone(),
        range: range.clone(),
        wanted_by: format!("node_modules/{package}"),
    });
    missing.collect()
}

fn not_among(version: &str, document: &Document) -> String {
    let others = document.versions().filter_map(|v| Version::parse(v).ok());
    let newest = others.max().map_or_else(
        || "it has none".to_owned(),
        |newest| {
            let newest: String = newest.to_string().chars().take(MAX_SHOWN).collect();
            format!("the newest is {newest}")
        },
    );
    format!("No match found for version {version}: {newest}")
}

/// The newest version within a range that is at most [`SDK_VERSION`].
fn newest_within<'a>(range: &str, versions: impl Iterator<Item = &'a str>) -> Option<String> {
    let range = Range::parse(range).ok()?;
    let bound = Version::parse(SDK_VERSION).ok()?;
    let fitting = versions
        .filter_map(|version| Version::parse(version).ok())
        .filter(|version| *version <= bound && version.satisfies(&range));
    fitting.max().map(|version| version.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn peer_of_paperclip_is_the_newest_that_this_release_knows() {
        let chosen = |range: &str| {
            let versions = [
                "2026.318.0",
                "2026.916.1",
                "2026.917.0",
                "2026.916.1-canary.2",
            ];
            newest_within(range, versions.into_iter())
        };
        assert_eq!(chosen(">=2026.318.0").as_deref(), Some("2026.916.1"));
        assert_eq!(chosen("<2026.400.0").as_deref(), Some("2026.318.0"));
        assert_eq!(chosen(">=2026.917.0"), None);
    }

    #[test]
    fn peers_of_a_package_are_paperclips_that_it_does_not_bring() {
        let release = json!({
            "dependencies": { "@paperclipai/own": "1" },
            "peerDependencies": {
                "@paperclipai/plugin-sdk": ">=1", "@paperclipai/own": "1",
                "@paperclipai/nice": "1", "react": "19",
            },
            "peerDependenciesMeta": { "@paperclipai/nice": { "optional": true } },
        });
        let release: Release = serde_json::from_value(release).unwrap();
        let names: Vec<_> = peers("p", &release).into_iter().map(|p| p.name).collect();
        assert_eq!(names, ["@paperclipai/plugin-sdk"]);
    }

    #[test]
    fn a_version_that_is_not_there_is_told_with_the_newest_that_is() {
        let document = json!({"versions": {"1.9.0": {}, "1.10.0": 7, "nonsense": {}}});
        let document = Document::parse(document.to_string().as_bytes()).unwrap();
        assert_eq!(
            not_among("9.9.9", &document),
            "No match found for version 9.9.9: the newest is 1.10.0"
        );
        assert!(document.release("1.9.0").unwrap().is_some());
        assert!(document.release("1.10.0").is_err());
    }
}
