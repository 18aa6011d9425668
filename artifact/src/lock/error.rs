//! Why a lock is refused.

/// Why a lock is refused.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Not JSON, or not of npm's third lock version.
    #[error("the lock is no package-lock.json of version 3: {0}")]
    Format(String),
    /// It is for something else.
    #[error("the lock is not for {package}@{version}: {why}")]
    Root {
        /// The package wanted.
        package: String,
        /// The version wanted.
        version: String,
        /// The difference.
        why: String,
    },
    /// One entry breaks a rule.
    #[error("the lock's entry `{entry}` is refused: {why}")]
    Entry {
        /// Path of the entry.
        entry: String,
        /// The rule.
        why: String,
    },
}
