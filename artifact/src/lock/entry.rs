//! One entry of a lock, and the rules for it.

use std::collections::BTreeMap;

use paperclip_artifact_format::platform::Platform;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::integrity::sha512;
use crate::lock::error::LockError;

/// What this crate reads of an entry.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Entry {
    /// What an alias stands for.
    pub(super) name: Option<String>,
    pub(super) version: Option<String>,
    pub(super) integrity: Option<String>,
    pub(super) resolved: Option<String>,
    pub(super) os: Words,
    pub(super) cpu: Words,
    pub(super) libc: Words,
    pub(super) dependencies: BTreeMap<String, String>,
    pub(super) optional_dependencies: BTreeMap<String, String>,
    pub(super) peer_dependencies: BTreeMap<String, String>,
    pub(super) peer_dependencies_meta: BTreeMap<String, PeerMeta>,
    pub(super) optional: bool,
    pub(super) dev: bool,
    pub(super) link: bool,
    pub(super) in_bundle: bool,
    pub(super) peer: bool,
}

impl Entry {
    pub(super) fn fits(&self, platform: &Platform) -> bool {
        let Platform { os, cpu, libc } = platform;
        self.os.fit(os) && self.cpu.fit(cpu) && self.libc.fit(libc)
    }
}

/// A word or a list of words, as npm lets authors write it.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Words {
    One(String),
    Many(Vec<String>),
}

impl Default for Words {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl Words {
    /// Whether a system is meant, by npm's rule: `!word` excludes, and a list of nothing but
    /// exclusions means the rest.
    fn fit(&self, system: &str) -> bool {
        let words = match self {
            Self::One(word) => std::slice::from_ref(word),
            Self::Many(words) => words,
        };
        let mut excluded = words.iter().filter_map(|word| word.strip_prefix('!'));
        let only_excludes = words.iter().all(|word| word.starts_with('!'));
        !excluded.any(|word| word == system)
            && (only_excludes || words.iter().any(|word| word == system || word == "any"))
    }
}

/// What a package says of a peer of its.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct PeerMeta {
    pub(super) optional: bool,
}

pub(super) fn parse_entry(path: &str, fields: &Map<String, Value>) -> Result<Entry, LockError> {
    serde_json::from_value(Value::Object(fields.clone())).map_err(|e| refuse(path, e.to_string()))
}

pub(super) fn refuse(path: &str, why: impl Into<String>) -> LockError {
    let entry = path
        .chars()
        .take(300)
        .flat_map(char::escape_default)
        .collect();
    LockError::Entry {
        entry,
        why: why.into(),
    }
}

pub(super) fn check_entry(path: &str, entry: &Entry) -> Result<(), LockError> {
    if entry.link {
        return Err(refuse(path, "it is a link to a folder"));
    }
    let names = path
        .strip_prefix("node_modules/")
        .map(|rest| rest.split("/node_modules/"));
    if !names.is_some_and(|mut names| names.all(is_installable_name)) {
        return Err(refuse(path, "it is no path below node_modules"));
    }
    if let Some(name) = &entry.name
        && !is_installable_name(name)
    {
        let why = format!("it stands for `{name:.214}`, wanted the name of a package");
        return Err(refuse(path, why));
    }
    if let Some(resolved) = &entry.resolved
        && !is_web(resolved)
    {
        let why = format!("it comes from `{resolved:.200}`, and only a registry is allowed");
        return Err(refuse(path, why));
    }
    let version = entry.version.as_deref().unwrap_or_default();
    if nodejs_semver::Version::parse(version).is_err() {
        return Err(refuse(
            path,
            format!("its version is `{version:.100}`, wanted one of a registry"),
        ));
    }
    match entry.integrity.as_deref() {
        Some(integrity) if sha512(integrity).is_some() => {}
        None if entry.in_bundle => {}
        Some(integrity) => {
            return Err(refuse(
                path,
                format!("its integrity is `{integrity:.100}`, wanted sha512"),
            ));
        }
        None => return Err(refuse(path, "it has no integrity")),
    }
    check_specs(path, &entry.dependencies)?;
    check_specs(path, &entry.optional_dependencies)
}

/// Whether a package came over http or https, from whichever host: the host is not kept,
/// and what comes from another one has the same SHA-512 or is refused.
fn is_web(resolved: &str) -> bool {
    url::Url::parse(resolved).is_ok_and(|url| matches!(url.scheme(), "http" | "https"))
}

/// A bundled package came in the tarball of one above it, whose integrity covers it.
pub(super) fn check_bundles(entries: &BTreeMap<String, Entry>) -> Result<(), LockError> {
    for (path, _) in entries
        .iter()
        .filter(|(_, entry)| entry.integrity.is_none())
    {
        let mut above = path.as_str();
        let covered = loop {
            match above.rfind("/node_modules/") {
                Some(end) => above = &above[..end],
                None => break false,
            }
            if entries
                .get(above)
                .is_some_and(|entry| entry.integrity.is_some())
            {
                break true;
            }
        };
        if !covered {
            return Err(refuse(
                path,
                "it is bundled in nothing that has an integrity",
            ));
        }
    }
    Ok(())
}

/// Refuses dependencies on anything but a registry, by name.
pub(super) fn check_specs(path: &str, specs: &BTreeMap<String, String>) -> Result<(), LockError> {
    foreign_spec(specs).map_or(Ok(()), |why| Err(refuse(path, why)))
}

/// Says which dependency is on anything but a registry, if one is.
pub fn foreign_spec(specs: &BTreeMap<String, String>) -> Option<String> {
    let is_foreign = |name: &str, spec: &str| {
        let wanted = spec.strip_prefix("npm:").map_or(spec, |alias| {
            alias.rsplit_once('@').map_or("", |(_, range)| range)
        });
        wanted.contains([':', '/', '\\']) || !is_installable_name(name)
    };
    let (name, spec) = specs.iter().find(|(name, spec)| is_foreign(name, spec))?;
    Some(format!(
        "it depends on {name:.214} as `{spec:.200}`, and only a registry is allowed"
    ))
}

/// Whether a name can be a folder below `node_modules`. Old packages have capitals.
pub(super) fn is_installable_name(name: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '~'))
    };
    let body = match name
        .strip_prefix('@')
        .and_then(|scoped| scoped.split_once('/'))
    {
        Some((scope, name)) => is_part(scope) && is_part(name),
        None => is_part(name),
    };
    body && name.len() <= 214 && name != "node_modules"
}
