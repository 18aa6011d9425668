//! Keys of the events and jobs that were delivered to the worker, kept for the next sidecar.
//!
//! Kept by the shim and not with the worker: a worker that is gone may have acted on what it was delivered.

use std::collections::VecDeque;

/// Bytes of a key.
pub const KEY: usize = 16;
/// Keys that are kept; the oldest goes first.
pub const CAPACITY: usize = 4096;

/// The last keys, in the order in which they came.
#[derive(Clone, Debug, Default)]
pub struct DeliveredKeys(VecDeque<[u8; KEY]>);

impl DeliveredKeys {
    /// Adds keys, one after the other. What is less than a whole one is left out.
    pub fn add(&mut self, keys: &[u8]) {
        self.0.extend(keys.as_chunks::<KEY>().0);
        let surplus = self.0.len().saturating_sub(CAPACITY);
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
        let mut kept = DeliveredKeys::default();
        for number in 0..CAPACITY + 2 {
            kept.add(&key(number));
        }
        kept.add(&[key(7), key(8)].concat());
        kept.add(b"half");
        let keys = kept.keys();
        assert_eq!(keys.len(), CAPACITY * KEY);
        assert_eq!(keys[..KEY], key(4));
        assert_eq!(keys[keys.len() - KEY..], key(8));
    }
}
