//! Files of an artifact, by their paths in it.

/// Folder of facts about the artifact; no part of the listing that the marker stands for.
pub const FACTS: &str = ".paperclip";

/// Name of the marker file in [`FACTS`]: the last file that is written when an artifact is
/// delivered.
pub const MARKER: &str = "marker";

/// Name of the package's description in [`FACTS`].
pub const ARTIFACT: &str = "artifact.json";

/// Name of the lock in [`FACTS`].
pub const LOCK: &str = "package-lock.json";

/// Name of the plugin manifest in [`FACTS`].
pub const PLUGIN_MANIFEST: &str = "plugin-manifest.json";

/// Path in the artifact of a file of [`FACTS`], with a slash between.
#[must_use]
pub fn fact(name: &str) -> String {
    format!("{FACTS}/{name}")
}

/// Name of a file of [`FACTS`], by its path in the artifact; `None` for other files.
#[must_use]
pub fn of_fact(path: &str) -> Option<&str> {
    path.strip_prefix(FACTS)?.strip_prefix('/')
}
