//! Fingerprints of secret values: equal where the values are, and nothing that can be
//! guessed from.
//!
//! A plain hash of a short secret gives it away to whoever tries all short secrets. These
//! are keyed with the platform authority's private key, which never leaves its Secret.

use hmac::{Hmac, KeyInit, Mac, digest::Key};
use sha2::Sha256;

type Sha256Hmac = Hmac<Sha256>;

/// Keeps the key apart from every other use of the private key.
const PURPOSE: &[u8] = b"paperclip: fingerprints of secrets, 1";
/// Letters of a fingerprint: 128 bits.
const LETTERS: usize = 32;

/// Makes fingerprints that only this platform can make.
pub struct Fingerprints {
    key: Key<Sha256Hmac>,
}

impl Fingerprints {
    /// Takes the key from a private one.
    #[must_use]
    pub fn new(private_key: &[u8]) -> Self {
        let mut root = Sha256Hmac::new(&padded(PURPOSE));
        root.update(private_key);
        Self {
            key: padded(&root.finalize().into_bytes()),
        }
    }

    /// The fingerprint of texts in their order.
    #[must_use]
    pub fn of(&self, texts: &[&str]) -> String {
        let mut state = Sha256Hmac::new(&self.key);
        for text in texts {
            // Without its length a text could run into the next one.
            state.update(&(text.len() as u64).to_be_bytes());
            state.update(text.as_bytes());
        }
        let mut text = hex::encode(state.finalize().into_bytes());
        text.truncate(LETTERS);
        text
    }
}

/// A key as HMAC takes it: filled up with zeros.
fn padded(key: &[u8]) -> Key<Sha256Hmac> {
    let mut padded = Key::<Sha256Hmac>::default();
    for (to, from) in padded.iter_mut().zip(key) {
        *to = *from;
    }
    padded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_have_equal_fingerprints_under_one_key() {
        let (ours, again) = (Fingerprints::new(b"key"), Fingerprints::new(b"key"));
        assert_eq!(ours.of(&["a", "b"]), again.of(&["a", "b"]));
        assert_ne!(ours.of(&["a", "b"]), ours.of(&["a", "c"]));
        assert_eq!(ours.of(&["a"]).len(), LETTERS);
    }

    #[test]
    fn another_key_gives_another_fingerprint_and_none_is_a_plain_hash() {
        let (ours, theirs) = (Fingerprints::new(b"key"), Fingerprints::new(b"other"));
        assert_ne!(ours.of(&["a"]), theirs.of(&["a"]));
        let plain = paperclip_oci::Digest::of(b"a");
        assert!(!plain.hex().starts_with(&ours.of(&["a"])));
    }

    #[test]
    fn texts_do_not_run_together() {
        let ours = Fingerprints::new(b"key");
        assert_ne!(ours.of(&["ab", "c"]), ours.of(&["a", "bc"]));
    }
}
