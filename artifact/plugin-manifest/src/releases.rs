//! The releases of Paperclip that are known, and the additions of each to the rules.
//!
//! Packing takes what any known release takes ([`crate::validate`]). A host is of one release, so
//! where a plugin attaches, [`check`] refuses what that release does not know yet.

use serde_json::Value;

use crate::ManifestError;
use crate::shape::join;

/// A release of Paperclip.
struct Release {
    version: &'static str,
    /// Types of slots that it was the first to take.
    slot_types: &'static [&'static str],
    /// Fields of an environment driver that it was the first to take.
    driver_fields: &'static [&'static str],
}

/// Known releases, the oldest first. Public notes do not say which of the later two brought what
/// came since 2026.916.1; the last one has it for certain.
const RELEASES: [Release; 3] = [
    Release {
        version: "2026.916.1",
        slot_types: &[],
        driver_fields: &[],
    },
    Release {
        version: "2026.1005.0",
        slot_types: &[],
        driver_fields: &[],
    },
    Release {
        version: "2026.1009.0",
        slot_types: &["issueHeaderAction", "appShellOverlay"],
        driver_fields: &["supportsTasks"],
    },
];

/// Why a host of a release does not take a manifest.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseError {
    /// The release is none of those that are known here.
    #[error("Paperclip {0} is no known release")]
    Unknown(String),
    /// The manifest needs a later one.
    #[error("a host of Paperclip {release} does not take it")]
    Later {
        /// The host's release.
        release: String,
        /// The field, and the release that it needs.
        source: ManifestError,
    },
}

/// Checks that a manifest, sound by [`crate::validate`], needs no later release than a host's.
///
/// # Errors
/// Names the first field that does, or the release where that is not known.
pub fn check(manifest: &Value, release: &str) -> Result<(), ReleaseError> {
    let known = RELEASES.iter().position(|one| one.version == release);
    let known = known.ok_or_else(|| ReleaseError::Unknown(release.to_owned()))?;
    let mut later = RELEASES[known + 1..].iter();
    match later.find_map(|later| later.first_used(manifest)) {
        None => Ok(()),
        Some(source) => Err(ReleaseError::Later {
            release: release.to_owned(),
            source,
        }),
    }
}

impl Release {
    /// The first addition of this release that a manifest uses.
    fn first_used(&self, manifest: &Value) -> Option<ManifestError> {
        let wanted = || format!("Paperclip {} or later for it", self.version);
        let slots = entries(&manifest["ui"]["slots"], "ui.slots");
        let slot = slots.into_iter().find_map(|(path, slot)| {
            let kind = slot["type"].as_str()?;
            let is_new = self.slot_types.contains(&kind);
            is_new.then(|| ManifestError::new(&join(&path, "type"), format!("`{kind}`"), wanted()))
        });
        slot.or_else(|| {
            let drivers = entries(&manifest["environmentDrivers"], "environmentDrivers");
            drivers.into_iter().find_map(|(path, driver)| {
                let mut fields = self.driver_fields.iter();
                let field = fields.find(|field| driver.get(**field).is_some())?;
                Some(ManifestError::new(&join(&path, field), "there", wanted()))
            })
        })
    }
}

fn entries<'a>(list: &'a Value, path: &str) -> Vec<(String, &'a Value)> {
    let items = list.as_array().into_iter().flatten().enumerate();
    items
        .map(|(at, item)| (format!("{path}[{at}]"), item))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn additions_of_a_later_release_are_refused_by_an_earlier_one_and_by_name() {
        for (manifest, field) in [
            (
                json!({"ui": {"slots": [{"type": "page"}, {"type": "appShellOverlay"}]}}),
                "ui.slots[1].type",
            ),
            (
                json!({"environmentDrivers": [{"supportsTasks": true}]}),
                "environmentDrivers[0].supportsTasks",
            ),
        ] {
            let Err(ReleaseError::Later { source, .. }) = check(&manifest, "2026.916.1") else {
                panic!("{manifest} is taken");
            };
            assert_eq!(source.field(), field);
            assert!(source.wanted().contains("2026.1009.0"), "{source}");
            assert_eq!(check(&manifest, "2026.1009.0"), Ok(()));
        }
    }

    #[test]
    fn what_every_release_takes_needs_none_and_an_unknown_release_is_named() {
        let manifest = json!({"ui": {"slots": [{"type": "page"}]}, "environmentDrivers": [{}]});
        for release in &RELEASES {
            assert_eq!(check(&manifest, release.version), Ok(()));
        }
        let unknown = check(&manifest, "1.0.0").unwrap_err().to_string();
        assert!(unknown.contains("1.0.0"), "{unknown}");
    }
}
