//! The versions of the protocol that plugin manifests name as `apiVersion`, and how each differs
//! from the one that hosts and sidecars speak.
//!
//! The table is of the version that is spoken. A worker of another version is translated to it at
//! its pipes, so that nothing else knows of versions; a worker of the spoken one is not translated
//! at all. A new version is one more [`Version`] in [`OFFERED`].

use super::{Direction, all};

/// The version that hosts and sidecars speak, which the table is of.
pub const SPOKEN: u32 = 1;

/// Every version that is served, the lowest first.
pub const OFFERED: &[Version] = &[Version {
    number: SPOKEN,
    since: "0.1.0",
    changes: &[],
}];

/// A version of the protocol.
#[derive(Debug, PartialEq, Eq)]
pub struct Version {
    /// The manifest's `apiVersion`.
    pub number: u32,
    /// The first release of the sidecar that serves workers of it.
    pub since: &'static str,
    /// How it differs from the version that is spoken.
    pub changes: &'static [Change],
}

/// A difference between a version and the one that is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A method has another name.
    Renamed {
        /// Its name in the table.
        method: &'static str,
        /// Its name in this version.
        to: &'static str,
    },
    /// A member stands elsewhere.
    Moved {
        /// The method's name in the table.
        method: &'static str,
        /// Where the member is.
        part: Part,
        /// Its path as spoken, names joined by dots.
        from: &'static str,
        /// Its path in this version.
        to: &'static str,
    },
    /// An error has another code.
    Code {
        /// The code as spoken.
        from: i32,
        /// The code in this version.
        to: i32,
    },
}

/// A part of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// What it is asked with.
    Params,
    /// What it is answered with.
    Result,
}

/// A method as one version has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Supported {
    /// Its name in that version.
    pub name: &'static str,
    /// Its name in the table.
    pub spoken: &'static str,
    /// Who speaks.
    pub direction: Direction,
    /// What the manifest must declare for it.
    pub capability: Option<&'static str>,
    /// The first release that serves it in that version.
    pub since: &'static str,
}

/// A version that is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the plugin manifest says apiVersion {0}, wanted {wanted}", wanted = wanted())]
pub struct Unsupported(pub u32);

fn wanted() -> String {
    let numbers: Vec<String> = OFFERED.iter().map(|one| one.number.to_string()).collect();
    numbers.join(" or ")
}

/// The version that a manifest names.
pub fn offered(number: u32) -> Result<&'static Version, Unsupported> {
    let found = OFFERED.iter().find(|version| version.number == number);
    found.ok_or(Unsupported(number))
}

/// The version that hosts and sidecars speak.
#[must_use]
pub fn spoken() -> &'static Version {
    &OFFERED[0]
}

impl Version {
    /// The methods of this version, in the order of the table.
    pub fn methods(&self) -> impl Iterator<Item = Supported> {
        all().map(|method| Supported {
            name: self.renamed(method.name).unwrap_or(method.name),
            spoken: method.name,
            direction: method.direction,
            capability: method.capability,
            since: later(method.since, self.since),
        })
    }

    /// This version's own name for a method of the table.
    #[must_use]
    pub fn renamed(&self, spoken: &str) -> Option<&'static str> {
        self.changes.iter().find_map(|change| match change {
            Change::Renamed { method, to } if *method == spoken => Some(*to),
            _ => None,
        })
    }

    /// The table's name for a method that this version calls otherwise.
    #[must_use]
    pub fn spoken_name(&self, renamed: &str) -> Option<&'static str> {
        self.changes.iter().find_map(|change| match change {
            Change::Renamed { method, to } if *to == renamed => Some(*method),
            _ => None,
        })
    }
}

/// The later of two releases.
fn later(one: &'static str, other: &'static str) -> &'static str {
    let numbers = |release: &str| -> Vec<u64> {
        let parts = release.split('.').map(str::parse);
        parts.map(Result::unwrap_or_default).collect()
    };
    if numbers(other) > numbers(one) {
        other
    } else {
        one
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nobody offers it.
    const MADE_UP: Version = Version {
        number: 2,
        since: "0.10.0",
        changes: &[Change::Renamed {
            method: "runJob",
            to: "jobs.run",
        }],
    };

    #[test]
    fn the_spoken_version_is_offered_and_changes_nothing() {
        assert_eq!(offered(SPOKEN), Ok(spoken()));
        assert_eq!(spoken().number, SPOKEN);
        assert!(spoken().changes.is_empty());
    }

    #[test]
    fn another_version_is_refused_with_what_is_supported() {
        let refusal = offered(MADE_UP.number).unwrap_err().to_string();
        assert_eq!(refusal, "the plugin manifest says apiVersion 2, wanted 1");
    }

    #[test]
    fn a_version_has_every_method_under_its_own_name() {
        let methods: Vec<Supported> = MADE_UP.methods().collect();
        assert_eq!(methods.len(), all().count());
        let renamed = methods.iter().find(|one| one.spoken == "runJob");
        assert_eq!(renamed.map(|one| one.name), Some("jobs.run"));
        assert!(methods.iter().all(|one| one.since == "0.10.0"));
        assert_eq!(MADE_UP.spoken_name("jobs.run"), Some("runJob"));
        assert_eq!(MADE_UP.spoken_name("runJob"), None);
    }

    #[test]
    fn releases_are_compared_as_numbers() {
        assert_eq!(later("0.9.0", "0.10.0"), "0.10.0");
        assert_eq!(later("1.0.0", "0.10.0"), "1.0.0");
    }
}
