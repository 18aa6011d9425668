//! Where an artifact runs: an operating system, a CPU and a C library, and sets of them.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

const LINUX: &str = "linux";
const GLIBC: &str = "glibc";
/// CPUs that this release packs for, in npm's words and in OCI's.
const CPUS: [(&str, &str); 2] = [("x64", "amd64"), ("arm64", "arm64")];

/// An operating system, a CPU and a C library, in npm's words.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Platform {
    /// npm's `os`.
    pub os: String,
    /// npm's `cpu`.
    pub cpu: String,
    /// npm's `libc`.
    pub libc: String,
}

impl Default for Platform {
    fn default() -> Self {
        Self::of_cpu("x64")
    }
}

impl Platform {
    fn of_cpu(cpu: &str) -> Self {
        Self {
            os: LINUX.into(),
            cpu: cpu.into(),
            libc: GLIBC.into(),
        }
    }

    /// The platform that OCI and Kubernetes name so, if this release packs for it.
    #[must_use]
    pub fn of_oci(os: &str, architecture: &str) -> Option<Self> {
        let known = CPUS.iter().find(|(_, known)| *known == architecture);
        known
            .filter(|_| os == LINUX)
            .map(|(cpu, _)| Self::of_cpu(cpu))
    }

    /// The platform of the image that this program runs in. Worker images have glibc.
    #[must_use]
    pub fn here() -> Option<Self> {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Self::of_oci(std::env::consts::OS, architecture)
    }

    /// The CPU in OCI's words, for the platforms this release packs for.
    #[must_use]
    pub fn oci_architecture(&self) -> Option<&'static str> {
        let known = CPUS.iter().find(|(cpu, _)| *cpu == self.cpu);
        known
            .filter(|_| self.os == LINUX && self.libc == GLIBC)
            .map(|(_, architecture)| *architecture)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { os, cpu, libc } = self;
        match self.oci_architecture() {
            Some(architecture) => write!(formatter, "{os}/{architecture}"),
            None => write!(formatter, "{os}/{cpu}/{libc}"),
        }
    }
}

/// A text that names no platform of this release.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{found}` is no platform that this release packs for, wanted {}",
    Platforms::supported()
)]
pub struct UnknownPlatform {
    found: String,
}

impl FromStr for Platform {
    type Err = UnknownPlatform;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = text
            .split_once('/')
            .and_then(|(os, architecture)| Self::of_oci(os, architecture));
        known.ok_or_else(|| UnknownPlatform {
            found: text.chars().take(100).collect(),
        })
    }
}

impl Ord for Platform {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.to_string().cmp(&other.to_string())
    }
}

impl PartialOrd for Platform {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// A set of platforms, in order of their names.
///
/// One platform is written as itself and several as a list, so that what was asked for before
/// there were sets has the same name now.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(from = "Written", into = "Written")]
pub struct Platforms(BTreeSet<Platform>);

#[derive(Deserialize, Serialize)]
#[serde(untagged)]
enum Written {
    One(Platform),
    Many(Vec<Platform>),
}

impl From<Written> for Platforms {
    fn from(written: Written) -> Self {
        match written {
            Written::One(one) => one.into(),
            Written::Many(many) => many.into_iter().collect(),
        }
    }
}

impl From<Platforms> for Written {
    fn from(Platforms(set): Platforms) -> Self {
        let mut all: Vec<_> = set.into_iter().collect();
        match all.len() {
            1 => Self::One(all.remove(0)),
            _ => Self::Many(all),
        }
    }
}

impl Default for Platforms {
    fn default() -> Self {
        Platform::default().into()
    }
}

impl From<Platform> for Platforms {
    fn from(platform: Platform) -> Self {
        Self(BTreeSet::from([platform]))
    }
}

impl FromIterator<Platform> for Platforms {
    fn from_iter<I: IntoIterator<Item = Platform>>(platforms: I) -> Self {
        Self(platforms.into_iter().collect())
    }
}

impl fmt::Display for Platforms {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.iter().map(Platform::to_string).collect();
        formatter.write_str(&names.join(", "))
    }
}

impl Platforms {
    /// Every platform that this release packs for.
    #[must_use]
    pub fn supported() -> Self {
        CPUS.iter().map(|(cpu, _)| Platform::of_cpu(cpu)).collect()
    }

    /// Each, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Platform> {
        self.0.iter()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this one is among them.
    #[must_use]
    pub fn contains(&self, platform: &Platform) -> bool {
        self.0.contains(platform)
    }

    /// These and those.
    #[must_use]
    pub fn and(&self, others: &Self) -> Self {
        Self(self.0.union(&others.0).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> Platforms {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn one_is_written_as_before_there_were_sets() {
        let one = serde_json::to_string(&Platforms::default()).unwrap();
        assert_eq!(one, r#"{"os":"linux","cpu":"x64","libc":"glibc"}"#);
        let two = set(&["linux/arm64", "linux/amd64"]);
        let text = serde_json::to_string(&two).unwrap();
        assert!(text.starts_with(r#"[{"os":"linux","cpu":"x64""#), "{text}");
        for platforms in [Platforms::default(), two] {
            let text = serde_json::to_string(&platforms).unwrap();
            assert_eq!(serde_json::from_str::<Platforms>(&text).unwrap(), platforms);
        }
    }

    #[test]
    fn platforms_have_the_names_that_nodes_have_and_others_are_refused_by_name() {
        assert_eq!(
            Platforms::supported().to_string(),
            "linux/amd64, linux/arm64"
        );
        for wrong in [
            "amd64",
            "linux/s390x",
            "windows/amd64",
            "linux/amd64/v2",
            "",
        ] {
            let said = wrong.parse::<Platform>().unwrap_err().to_string();
            assert!(said.contains("wanted linux/amd64, linux/arm64"), "{said}");
        }
        let musl = Platform {
            libc: "musl".into(),
            ..Platform::default()
        };
        assert_eq!(
            (musl.oci_architecture(), musl.to_string().as_str()),
            (None, "linux/x64/musl")
        );
    }
}
