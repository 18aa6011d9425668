//! Figures beside their targets, as JSON between steps and as Markdown at the end.

use std::{fmt::Write as _, fs, io::ErrorKind, path::Path, process::Command};

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
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct Section {
    /// Heading.
    pub title: String,
    /// When, and on what machine.
    pub measured: String,
    /// How the figures came about.
    pub method: String,
    /// The figures.
    pub rows: Vec<Row>,
}

impl Section {
    /// Without figures, measured here and now.
    pub fn new(title: &str, method: String) -> Result<Self> {
        let today = OffsetDateTime::now_utc().date();
        Ok(Self {
            title: title.to_owned(),
            measured: format!("Measured on {today}, on {}.", machine()?),
            method,
            rows: Vec::new(),
        })
    }

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
            "## {}\n\n{} {}\n\n| measured | figure | target | |\n|---|---|---|---|\n",
            self.title, self.method, self.measured
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

const HEAD: &str = "# Benchmarks\n\nFigures beside the targets of the design. \
    `bash tests/long.sh` measures all of it again and writes this page; a part that is measured alone \
    replaces its own section. What else runs on the machine shows in the figures.\n";

/// Puts sections into the page, prints them and writes it. Sections that were not measured anew
/// stay as they are.
///
/// `order` has the titles of all sections; one of the page that is not in it stands last.
pub fn write_page(sections: &[impl AsRef<Path>], page: &Path, order: &[&str]) -> Result<()> {
    let old = match fs::read_to_string(page) {
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        read => read.with_context(|| format!("read {}", page.display()))?,
    };
    let mut fresh = Vec::new();
    for file in sections {
        let section = Section::load(file.as_ref())?;
        let text = section.markdown();
        println!("{text}");
        fresh.push((section.title, text));
    }
    fs::write(page, joined(&old, fresh, order)).with_context(|| format!("write {}", page.display()))
}

/// The page with sections, each a title and its text, in the place of their older ones.
fn joined(old: &str, fresh: Vec<(String, String)>, order: &[&str]) -> String {
    let mut sections: Vec<(String, String)> = old
        .split("\n## ")
        .skip(1)
        .map(|text| {
            let title = text.lines().next().unwrap_or_default();
            (title.to_owned(), format!("## {}\n", text.trim_end()))
        })
        .collect();
    for (title, text) in fresh {
        sections.retain(|(known, _)| *known != title);
        sections.push((title, text));
    }
    let place = |title: &str| order.iter().position(|known| *known == title);
    sections.sort_by_key(|(title, _)| place(title).unwrap_or(order.len()));
    sections.iter().fold(HEAD.to_owned(), |page, (_, text)| {
        page + "\n" + text.trim_end() + "\n"
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn section(title: &str, figure: &str) -> (String, String) {
        let section = Section {
            title: title.into(),
            method: "As it is done.".into(),
            rows: vec![Row::plain("time", figure)],
            ..Section::default()
        };
        (title.into(), section.markdown())
    }

    #[test]
    fn a_section_replaces_its_older_one_and_leaves_the_others() {
        let order = ["A", "B", "C"];
        let page = joined("", vec![section("C", "3 s"), section("A", "1 s")], &order);
        let again = joined(
            &page,
            vec![section("B", "2 s"), section("A", "4 s")],
            &order,
        );
        let all = vec![
            section("A", "4 s"),
            section("B", "2 s"),
            section("C", "3 s"),
        ];
        assert_eq!(again, joined("", all, &order));
        assert_eq!(again.matches("\n## ").count(), 3);
        assert!(!again.contains("1 s"), "{again}");
    }

    #[test]
    fn a_page_without_anything_new_stays_as_it_is() {
        let page = joined("", vec![section("old", "1 s"), section("A", "2 s")], &["A"]);
        assert_eq!(joined(&page, Vec::new(), &["A"]), page);
        assert!(page.find("## A") < page.find("## old"));
    }
}
