//! Peers that a package wants and a tree lacks.

use std::collections::BTreeMap;

use crate::lock::Lock;
use crate::lock::entry::PeerMeta;

/// Peers that only a browser needs: the worker runs without them.
const UI_ONLY: [&str; 4] = ["react", "react-dom", "react-is", "react-router-dom"];

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

impl Lock {
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
}

/// Whether a worker needs this peer: not if it is optional, or of a user interface.
pub fn is_needed_peer(name: &str, meta: &BTreeMap<String, PeerMeta>) -> bool {
    let is_optional = meta.get(name).is_some_and(|meta| meta.optional);
    !is_optional && !is_ui_only(name)
}

fn is_ui_only(name: &str) -> bool {
    UI_ONLY.contains(&name) || name.starts_with("@types/")
}
