//! The cache folder: what is built or fetched once and used by every cluster.
//!
//! An entry is a folder named after the thing and a hash of everything it is made from.
//! It appears whole, by a rename, so a build that was killed leaves nothing that looks
//! finished.

use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// The folder, `$XDG_CACHE_HOME/paperclip-kubernetes`.
///
/// # Errors
/// When there is no home, or the folder cannot be made.
pub fn root() -> Result<PathBuf> {
    let base = match env::var_os("XDG_CACHE_HOME") {
        Some(dir) if !dir.is_empty() => PathBuf::from(dir),
        _ => PathBuf::from(env::var_os("HOME").context("HOME is not set")?).join(".cache"),
    };
    let root = base.join("paperclip-kubernetes");
    fs::create_dir_all(&root).with_context(|| format!("create {}", root.display()))?;
    Ok(root)
}

/// Hash of what an entry is made from.
#[derive(Default)]
pub struct Key(Sha256);

impl Key {
    /// Adds a named part.
    #[must_use]
    pub fn part(mut self, name: &str, bytes: &[u8]) -> Self {
        for field in [name.as_bytes(), bytes] {
            self.0.update((field.len() as u64).to_be_bytes());
            self.0.update(field);
        }
        self
    }

    /// The hash, 16 hex digits.
    #[must_use]
    pub fn finish(self) -> String {
        hex::encode(&self.0.finalize()[..8])
    }
}

/// The folder of an entry, made by `make` in an empty folder if it is not there yet.
/// Two programs that want the same entry make it once.
///
/// # Errors
/// That of `make`, or when the cache folder cannot be written.
pub fn entry(name: &str, key: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let root = root()?;
    let path = root.join(format!("{name}-{key}"));
    if path.is_dir() {
        return Ok(path);
    }
    let _lock = lock(&root.join(format!("{name}-{key}.lock")))?;
    if path.is_dir() {
        return Ok(path);
    }
    let unfinished = root.join(format!("{name}-{key}.new"));
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished)?;
    }
    fs::create_dir(&unfinished)?;
    make(&unfinished)?;
    fs::rename(&unfinished, &path).with_context(|| format!("keep {}", path.display()))?;
    Ok(path)
}

/// Takes a lock that ends with the returned file, or with this process.
///
/// # Errors
/// When the file cannot be made or locked.
pub fn lock(path: &Path) -> Result<File> {
    let file = File::create(path).with_context(|| format!("create {}", path.display()))?;
    file.lock()
        .with_context(|| format!("lock {}", path.display()))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moving_a_byte_between_parts_changes_the_key() {
        let a = Key::default().part("a", b"bc").part("d", b"e").finish();
        let b = Key::default().part("a", b"b").part("cd", b"e").finish();
        assert_ne!(a, b);
        assert_eq!(a.len(), 16);
    }
}
