//! How long each part took when it last ran, so that the next run begins with the longest.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result};

/// Seconds by name of the part.
pub struct Seconds {
    file: PathBuf,
    known: BTreeMap<String, u64>,
    measured: Mutex<BTreeMap<String, u64>>,
}

impl Seconds {
    /// What earlier runs on this machine kept in a file. A part that none has run has the
    /// seconds that are committed for it.
    pub fn load(file: &Path) -> Self {
        let parse = |text: &str| serde_json::from_str::<BTreeMap<String, u64>>(text);
        let mut known = parse(include_str!("seconds.json")).expect("the committed file is sound");
        // A file that is not there or was cut off costs nothing but the order.
        known.extend(
            fs::read_to_string(file)
                .ok()
                .and_then(|text| parse(&text).ok())
                .unwrap_or_default(),
        );
        Self {
            file: file.to_owned(),
            known,
            measured: Mutex::default(),
        }
    }

    /// Seconds of a part; an unknown one counts as long.
    pub fn of(&self, part: &str) -> u64 {
        self.known.get(part).copied().unwrap_or(60)
    }

    /// Notes how long a part took.
    pub fn measured(&self, part: &str, took: Duration) {
        let mut measured = self.measured.lock().unwrap_or_else(PoisonError::into_inner);
        measured.insert(part.to_owned(), took.as_secs());
    }

    /// Keeps what was measured for the next run.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn keep(&self) -> Result<()> {
        let mut all = self.known.clone();
        all.extend(
            self.measured
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        );
        fs::write(&self.file, serde_json::to_string_pretty(&all)?)
            .with_context(|| format!("write {}", self.file.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_run_knows_what_this_one_measured() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("seconds.json");
        let first = Seconds::load(&file);
        assert_eq!(first.of("never run"), 60);
        first.measured("never run", Duration::from_secs(7));
        first.keep().unwrap();
        assert_eq!(Seconds::load(&file).of("never run"), 7);
    }
}
