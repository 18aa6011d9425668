//! The listing of an unpacked tree, and the marker that stands for it.
//!
//! A tree holds folders and regular files, nothing else. Its listing has a line for
//! each entry (path, mode, type, SHA-256), in bytewise order of the paths; the SHA-256
//! of the listing is the marker, by which a tree is known without asking a registry.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use paperclip_artifact_format::names::FACTS;
use paperclip_oci::digest::{Digest, Hashing};

use crate::limits;

/// Bounds of a tree.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of all files together.
    pub bytes: u64,
    /// Number of files and folders.
    pub entries: usize,
    /// Bytes of one path.
    pub path: usize,
}

/// What a tree may be at most: well above any plugin seen, well below what hurts a node.
pub const LIMITS: Limits = Limits {
    bytes: limits::TREE,
    entries: limits::ENTRIES,
    path: limits::PATH,
};

/// Why a folder is no tree of an artifact.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The file system said no.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// An entry breaks a rule.
    #[error("`{path}` in the package tree: {why}")]
    Refused {
        /// The entry, escaped.
        path: String,
        /// The rule.
        why: String,
    },
}

impl TreeError {
    pub(crate) fn refused(path: &str, why: impl Into<String>) -> Self {
        Self::Refused {
            path: path
                .chars()
                .take(300)
                .flat_map(char::escape_default)
                .collect(),
            why: why.into(),
        }
    }

    fn read(path: &Path, source: impl Into<io::Error>) -> Self {
        Self::Read {
            path: path.to_owned(),
            source: source.into(),
        }
    }
}

/// A file or folder of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Path below the root, without a slash at either end.
    pub path: String,
    /// What it is.
    pub kind: Kind,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A folder, mode 0755.
    Directory,
    /// A file, mode 0755 or 0644.
    File {
        /// Whether the owner may execute it.
        executable: bool,
        /// Digest of its bytes.
        digest: Digest,
        /// Number of its bytes.
        size: u64,
    },
}

impl Kind {
    /// The mode in an artifact.
    #[must_use]
    pub fn mode(&self) -> u32 {
        match self {
            Self::Directory
            | Self::File {
                executable: true, ..
            } => 0o755,
            Self::File {
                executable: false, ..
            } => 0o644,
        }
    }
}

/// Lists a tree in bytewise order, without its [`FACTS`], and checks every rule.
///
/// # Errors
/// When an entry is neither file nor folder, has a name that does not travel (control
/// characters, not UTF-8, equal to another in a file system that ignores case), or a
/// limit is passed.
pub fn list(root: &Path, limits: Limits) -> Result<Vec<Entry>, TreeError> {
    let mut entries = Vec::new();
    let mut bytes = 0_u64;
    let walk = walkdir::WalkDir::new(root).min_depth(1).follow_links(false);
    let is_part = |found: &walkdir::DirEntry| found.depth() != 1 || found.file_name() != FACTS;
    for found in walk.into_iter().filter_entry(is_part) {
        let found = found.map_err(|e| TreeError::read(root, e))?;
        let entry = read_entry(root, &found, limits.bytes.saturating_sub(bytes))?;
        if let Kind::File { size, .. } = entry.kind {
            bytes += size;
        }
        entries.push(entry);
        if entries.len() > limits.entries {
            return Err(TreeError::refused(
                "",
                format!("more than {} entries", limits.entries),
            ));
        }
    }
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    refuse_case_collisions(&entries)?;
    Ok(entries)
}

fn read_entry(root: &Path, found: &walkdir::DirEntry, bytes_left: u64) -> Result<Entry, TreeError> {
    let relative = found.path().strip_prefix(root).unwrap_or(found.path());
    let path = relative
        .to_str()
        .ok_or_else(|| TreeError::refused(&relative.to_string_lossy(), "its name is not UTF-8"))?;
    check_path(path)?;
    let metadata = found
        .metadata()
        .map_err(|e| TreeError::read(found.path(), e))?;
    let kind = if metadata.is_dir() {
        Kind::Directory
    } else if metadata.is_file() {
        if metadata.len() > bytes_left {
            return Err(TreeError::refused(path, "the tree is too large"));
        }
        if metadata.nlink() > 1 {
            return Err(TreeError::refused(path, "it is a hard link"));
        }
        let (digest, size) = hash_file(found.path())?;
        Kind::File {
            executable: metadata.permissions().mode() & 0o100 != 0,
            digest,
            size,
        }
    } else if metadata.is_symlink() {
        return Err(TreeError::refused(path, "it is a symbolic link"));
    } else {
        return Err(TreeError::refused(
            path,
            "it is neither a file nor a folder",
        ));
    };
    Ok(Entry {
        path: path.to_owned(),
        kind,
    })
}

fn hash_file(path: &Path) -> Result<(Digest, u64), TreeError> {
    let file = File::open(path).map_err(|e| TreeError::read(path, e))?;
    let mut reader = Hashing::new(file);
    io::copy(&mut reader, &mut io::sink()).map_err(|e| TreeError::read(path, e))?;
    let (_, digest, size) = reader.finish();
    Ok((digest, size))
}

/// Checks a path of a tree as text: relative, no `.` or `..`, no control characters, not too long.
///
/// # Errors
/// Names the rule that is broken.
pub fn check_path(path: &str) -> Result<(), TreeError> {
    if path.len() > LIMITS.path {
        return Err(TreeError::refused(
            path,
            format!("its path is longer than {} bytes", LIMITS.path),
        ));
    }
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(TreeError::refused(path, "its path leaves the tree"));
    }
    if path.contains('\\') || path.chars().any(char::is_control) {
        return Err(TreeError::refused(
            path,
            "its name holds a control character or a backslash",
        ));
    }
    if path.split('/').any(|part| part.len() > limits::NAME) {
        return Err(TreeError::refused(
            path,
            format!("a part of its name is longer than {} bytes", limits::NAME),
        ));
    }
    Ok(())
}

/// Refuses two names that are one where case does not count.
pub(crate) fn refuse_case_collisions(entries: &[Entry]) -> Result<(), TreeError> {
    let mut seen = HashMap::with_capacity(entries.len());
    for entry in entries {
        if let Some(other) = seen.insert(fold_case(&entry.path), &entry.path) {
            let why = format!("its name differs from `{other}` in case only");
            return Err(TreeError::refused(&entry.path, why));
        }
    }
    Ok(())
}

/// A name as a file system that ignores case has it: capitals first, since letters such as
/// `ſ` and `ß` have only those in common with others, then small letters.
pub fn fold_case(path: &str) -> String {
    let capitals = path.chars().flat_map(char::to_uppercase);
    capitals.flat_map(char::to_lowercase).collect()
}

/// The marker of a listing: 64 hex digits.
#[must_use]
pub fn marker(entries: &[Entry]) -> String {
    let mut listing = String::new();
    for Entry { path, kind } in entries {
        let (word, content) = match kind {
            Kind::Directory => ("directory", "-"),
            Kind::File { digest, .. } => ("file", digest.hex()),
        };
        // Paths hold no newline, so a line is one entry.
        let _ = writeln!(listing, "{path}\t{:o}\t{word}\t{content}", kind.mode());
    }
    Digest::of(listing.as_bytes()).hex().to_owned()
}

/// Removes all that is in a folder, and keeps the folder.
pub(crate) fn clear(folder: &Path) -> io::Result<()> {
    for child in fs::read_dir(folder)? {
        let child = child?;
        if child.file_type()?.is_dir() {
            fs::remove_dir_all(child.path())?;
        } else {
            fs::remove_file(child.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marker_follows_names_modes_and_content() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir(root.join("a")).unwrap();
        fs::write(root.join("a/x.js"), "1").unwrap();
        let marker_now = || marker(&list(root, LIMITS).unwrap());
        let first = marker_now();
        fs::set_permissions(root.join("a/x.js"), fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(marker_now(), first, "only the owner's execute bit counts");
        fs::create_dir(root.join(FACTS)).unwrap();
        fs::write(root.join(FACTS).join("marker"), "x").unwrap();
        assert_eq!(marker_now(), first, "facts are no part of it");
        fs::set_permissions(root.join("a/x.js"), fs::Permissions::from_mode(0o700)).unwrap();
        assert_ne!(marker_now(), first);
    }

    #[test]
    fn links_devices_and_colliding_names_are_refused() {
        let refused = |prepare: &dyn Fn(&Path)| {
            let folder = tempfile::tempdir().unwrap();
            prepare(folder.path());
            list(folder.path(), LIMITS).unwrap_err().to_string()
        };
        let link =
            refused(&|root| std::os::unix::fs::symlink("/etc/passwd", root.join("l")).unwrap());
        assert!(link.contains("symbolic link"), "{link}");
        let hard = refused(&|root| {
            fs::write(root.join("a"), "").unwrap();
            fs::hard_link(root.join("a"), root.join("b")).unwrap();
        });
        assert!(hard.contains("hard link"), "{hard}");
        let pipe = refused(&|root| {
            nix::unistd::mkfifo(&root.join("p"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        });
        assert!(pipe.contains("neither"), "{pipe}");
        let case = refused(&|root| {
            fs::write(root.join("Readme"), "").unwrap();
            fs::write(root.join("README"), "").unwrap();
        });
        assert!(case.contains("case"), "{case}");
        let control = refused(&|root| fs::write(root.join("a\nb"), "").unwrap());
        assert!(
            control.contains("control") && !control.contains('\n'),
            "{control}"
        );
    }
}
