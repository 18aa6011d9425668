//! Keys of what the worker was told, kept for a sidecar to come.
//!
//! Kept by the shim and not with the worker: what a worker heard that is gone may have been done.

use std::collections::VecDeque;

/// Bytes of a key.
pub const KEY: usize = 16;
/// Keys that are kept; the oldest goes first.
pub const KEPT: usize = 4096;

/// The last keys, in the order in which they came.
#[derive(Clone, Debug, Default)]
pub struct Told(VecDeque<[u8; KEY]>);

impl Told {
    /// Adds keys, one after the other. What is less than a whole one is left out.
    pub fn add(&mut self, keys: &[u8]) {
        self.0.extend(keys.as_chunks::<KEY>().0);
        let surplus = self.0.len().saturating_sub(KEPT);
        self.0.drain(..surplus);
    }

    /// All keys, one after the other.
    pub fn keys(&self) -> Vec<u8> {
        self.0.iter().flatten().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> [u8; KEY] {
        (number as u128).to_be_bytes()
    }

    #[test]
    fn the_last_keys_are_kept_in_their_order() {
        let mut told = Told::default();
        for number in 0..KEPT + 2 {
            told.add(&key(number));
        }
        told.add(&[key(7), key(8)].concat());
        told.add(b"half");
        let keys = told.keys();
        assert_eq!(keys.len(), KEPT * KEY);
        assert_eq!(keys[..KEY], key(4));
        assert_eq!(keys[keys.len() - KEY..], key(8));
    }
}
