//! What Node finds from a package of the tree.

use std::collections::{BTreeMap, BTreeSet};

use crate::integrity::sha512;
use crate::lock::Lock;

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

impl Lock {
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

    /// Whether Node finds `name` from the package at `path`.
    pub(super) fn resolves(&self, path: &str, name: &str) -> bool {
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
