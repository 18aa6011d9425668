//! Annotations of an artifact and of what is attached to it.

/// Name of the package.
pub const PACKAGE: &str = "ing.paperclip.plugins.package";
/// Its version.
pub const VERSION: &str = "org.opencontainers.image.version";
/// Content of the marker file; of an index that of each platform's tree.
pub const MARKER: &str = "ing.paperclip.plugins.marker";
/// Digest of the lock that the tree was installed from.
pub const LOCK_DIGEST: &str = "ing.paperclip.plugins.lock-digest";
/// Name of the package for people and tools.
pub const TITLE: &str = "org.opencontainers.image.title";
/// Version of the Node that packed.
pub const NODE: &str = "ing.paperclip.plugins.node";
/// Version of the npm that packed.
pub const NPM: &str = "ing.paperclip.plugins.npm";
/// The packer, on a referrer that one of this project made.
pub const PACKER: &str = "ing.paperclip.plugins.packer";
/// Where an artifact came from, in the text that the platform signs.
pub const SOURCE: &str = "ing.paperclip.plugins.source";
/// Integrity of the package's tarball, in the text that the platform signs.
pub const INTEGRITY: &str = "ing.paperclip.plugins.integrity";
/// Digest of the evidence that is attached, in the text that the platform signs.
pub const EVIDENCE: &str = "ing.paperclip.plugins.evidence";
/// A platform of a package, as a property in the bill of materials.
pub const PLATFORM: &str = "ing.paperclip.plugins:platform";
