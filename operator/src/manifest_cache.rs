//! Plugin manifests that were read from the store, the last used ones only.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use paperclip_oci::Digest;
use serde_json::Value;

/// A manifest is at most a mebibyte; one that was dropped is read again.
const LIMIT: usize = 64;

/// The manifests, the one used last at the end. A digest names one content for ever, so
/// none is ever out of date.
#[derive(Debug, Default)]
pub struct ManifestCache(Mutex<VecDeque<(Digest, Arc<Value>)>>);

impl ManifestCache {
    /// The manifest of an artifact, if it is still here.
    #[must_use]
    pub fn get(&self, digest: &Digest) -> Option<Arc<Value>> {
        let mut all = self.0.lock().ok()?;
        let place = all.iter().position(|(found, _)| found == digest)?;
        let entry = all.remove(place)?;
        let manifest = entry.1.clone();
        all.push_back(entry);
        Some(manifest)
    }

    /// Keeps a manifest, and drops the one that was not used for the longest time.
    pub fn put(&self, digest: Digest, manifest: Arc<Value>) {
        let Ok(mut all) = self.0.lock() else {
            return;
        };
        all.retain(|(found, _)| *found != digest);
        if all.len() == LIMIT {
            all.pop_front();
        }
        all.push_back((digest, manifest));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(number: usize) -> Digest {
        Digest::of(number.to_string().as_bytes())
    }

    #[test]
    fn the_longest_unused_manifest_goes_when_there_are_too_many() {
        let manifests = ManifestCache::default();
        let put = |number| manifests.put(digest(number), Arc::new(Value::from(number)));
        (0..LIMIT).for_each(put);
        assert!(manifests.get(&digest(0)).is_some());
        put(LIMIT);
        assert!(manifests.get(&digest(0)).is_some());
        assert!(manifests.get(&digest(1)).is_none());
        assert_eq!(manifests.0.lock().unwrap().len(), LIMIT);
    }
}
