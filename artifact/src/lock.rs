//! The lock of a dependency tree: npm's `package-lock.json`, checked and brought to one spelling.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use base64::Engine as _;
use paperclip_artifact_format::platform::{Platform, Platforms};
use paperclip_oci::canonical;
use paperclip_oci::digest::Digest;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::limits;

/// Name and version of the root that npm installs into.
const ROOT_NAME: &str = "paperclip-artifact";
const ROOT_VERSION: &str = "0.0.0";

/// Peers that only a browser needs: the worker runs without them.
const UI_ONLY: [&str; 4] = ["react", "react-dom", "react-is", "react-router-dom"];

/// Why a lock is refused.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Not JSON, or not of npm's third lock version.
    #[error("the lock is no package-lock.json of version 3: {0}")]
    Format(String),
    /// It is for something else.
    #[error("the lock is not for {package}@{version}: {why}")]
    Root {
        /// The package wanted.
        package: String,
        /// The version wanted.
        version: String,
        /// How it differs.
        why: String,
    },
    /// One entry breaks a rule.
    #[error("the lock's entry `{entry}` is refused: {why}")]
    Entry {
        /// Path of the entry.
        entry: String,
        /// The rule.
        why: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    lockfile_version: u32,
    packages: BTreeMap<String, Map<String, Value>>,
}

/// What this crate reads of an entry.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Entry {
    /// What an alias stands for.
    name: Option<String>,
    version: Option<String>,
    integrity: Option<String>,
    resolved: Option<String>,
    os: Words,
    cpu: Words,
    libc: Words,
    dependencies: BTreeMap<String, String>,
    optional_dependencies: BTreeMap<String, String>,
    peer_dependencies: BTreeMap<String, String>,
    peer_dependencies_meta: BTreeMap<String, PeerMeta>,
    optional: bool,
    dev: bool,
    link: bool,
    in_bundle: bool,
    peer: bool,
}

impl Entry {
    fn fits(&self, platform: &Platform) -> bool {
        let Platform { os, cpu, libc } = platform;
        self.os.fit(os) && self.cpu.fit(cpu) && self.libc.fit(libc)
    }
}

/// A word or a list of words, as npm lets authors write it.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Words {
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
    optional: bool,
}

/// A peer that a package of the tree needs and the tree lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingPeer {
    /// Name of the peer.
    pub name: String,
    /// Range wanted.
    pub range: String,
    /// Path of the package that wants it.
    pub wanted_by: String,
}

/// A package as a lock names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Locked<'a> {
    /// Where it is installed, as in `node_modules/a/node_modules/b`.
    pub path: &'a str,
    /// Its name, which may be another than the path's where it is installed under an alias.
    pub name: &'a str,
    /// Its version.
    pub version: &'a str,
    /// Its SHA-512; none where it came inside the tarball of a package above it.
    pub sha512: Option<[u8; 64]>,
    /// Whether it may be missing.
    pub optional: bool,
}

/// A tarball that an installation unpacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tarball<'a> {
    /// Path in the lock.
    pub path: &'a str,
    /// Name in the registry.
    pub name: &'a str,
    /// Version in the registry.
    pub version: &'a str,
    /// SHA-512 of its bytes.
    pub hash: [u8; 64],
}

/// A checked lock. Its bytes hold no URL, so they say nothing of the registry.
#[derive(Clone, Debug)]
pub struct Lock {
    bytes: Vec<u8>,
    root: BTreeMap<String, String>,
    entries: BTreeMap<String, Entry>,
}

impl Lock {
    /// Reads a lock for one package and version.
    ///
    /// # Errors
    /// When it is not of version 3, is for something else, names an entry without SHA-512
    /// integrity, or has a dependency that is not from a registry.
    pub fn parse(text: &[u8], package: &str, version: &str) -> Result<Self, LockError> {
        if text.len() as u64 > limits::LOCK {
            return Err(LockError::Format(format!(
                "more than {} bytes",
                limits::LOCK
            )));
        }
        let file: File =
            serde_json::from_slice(text).map_err(|e| LockError::Format(e.to_string()))?;
        if file.lockfile_version != 3 {
            return Err(LockError::Format(format!(
                "its lockfileVersion is {}",
                file.lockfile_version
            )));
        }
        if file.packages.len() > limits::LOCK_ENTRIES {
            return Err(LockError::Format(format!(
                "more than {} entries",
                limits::LOCK_ENTRIES
            )));
        }
        let root = parse_root(&file, package, version)?;
        let mut entries = BTreeMap::new();
        let mut kept = Map::new();
        for (path, mut fields) in file.packages {
            let entry = parse_entry(&path, &fields)?;
            if path.is_empty() || entry.dev {
                continue;
            }
            check_entry(&path, &entry)?;
            fields.remove("resolved");
            kept.insert(path.clone(), Value::Object(fields));
            entries.insert(path, entry);
        }
        check_bundles(&entries)?;
        let lock = Self {
            bytes: spell(&root, kept),
            root,
            entries,
        };
        match lock.entries.get(&format!("node_modules/{package}")) {
            Some(entry) if entry.version.as_deref() == Some(version) => Ok(lock),
            _ => Err(wrong_root(
                package,
                version,
                "it installs another version at the top",
            )),
        }
    }

    /// The lock in its one spelling.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Digest of [`Self::bytes`].
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.bytes)
    }

    /// Number of packages.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the lock names no package; a checked lock never is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The `package.json` that this lock belongs to.
    #[must_use]
    pub fn package_json(&self) -> Vec<u8> {
        package_json(&self.root)
    }

    /// Integrity of a package at the top of the tree.
    #[must_use]
    pub fn integrity(&self, package: &str) -> Option<&str> {
        self.entries
            .get(&format!("node_modules/{package}"))?
            .integrity
            .as_deref()
    }

    /// Whether npm chose peers by itself when it made this lock, as it does unless told
    /// otherwise; it must then do so again when it installs from it.
    #[must_use]
    pub fn has_peers_of_npm(&self) -> bool {
        self.entries.values().any(|entry| entry.peer)
    }

    /// Path, version and whether it may be missing, for every package.
    pub fn packages(&self) -> impl Iterator<Item = (&str, &str, bool)> {
        self.entries.iter().map(|(path, entry)| {
            (
                path.as_str(),
                entry.version.as_deref().unwrap_or_default(),
                entry.optional,
            )
        })
    }

    /// Every package, in order of the paths.
    pub fn locked(&self) -> impl Iterator<Item = Locked<'_>> {
        self.entries.iter().map(|(path, entry)| Locked {
            path,
            name: entry.name.as_deref().unwrap_or_else(|| {
                let start = path
                    .rfind("node_modules/")
                    .map(|at| at + "node_modules/".len());
                &path[start.unwrap_or_default()..]
            }),
            version: entry.version.as_deref().unwrap_or_default(),
            sha512: entry.integrity.as_deref().and_then(sha512),
            optional: entry.optional,
        })
    }

    /// Paths of the packages that the root depends on.
    #[must_use]
    pub fn top(&self) -> BTreeSet<&str> {
        let wanted = self.root.keys();
        wanted.filter_map(|name| self.resolve("", name)).collect()
    }

    /// Paths of the packages that the one at `path` loads as its dependencies, peers among
    /// them. What it wants and Node would not find is left out.
    #[must_use]
    pub fn dependencies(&self, path: &str) -> BTreeSet<&str> {
        let Some(entry) = self.entries.get(path) else {
            return BTreeSet::new();
        };
        let wanted = [
            &entry.dependencies,
            &entry.optional_dependencies,
            &entry.peer_dependencies,
        ];
        let names = wanted.into_iter().flat_map(BTreeMap::keys);
        names.filter_map(|name| self.resolve(path, name)).collect()
    }

    /// Path and integrity of every package that is a tarball of its own.
    pub fn integrities(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries
            .iter()
            .filter_map(|(path, entry)| Some((path.as_str(), entry.integrity.as_deref()?)))
    }

    /// The tarballs that an installation on this platform may unpack.
    pub fn tarballs<'a>(&'a self, platform: &'a Platform) -> impl Iterator<Item = Tarball<'a>> {
        self.entries.iter().filter_map(move |(path, entry)| {
            // npm leaves out what is optional and for another platform, and refuses the rest.
            if entry.optional && !entry.fits(platform) {
                return None;
            }
            let in_tree = path.rsplit("node_modules/").next().unwrap_or(path);
            Some(Tarball {
                path,
                name: entry.name.as_deref().unwrap_or(in_tree),
                version: entry.version.as_deref().unwrap_or_default(),
                hash: sha512(entry.integrity.as_deref()?)?,
            })
        })
    }

    /// Platforms for which npm makes one and the same tree, since each package fits all of them
    /// or none; in order.
    #[must_use]
    pub fn variants(&self, platforms: &Platforms) -> Vec<Vec<Platform>> {
        let fitting = |platform: &Platform| {
            let fits = self.entries.values().map(|entry| entry.fits(platform));
            fits.collect::<Vec<_>>()
        };
        let mut variants: Vec<(Vec<bool>, Vec<Platform>)> = Vec::new();
        for platform in platforms.iter() {
            let fits = fitting(platform);
            match variants.iter_mut().find(|(known, _)| *known == fits) {
                Some((_, alike)) => alike.push(platform.clone()),
                None => variants.push((fits, vec![platform.clone()])),
            }
        }
        variants.into_iter().map(|(_, alike)| alike).collect()
    }

    /// The first package that must be there and is for other platforms.
    #[must_use]
    pub fn misfit(&self, platform: &Platform) -> Option<&str> {
        let mut entries = self.entries.iter();
        let found = entries.find(|(_, entry)| !entry.optional && !entry.fits(platform));
        found.map(|(path, _)| path.as_str())
    }

    /// The first package of a tree that npm would not have put there on this platform.
    pub(crate) fn foreign<'a>(&'a self, platform: &Platform, tree: &Path) -> Option<&'a str> {
        let foreign = self
            .entries
            .iter()
            .filter(|(_, entry)| !entry.fits(platform));
        let mut there = foreign.filter(|(path, _)| tree.join(path).exists());
        there.next().map(|(path, _)| path.as_str())
    }

    /// Peers to bring in: those a worker needs and cannot find. Optional peers and those
    /// of a user interface are left out.
    #[must_use]
    pub fn missing_peers(&self) -> Vec<MissingPeer> {
        let mut missing: BTreeMap<&str, MissingPeer> = BTreeMap::new();
        for (path, entry) in &self.entries {
            for (name, range) in &entry.peer_dependencies {
                let is_needed = is_needed_peer(name, &entry.peer_dependencies_meta);
                if !is_needed || self.resolves(path, name) {
                    continue;
                }
                let peer = MissingPeer {
                    name: name.clone(),
                    range: range.clone(),
                    wanted_by: path.clone(),
                };
                missing.entry(name).or_insert(peer);
            }
        }
        missing.into_values().collect()
    }

    /// Whether Node finds `name` from the package at `path`.
    fn resolves(&self, path: &str, name: &str) -> bool {
        self.resolve(path, name).is_some()
    }

    /// Path of the package that Node finds for `name` from the package at `path`, which is
    /// empty for the root.
    fn resolve(&self, path: &str, name: &str) -> Option<&str> {
        let key = |path: &str| Some(self.entries.get_key_value(path)?.0.as_str());
        let mut folder = Some(path).filter(|path| !path.is_empty());
        while let Some(at) = folder {
            if let Some(found) = key(&format!("{at}/node_modules/{name}")) {
                return Some(found);
            }
            folder = at.rfind("/node_modules/").map(|end| &at[..end]);
        }
        key(&format!("node_modules/{name}"))
    }
}

/// The `package.json` of a root with these dependencies.
#[must_use]
pub fn package_json(dependencies: &BTreeMap<String, String>) -> Vec<u8> {
    canonical::readable(&json!({
        "name": ROOT_NAME, "version": ROOT_VERSION, "private": true, "dependencies": dependencies,
    }))
}

fn spell(root: &BTreeMap<String, String>, mut packages: Map<String, Value>) -> Vec<u8> {
    let top = json!({ "name": ROOT_NAME, "version": ROOT_VERSION, "dependencies": root });
    packages.insert(String::new(), top);
    canonical::readable(&json!({
        "name": ROOT_NAME, "version": ROOT_VERSION, "lockfileVersion": 3, "requires": true,
        "packages": packages,
    }))
}

fn wrong_root(package: &str, version: &str, why: &str) -> LockError {
    LockError::Root {
        package: package.into(),
        version: version.into(),
        why: why.into(),
    }
}

fn parse_root(
    file: &File,
    package: &str,
    version: &str,
) -> Result<BTreeMap<String, String>, LockError> {
    let fields = file
        .packages
        .get("")
        .ok_or_else(|| wrong_root(package, version, "it has no entry for the root"))?;
    let root = parse_entry("", fields)?;
    check_specs("the root", &root.dependencies)?;
    match root.dependencies.get(package) {
        Some(wanted) if wanted == version => Ok(root.dependencies),
        Some(wanted) => Err(wrong_root(
            package,
            version,
            &format!("its root depends on {package}@{wanted}"),
        )),
        None => Err(wrong_root(
            package,
            version,
            "its root does not depend on it",
        )),
    }
}

fn parse_entry(path: &str, fields: &Map<String, Value>) -> Result<Entry, LockError> {
    serde_json::from_value(Value::Object(fields.clone())).map_err(|e| refuse(path, e.to_string()))
}

fn refuse(path: &str, why: impl Into<String>) -> LockError {
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

fn check_entry(path: &str, entry: &Entry) -> Result<(), LockError> {
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
fn check_bundles(entries: &BTreeMap<String, Entry>) -> Result<(), LockError> {
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
fn check_specs(path: &str, specs: &BTreeMap<String, String>) -> Result<(), LockError> {
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

/// Whether a worker needs this peer: not if it is optional, or of a user interface.
pub fn is_needed_peer(name: &str, meta: &BTreeMap<String, PeerMeta>) -> bool {
    let is_optional = meta.get(name).is_some_and(|meta| meta.optional);
    !is_optional && !is_ui_only(name)
}

fn is_ui_only(name: &str) -> bool {
    UI_ONLY.contains(&name) || name.starts_with("@types/")
}

/// Whether a name can be a folder below `node_modules`. Old packages have capitals.
fn is_installable_name(name: &str) -> bool {
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

/// The SHA-512 of an integrity text. The text may name weaker hashes beside it, which count
/// for nothing, and not a second SHA-512, of which npm would take either.
#[must_use]
pub fn sha512(integrity: &str) -> Option<[u8; 64]> {
    let mut parts = integrity
        .split_ascii_whitespace()
        .filter_map(|part| part.strip_prefix("sha512-"));
    let encoded = parts.next()?.split('?').next()?;
    if parts.next().is_some() {
        return None;
    }
    let decoded = base64::engine::general_purpose::STANDARD.decode(encoded);
    decoded.ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn integrity() -> String {
        format!(
            "sha512-{}",
            base64::engine::general_purpose::STANDARD.encode([7_u8; 64])
        )
    }

    #[test]
    fn dependencies_are_what_node_finds_from_the_package() {
        let lock = with(json!({
            "node_modules/p": {"version": "1.0.0", "integrity": integrity(),
                "dependencies": {"a": "1", "b": "1"}, "peerDependencies": {"absent": "1"}},
            "node_modules/a": {"version": "1.0.0", "integrity": integrity(), "dependencies": {"b": "1"}},
            "node_modules/b": {"version": "1.0.0", "integrity": integrity()},
            "node_modules/a/node_modules/b": {"name": "@x/b", "version": "1.1.0", "integrity": integrity()},
        }))
        .unwrap();
        let paths = |path: &str| Vec::from_iter(lock.dependencies(path));
        assert_eq!(Vec::from_iter(lock.top()), ["node_modules/p"]);
        assert_eq!(
            paths("node_modules/p"),
            ["node_modules/a", "node_modules/b"]
        );
        assert_eq!(paths("node_modules/a"), ["node_modules/a/node_modules/b"]);
        let named = lock.locked().map(|one| (one.path, one.name));
        assert_eq!(
            Vec::from_iter(named),
            [
                ("node_modules/a", "a"),
                ("node_modules/a/node_modules/b", "@x/b"),
                ("node_modules/b", "b"),
                ("node_modules/p", "p"),
            ]
        );
    }

    fn with(entries: Value) -> Result<Lock, LockError> {
        let mut packages = json!({
            "": {"name": "mine", "dependencies": {"p": "1.0.0"}, "devDependencies": {"x": "*"}},
            "node_modules/p": {"version": "1.0.0", "integrity": integrity(), "resolved": "https://r.example/p.tgz"},
        });
        for (path, entry) in entries.as_object().unwrap() {
            packages[path] = entry.clone();
        }
        let lock = json!({"name": "mine", "lockfileVersion": 3, "packages": packages});
        Lock::parse(lock.to_string().as_bytes(), "p", "1.0.0")
    }

    #[test]
    fn spelling_holds_no_url_no_name_of_the_author_and_no_dev_tree() {
        let dev = json!({"node_modules/x": {"version": "1.0.0", "dev": true}});
        let lock = with(dev).unwrap();
        let text = String::from_utf8(lock.bytes().to_vec()).unwrap();
        assert!(
            !text.contains("https") && !text.contains("mine") && !text.contains("node_modules/x")
        );
        let again = Lock::parse(lock.bytes(), "p", "1.0.0").unwrap();
        assert_eq!(again.digest(), lock.digest());
    }

    #[test]
    fn entries_without_sha512_links_and_paths_elsewhere_are_refused() {
        for (path, entry) in [
            ("node_modules/a", json!({"version": "1.0.0"})),
            (
                "node_modules/a",
                json!({"version": "1.0.0", "integrity": "sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk="}),
            ),
            ("node_modules/a", json!({"link": true, "resolved": "../a"})),
            (
                "node_modules/a",
                json!({"version": "git+ssh://git@h/a.git#1", "integrity": integrity()}),
            ),
            (
                "node_modules/a",
                json!({"version": "1.0.0", "inBundle": true}),
            ),
            (
                "../a",
                json!({"version": "1.0.0", "integrity": integrity()}),
            ),
            (
                "node_modules/../../a",
                json!({"version": "1.0.0", "integrity": integrity()}),
            ),
        ] {
            assert!(with(json!({path: entry})).is_err(), "{path} {entry}");
        }
    }

    #[test]
    fn dependencies_on_git_files_and_urls_are_refused_by_name() {
        for spec in [
            "git+https://h/a.git",
            "file:../a",
            "https://h/a.tgz",
            "github:u/r",
            "u/r",
            "link:../a",
            "npm:b@u/r",
        ] {
            let entry = json!({"version": "1.0.0", "integrity": integrity(), "dependencies": {"evil": spec}});
            let error = with(json!({"node_modules/a": entry}))
                .unwrap_err()
                .to_string();
            assert!(error.contains("evil"), "{error}");
        }
        let alias = json!({"version": "1.0.0", "integrity": integrity(), "dependencies": {"b": "npm:@s/c@^1"}});
        assert!(with(json!({"node_modules/a": alias})).is_ok());
    }

    #[test]
    fn entries_that_came_from_elsewhere_than_the_web_are_refused_by_name() {
        for resolved in [
            "git+ssh://git@h/a.git#0123",
            "git://h/a.git",
            "file:../a.tgz",
            "../a",
            "ftp://h/a.tgz",
        ] {
            let entry = json!({"version": "1.0.0", "integrity": integrity(), "resolved": resolved});
            let error = with(json!({"node_modules/a": entry}))
                .unwrap_err()
                .to_string();
            assert!(
                error.contains("node_modules/a") && error.contains(resolved),
                "{error}"
            );
        }
    }

    #[test]
    fn alias_is_fetched_under_the_name_it_stands_for_which_is_checked() {
        let entry =
            |name: &str| json!({"version": "1.0.0", "integrity": integrity(), "name": name});
        let lock = with(json!({"node_modules/b": entry("@s/c")})).unwrap();
        let platform = Platform::default();
        let names: Vec<_> = lock
            .tarballs(&platform)
            .map(|tarball| tarball.name)
            .collect();
        assert_eq!(names, ["@s/c", "p"]);
        for name in ["../c", "@s/../c", "c?x", "node_modules", ""] {
            assert!(
                with(json!({"node_modules/b": entry(name)})).is_err(),
                "{name}"
            );
        }
    }

    #[test]
    fn two_hashes_of_one_strength_are_refused_and_weaker_ones_do_not_matter() {
        let entry = |integrity: String| json!({"version": "1.0.0", "integrity": integrity});
        let one = integrity();
        let two = format!(
            "{one} sha512-{}",
            base64::engine::general_purpose::STANDARD.encode([8_u8; 64])
        );
        assert!(with(json!({"node_modules/a": entry(two)})).is_err());
        let weak = format!("sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk= {one}");
        assert!(with(json!({"node_modules/a": entry(weak)})).is_ok());
    }

    #[test]
    fn optional_packages_of_other_platforms_are_not_fetched() {
        let entry = |fields: Value| {
            let mut entry = json!({"version": "1.0.0", "integrity": integrity(), "optional": true});
            entry
                .as_object_mut()
                .unwrap()
                .extend(fields.as_object().unwrap().clone());
            entry
        };
        let lock = with(json!({
            "node_modules/linux": entry(json!({"os": ["linux"], "cpu": "x64", "libc": ["glibc"]})),
            "node_modules/not-windows": entry(json!({"os": ["!win32"]})),
            "node_modules/any": entry(json!({"os": "any"})),
            "node_modules/mac": entry(json!({"os": ["darwin"]})),
            "node_modules/musl": entry(json!({"libc": ["musl"]})),
            "node_modules/not-linux": entry(json!({"os": ["!linux"]})),
        }))
        .unwrap();
        let platform = Platform::default();
        let names: Vec<_> = lock
            .tarballs(&platform)
            .map(|tarball| tarball.name)
            .collect();
        assert_eq!(names, ["any", "linux", "not-windows", "p"]);
    }

    #[test]
    fn package_that_must_be_there_and_is_for_other_platforms_is_named() {
        let misfit = |optional: bool| {
            let entry = json!({"version": "1.0.0", "integrity": integrity(), "optional": optional, "cpu": ["arm64"]});
            let lock = with(json!({"node_modules/a": entry})).unwrap();
            lock.misfit(&Platform::default()).map(str::to_owned)
        };
        assert_eq!(misfit(false).as_deref(), Some("node_modules/a"));
        assert_eq!(misfit(true), None);
    }

    #[test]
    fn platforms_differ_where_a_package_is_for_one_of_them() {
        let variants = |entry: Value| {
            let whole = json!({"version": "1.0.0", "integrity": integrity(), "optional": true});
            let mut whole = whole.as_object().unwrap().clone();
            whole.extend(entry.as_object().unwrap().clone());
            let lock = with(json!({"node_modules/a": whole})).unwrap();
            lock.variants(&Platforms::supported()).len()
        };
        for alike in [
            json!({}),
            json!({"cpu": ["x64", "arm64"]}),
            json!({"cpu": ["!ia32"]}),
            json!({"os": ["darwin"], "cpu": ["arm64"]}),
            json!({"cpu": ["x64"], "libc": ["musl"]}),
        ] {
            assert_eq!(variants(alike.clone()), 1, "{alike}");
        }
        for different in [
            json!({"cpu": "x64"}),
            json!({"cpu": ["!x64"], "os": ["linux"]}),
        ] {
            assert_eq!(variants(different.clone()), 2, "{different}");
        }
    }

    #[test]
    fn missing_peers_are_those_a_worker_needs() {
        let entry = json!({
            "version": "1.0.0", "integrity": integrity(),
            "peerDependencies": {"react": "*", "@paperclipai/plugin-sdk": ">=1", "nice": "*", "p": "*"},
            "peerDependenciesMeta": {"nice": {"optional": true}},
        });
        let names: Vec<_> = with(json!({"node_modules/a": entry}))
            .unwrap()
            .missing_peers();
        assert_eq!(names.len(), 1);
        assert_eq!(names[0].name, "@paperclipai/plugin-sdk");
    }

    #[test]
    fn lock_of_another_package_or_version_is_refused() {
        let lock = with(json!({})).unwrap();
        assert!(Lock::parse(lock.bytes(), "p", "1.0.1").is_err());
        assert!(Lock::parse(lock.bytes(), "q", "1.0.0").is_err());
    }
}
