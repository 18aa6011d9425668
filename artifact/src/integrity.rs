//! npm's integrity of a tarball.

use base64::Engine as _;

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
