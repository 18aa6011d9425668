//! The names of one archive: each is checked as text and against those before it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use paperclip_artifact::limits;
use paperclip_artifact::tree::fold_case;

use super::{Broken, Rule, escape};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Folder,
    File,
}

/// What an archive named so far, by the form in which a file system that ignores case has it.
#[derive(Debug, Default)]
pub(super) struct Names {
    seen: HashMap<String, (String, Kind)>,
    files: usize,
}

impl Names {
    /// Number of files so far.
    pub(super) fn files(&self) -> usize {
        self.files
    }

    /// A folder may be named again: many programs name each folder once a file.
    pub(super) fn folder(&mut self, name: &[u8]) -> Result<(), Broken> {
        let parts = split(name)?;
        self.folders(&parts)
    }

    pub(super) fn file(&mut self, name: &[u8]) -> Result<(), Broken> {
        let parts = split(name)?;
        let Some((_, above)) = parts.split_last() else {
            return Err(Broken::new(Rule::Format, "a file without a name", "a name"));
        };
        self.folders(above)?;
        self.files += 1;
        match self.insert(parts.join("/"), Kind::File)? {
            None => Ok(()),
            Some(Kind::File) => Err(Broken::new(Rule::Duplicate, "the name twice", "once")),
            Some(Kind::Folder) => Err(Broken::new(
                Rule::Duplicate,
                "a file and a folder of one name",
                "one of them",
            )),
        }
    }

    fn folders(&mut self, parts: &[&str]) -> Result<(), Broken> {
        for end in 1..=parts.len() {
            if self.insert(parts[..end].join("/"), Kind::Folder)? == Some(Kind::File) {
                let found = format!("something below `{}`, a file", parts[..end].join("/"));
                return Err(Broken::new(Rule::Duplicate, found, "a folder"));
            }
        }
        Ok(())
    }

    /// What was there under the very same name.
    fn insert(&mut self, path: String, kind: Kind) -> Result<Option<Kind>, Broken> {
        if self.seen.len() >= limits::ENTRIES {
            let wanted = format!("at most {}", limits::ENTRIES);
            return Err(Broken::new(Rule::FileCount, "one name more", wanted));
        }
        match self.seen.entry(fold_case(&path)) {
            Entry::Vacant(vacant) => {
                vacant.insert((path, kind));
                Ok(None)
            }
            Entry::Occupied(other) if other.get().0 == path => Ok(Some(other.get().1)),
            Entry::Occupied(other) => {
                let found = format!(
                    "`{}` and `{}`",
                    escape(other.get().0.as_bytes()),
                    escape(path.as_bytes())
                );
                Err(Broken::new(
                    Rule::CaseCollision,
                    found,
                    "names that differ in more than case",
                ))
            }
        }
    }
}

/// The parts of a path that npm would unpack, its first one among them, which npm drops.
fn split(name: &[u8]) -> Result<Vec<&str>, Broken> {
    let text = std::str::from_utf8(name)
        .map_err(|_| Broken::new(Rule::Utf8, "other bytes", "a name in UTF-8"))?;
    if text.starts_with('/') {
        let wanted = "a path inside the package";
        return Err(Broken::new(Rule::AbsolutePath, "an absolute path", wanted));
    }
    if text.contains('\\') || text.chars().any(char::is_control) {
        let found = "a control character or a backslash";
        return Err(Broken::new(Rule::NameCharacters, found, "a name without"));
    }
    if text.len() > limits::PATH {
        let wanted = format!("at most {}", limits::PATH);
        let found = format!("a path of {} bytes", text.len());
        return Err(Broken::new(Rule::PathLength, found, wanted));
    }
    let parts: Vec<&str> = text
        .split('/')
        .filter(|part| !matches!(*part, "" | "."))
        .collect();
    if parts.contains(&"..") {
        let wanted = "a path inside the package";
        return Err(Broken::new(Rule::ParentPath, "a part `..`", wanted));
    }
    if let Some(part) = parts.iter().find(|part| part.len() > limits::NAME) {
        let wanted = format!("at most {}", limits::NAME);
        let found = format!("a part of {} bytes", part.len());
        return Err(Broken::new(Rule::PathLength, found, wanted));
    }
    if parts.len() > limits::DEPTH {
        let wanted = format!("at most {}", limits::DEPTH);
        let found = format!("{} parts", parts.len());
        return Err(Broken::new(Rule::PathDepth, found, wanted));
    }
    Ok(parts)
}
