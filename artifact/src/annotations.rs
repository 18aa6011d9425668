//! Annotations of an artifact that are read again.

/// Name of the package.
pub const PACKAGE: &str = "ing.paperclip.plugins.package";
/// Its version.
pub const VERSION: &str = "org.opencontainers.image.version";
/// Content of the marker file; of an index that of each platform's tree.
pub const MARKER: &str = "ing.paperclip.plugins.marker";
/// Digest of the lock that the tree was installed from.
pub const LOCK_DIGEST: &str = "ing.paperclip.plugins.lock-digest";
