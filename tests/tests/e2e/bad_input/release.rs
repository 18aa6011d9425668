//! Releases of the ledger that each break one rule, published as their author would.

use std::{fs, thread};

use anyhow::{Context, Result, anyhow};
use paperclip_tests::platform::repository;

use crate::support::cluster;

/// The version of each release.
pub const VERSION: &str = "1.0.0";

const FILES: [&str; 3] = ["package.json", "manifest.js", "worker.js"];

/// A package of its own, made from the ledger.
pub struct Release {
    /// Ends the name of the package and the id of the plugin.
    pub name: &'static str,
    /// Texts that are replaced in any file.
    pub edits: &'static [(&'static str, &'static str)],
    /// Files that are left out.
    pub without: &'static [&'static str],
}

impl Release {
    /// As it is, without these files.
    pub const fn without(self, without: &'static [&'static str]) -> Self {
        Self { without, ..self }
    }

    /// Name of a package.
    pub fn package(name: &str) -> String {
        format!("paperclip-plugin-test-{name}")
    }

    fn publish(&self) -> Result<()> {
        let source = repository().join("tests/plugins/ledger");
        let folder = tempfile::tempdir()?;
        for file in FILES.iter().filter(|file| !self.without.contains(file)) {
            let text =
                fs::read_to_string(source.join(file)).with_context(|| format!("read {file}"))?;
            let text = text
                .replace(&Self::package("ledger"), &Self::package(self.name))
                .replace("\"test.ledger\"", &format!("\"test.{}\"", self.name));
            let edited = self
                .edits
                .iter()
                .fold(text, |text, (from, to)| text.replace(from, to));
            fs::write(folder.path().join(file), edited)?;
        }
        let published = cluster().npm().publish(folder.path());
        published.with_context(|| format!("publish {}", self.name))
    }
}

/// Publishes all of them at once.
pub fn publish_all(releases: &[Release]) -> Result<()> {
    thread::scope(|scope| {
        let threads: Vec<_> = releases
            .iter()
            .map(|release| scope.spawn(|| release.publish()))
            .collect();
        threads.into_iter().try_for_each(|thread| {
            thread
                .join()
                .map_err(|_| anyhow!("a thread that publishes panicked"))?
        })
    })
}
