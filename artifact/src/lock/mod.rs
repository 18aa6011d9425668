//! The lock of a dependency tree: npm's `package-lock.json`, checked and brought to one spelling.

mod entry;
mod error;
mod peers;
mod platforms;
mod resolution;

use std::collections::BTreeMap;

use paperclip_oci::canonical;
use paperclip_oci::digest::Digest;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::limits;
use entry::{Entry, check_bundles, check_entry, check_specs, parse_entry};

pub use entry::{PeerMeta, foreign_spec};
pub use error::LockError;
pub use peers::{MissingPeer, is_needed_peer};
pub use platforms::Tarball;
pub use resolution::Locked;

/// Name and version of the root that npm installs into.
const ROOT_NAME: &str = "paperclip-artifact";

const ROOT_VERSION: &str = "0.0.0";

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

    /// Path and integrity of every package that is a tarball of its own.
    pub fn integrities(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries
            .iter()
            .filter_map(|(path, entry)| Some((path.as_str(), entry.integrity.as_deref()?)))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    lockfile_version: u32,
    packages: BTreeMap<String, Map<String, Value>>,
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

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use paperclip_artifact_format::platform::{Platform, Platforms};

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
