//! Figures beside their targets, as JSON between steps and as Markdown at the end.

use std::{fmt::Write as _, fs, path::Path, process::Command};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// One measured figure.
#[derive(Debug, Deserialize, Serialize)]
pub struct Row {
    /// What was measured.
    pub what: String,
    /// The figure, with its absolutes.
    pub figure: String,
    /// What was promised, empty if nothing was.
    pub target: String,
    /// Whether the promise was kept.
    pub met: Option<bool>,
}

impl Row {
    /// A figure that nothing was promised about.
    pub fn plain(what: impl Into<String>, figure: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            figure: figure.into(),
            target: String::new(),
            met: None,
        }
    }

    /// A figure that must not exceed a limit.
    pub fn at_most(
        what: impl Into<String>,
        figure: impl Into<String>,
        value: f64,
        limit: f64,
        unit: &str,
    ) -> Self {
        Self {
            target: format!("at most {limit} {unit}").trim_end().to_owned(),
            met: Some(value <= limit),
            ..Self::plain(what, figure)
        }
    }

    /// A figure that must reach a limit.
    pub fn at_least(
        what: impl Into<String>,
        figure: impl Into<String>,
        value: f64,
        limit: f64,
    ) -> Self {
        Self {
            target: format!("at least {limit}"),
            met: Some(value >= limit),
            ..Self::plain(what, figure)
        }
    }
}

/// The figures of one part.
#[derive(Debug, Deserialize, Serialize)]
pub struct Section {
    /// Heading.
    pub title: String,
    /// How the figures came about.
    pub method: String,
    /// The figures.
    pub rows: Vec<Row>,
}

impl Section {
    /// Shows the section and keeps it for the report.
    pub fn save(&self, file: &Path) -> Result<()> {
        println!("{}", self.markdown());
        fs::write(file, serde_json::to_string_pretty(self)?)
            .with_context(|| format!("write {}", file.display()))
    }

    fn load(file: &Path) -> Result<Self> {
        let text = fs::read(file).with_context(|| format!("read {}", file.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("parse {}", file.display()))
    }

    fn markdown(&self) -> String {
        let mut text = format!(
            "## {}\n\n{}\n\n| measured | figure | target | |\n|---|---|---|---|\n",
            self.title, self.method
        );
        for row in &self.rows {
            let verdict = match row.met {
                Some(true) => "met",
                Some(false) => "**missed**",
                None => "",
            };
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "| {} | {} | {} | {verdict} |",
                row.what, row.figure, row.target
            );
        }
        text
    }
}

/// Joins sections into one page, prints it and writes it.
pub fn write_page(sections: &[impl AsRef<Path>], page: &Path) -> Result<()> {
    let mut text = format!(
        "# Benchmarks\n\nFigures of {}, on {}, beside the targets of the design. \
         Run them again with `bash tests/long.sh`; it writes this page.\n\
         What else runs on the machine shows in the figures.\n",
        OffsetDateTime::now_utc().date(),
        machine()?
    );
    for file in sections {
        text.push('\n');
        text.push_str(&Section::load(file.as_ref())?.markdown());
    }
    print!("{text}");
    fs::write(page, text).with_context(|| format!("write {}", page.display()))
}

/// Processor, cores, memory, kernel and load: what a reader compares with.
fn machine() -> Result<String> {
    let field = |file: &str, name: &str| -> Result<String> {
        let text = fs::read_to_string(file).with_context(|| format!("read {file}"))?;
        let line = text.lines().find(|line| line.starts_with(name));
        let value = line.and_then(|line| line.split_once(':'));
        Ok(value.map_or_else(|| "unknown".into(), |(_, value)| value.trim().to_owned()))
    };
    let memory = field("/proc/meminfo", "MemTotal")?;
    let kibibytes: f64 = memory.trim_end_matches(" kB").parse().unwrap_or_default();
    let kernel = Command::new("uname")
        .arg("-r")
        .output()
        .context("run uname")?;
    Ok(format!(
        "{} cores of {}, {:.0} GiB, Linux {}",
        std::thread::available_parallelism()?,
        field("/proc/cpuinfo", "model name")?,
        kibibytes / 1024.0 / 1024.0,
        // Without what a distributor appends.
        String::from_utf8_lossy(&kernel.stdout)
            .trim()
            .split('-')
            .next()
            .unwrap_or_default()
    ))
}
