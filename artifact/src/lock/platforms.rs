//! A lock by platform: what npm installs there, and where it installs alike.

use std::path::Path;

use paperclip_artifact_format::platform::{Platform, Platforms};

use crate::integrity::sha512;
use crate::lock::Lock;

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

impl Lock {
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
}
