//! Figures beside their targets: recorded as JSON, compared with what was recorded before, and
//! shown as Markdown.

use std::{
    fmt::{self, Display, Formatter, Write as _},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use time::OffsetDateTime;

/// How many times worse than recorded a ratio may be.
const TOLERANCE: f64 = 1.5;

/// A value as it is printed, so that what a reader sees is what is judged and compared.
#[derive(Clone, Copy, Debug)]
pub struct Printed {
    value: f64,
    decimals: usize,
}

impl Printed {
    /// A value with so many decimals.
    pub fn new(value: f64, decimals: usize) -> Self {
        let rounded = format!("{value:.decimals$}").parse();
        Self {
            value: rounded.unwrap_or(f64::NAN),
            decimals,
        }
    }

    /// The value, rounded.
    pub fn value(self) -> f64 {
        self.value
    }
}

impl Display for Printed {
    fn fmt(&self, to: &mut Formatter<'_>) -> fmt::Result {
        write!(to, "{:.*}", self.decimals, self.value)
    }
}

/// Which of two ratios is the better one.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Better {
    /// The lower one.
    Lower,
    /// The higher one.
    Higher,
}

/// A ratio to what was measured in the same run, which the next measurement is compared with.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Ratio {
    /// The ratio.
    pub value: f64,
    /// Which way is up.
    pub better: Better,
}

impl Ratio {
    /// Whether this is worse than what was recorded, by more than the tolerance.
    fn is_worse_than(self, recorded: Self) -> bool {
        match recorded.better {
            Better::Lower => self.value > recorded.value * TOLERANCE,
            Better::Higher => self.value * TOLERANCE < recorded.value,
        }
    }
}

/// One measured figure.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Row {
    /// What was measured.
    pub what: String,
    /// The figure, with its absolutes.
    pub figure: String,
    /// What was promised, empty if nothing was.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub target: String,
    /// Whether the promise was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub met: Option<bool>,
    /// What the next measurement is compared with. None for what varies by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio: Option<Ratio>,
}

impl Row {
    /// A figure that nothing was promised about.
    pub fn plain(what: impl Into<String>, figure: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            figure: figure.into(),
            target: String::new(),
            met: None,
            ratio: None,
        }
    }

    /// A figure that must not exceed a limit.
    ///
    /// # Panics
    /// When the value that is judged is not in the figure.
    pub fn at_most(self, value: Printed, limit: f64, unit: &str) -> Self {
        let target = format!("at most {limit} {unit}").trim_end().to_owned();
        let met = value.value() <= limit;
        self.showing(value).judged(target, met)
    }

    /// A figure that must reach a limit.
    ///
    /// # Panics
    /// When the value that is judged is not in the figure.
    pub fn at_least(self, value: Printed, limit: f64) -> Self {
        let met = value.value() >= limit;
        self.showing(value).judged(format!("at least {limit}"), met)
    }

    /// A figure that keeps a promise or does not.
    pub fn judged(self, target: impl Into<String>, met: bool) -> Self {
        Self {
            target: target.into(),
            met: Some(met),
            ..self
        }
    }

    /// A figure with a ratio that the next measurement is compared with.
    ///
    /// # Panics
    /// When the ratio is not in the figure.
    pub fn ratio(self, value: Printed, better: Better) -> Self {
        let ratio = Ratio {
            value: value.value(),
            better,
        };
        Self {
            ratio: Some(ratio),
            ..self.showing(value)
        }
    }

    fn showing(self, value: Printed) -> Self {
        let (what, figure) = (&self.what, &self.figure);
        assert!(
            figure.contains(&value.to_string()),
            "{what} is judged by {value}, which {figure:?} does not show"
        );
        self
    }
}

/// The figures of one part.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
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

    fn markdown(&self) -> String {
        let method = format!("{} {}", self.method, self.measured);
        let mut text = format!(
            "## {}\n\n{}\n\n| measured | figure | target | |\n|---|---|---|---|\n",
            self.title,
            method.trim_end()
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
    `bash tests/long.sh` measures all of it again and writes this page from `benchmarks.json`, where it \
    records the figures; a part that is measured alone replaces its own section. A missed target fails \
    nothing; a ratio that is 1.5 times worse than the recorded one fails the run, which then records \
    nothing. What else runs on the machine shows in the figures.\n";

/// Where figures are recorded, and the page that shows them.
pub struct Record {
    /// The figures, as JSON.
    pub figures: PathBuf,
    /// The page, as Markdown.
    pub page: PathBuf,
}

impl Record {
    /// Takes sections in from the files of their measurements, and makes the page anew. Sections
    /// that were not measured stay as they are. `order` has the titles of all sections.
    ///
    /// # Errors
    /// When a ratio is worse than the recorded one by more than [`TOLERANCE`], or is no longer
    /// measured: each by the name of its row. Nothing is written then, unless it is `accepted`.
    pub fn take_in(&self, measured: &[PathBuf], order: &[&str], accepted: bool) -> Result<()> {
        let recorded: Vec<Section> = read(&self.figures)?;
        let fresh: Vec<Section> = measured
            .iter()
            .map(|file| read(file))
            .collect::<Result<_>>()?;
        let worse = worse(&fresh, &recorded);
        for section in &fresh {
            println!("{}", section.markdown());
        }
        ensure!(
            worse.is_empty() || accepted,
            "worse than recorded, so that nothing is recorded:\n{}",
            worse.join("\n")
        );
        let all = joined(recorded, fresh, order);
        write(&self.figures, &(serde_json::to_string_pretty(&all)? + "\n"))?;
        write(&self.page, &page(&all))
    }
}

fn read<T: DeserializeOwned>(file: &Path) -> Result<T> {
    let text = fs::read(file).with_context(|| format!("read {}", file.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("parse {}", file.display()))
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("write {}", file.display()))
}

/// Rows of the fresh sections that are worse than recorded, or that are missing, a line each.
fn worse(fresh: &[Section], recorded: &[Section]) -> Vec<String> {
    let mut worse = Vec::new();
    for section in fresh {
        let before = recorded.iter().find(|one| one.title == section.title);
        for row in before.iter().flat_map(|before| &before.rows) {
            let Some(recorded) = row.ratio else { continue };
            let name = format!("{}, {}", section.title, row.what);
            let now = section.rows.iter().find(|one| one.what == row.what);
            match now.and_then(|now| now.ratio) {
                None => worse.push(format!("{name}: recorded, and not measured now")),
                Some(now) if now.is_worse_than(recorded) => worse.push(format!(
                    "{name}: {} where {} is recorded",
                    now.value, recorded.value
                )),
                Some(_) => {}
            }
        }
    }
    worse
}

/// Sections in their order, fresh ones in the place of the recorded. One that is not in the order
/// stands last.
fn joined(recorded: Vec<Section>, fresh: Vec<Section>, order: &[&str]) -> Vec<Section> {
    let is_stale = |old: &Section| fresh.iter().any(|new| new.title == old.title);
    let mut all: Vec<Section> = recorded.into_iter().filter(|old| !is_stale(old)).collect();
    all.extend(fresh);
    let place = |section: &Section| order.iter().position(|title| *title == section.title);
    all.sort_by_key(|section| place(section).unwrap_or(order.len()));
    all
}

fn page(sections: &[Section]) -> String {
    sections.iter().fold(HEAD.to_owned(), |page, section| {
        page + "\n" + section.markdown().trim_end() + "\n"
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

    fn section(title: &str, rows: Vec<Row>) -> Section {
        Section {
            title: title.into(),
            method: "As it is done.".into(),
            rows,
            ..Section::default()
        }
    }

    /// A row that shows this ratio.
    fn row(what: &str, value: f64, better: Better) -> Row {
        let value = Printed::new(value, 2);
        Row::plain(what, format!("{value} times")).ratio(value, better)
    }

    #[test]
    fn the_page_is_what_the_record_says() {
        let docs = paperclip_tests::platform::repository().join("docs");
        let recorded: Vec<Section> = read(&docs.join("benchmarks.json")).unwrap();
        let shown = fs::read_to_string(docs.join("benchmarks.md")).unwrap();
        assert!(
            shown == page(&recorded),
            "run `bench report` to make it anew"
        );
    }

    #[test]
    fn a_row_is_judged_by_the_figure_it_prints() {
        let judged = |value: f64, limit| {
            let value = Printed::new(value, 2);
            Row::plain("a", format!("{value} of raw")).at_least(value, limit)
        };
        assert_eq!(judged(0.396, 0.4).met, Some(true));
        assert_eq!(judged(0.394, 0.4).met, Some(false));
        let most = Printed::new(11.46, 1);
        let row = Row::plain("a", format!("{most} s")).at_most(most, 11.3, "s");
        assert_eq!(
            (row.met, row.target.as_str()),
            (Some(false), "at most 11.3 s")
        );
    }

    #[test]
    #[should_panic(expected = "which \"0.40 of raw\" does not show")]
    fn a_row_is_not_judged_by_what_it_does_not_print() {
        let _ = Row::plain("a", "0.40 of raw").at_least(Printed::new(0.396, 3), 0.4);
    }

    #[test]
    fn a_ratio_that_is_half_as_bad_again_is_named() {
        let recorded = [section(
            "A",
            vec![
                row("slow", 2.0, Better::Lower),
                row("fast", 0.6, Better::Higher),
            ],
        )];
        let compared = |slow, fast| {
            let rows = vec![
                row("slow", slow, Better::Lower),
                row("fast", fast, Better::Higher),
            ];
            worse(&[section("A", rows)], &recorded)
        };
        assert!(compared(3.0, 0.4).is_empty(), "as bad as may be");
        assert!(compared(0.1, 9.0).is_empty(), "better");
        assert_eq!(compared(3.01, 0.6), ["A, slow: 3.01 where 2 is recorded"]);
        assert_eq!(compared(2.0, 0.39), ["A, fast: 0.39 where 0.6 is recorded"]);
    }

    #[test]
    fn a_ratio_that_is_no_longer_measured_is_named_and_a_section_alone_is_enough() {
        let recorded = [
            section(
                "A",
                vec![row("slow", 2.0, Better::Lower), Row::plain("more", "1")],
            ),
            section("B", vec![row("other", 1.0, Better::Lower)]),
        ];
        let fresh = [section("A", vec![Row::plain("slow", "2.00 times")])];
        let named = worse(&fresh, &recorded);
        assert_eq!(named, ["A, slow: recorded, and not measured now"]);
    }

    #[test]
    fn what_is_worse_is_not_recorded_unless_it_is_accepted() {
        let folder = tempfile::tempdir().unwrap();
        let record = Record {
            figures: folder.path().join("benchmarks.json"),
            page: folder.path().join("benchmarks.md"),
        };
        let save = |file: &Path, sections: &[Section]| {
            fs::write(file, serde_json::to_string(sections).unwrap()).unwrap();
        };
        save(
            &record.figures,
            &[section("A", vec![row("slow", 2.0, Better::Lower)])],
        );
        let measured = folder.path().join("a.json");
        section("A", vec![row("slow", 4.0, Better::Lower)])
            .save(&measured)
            .unwrap();
        let files = [measured];
        let refused = record.take_in(&files, &["A"], false).unwrap_err();
        assert!(
            refused
                .to_string()
                .contains("A, slow: 4 where 2 is recorded")
        );
        assert!(!record.page.exists());
        record.take_in(&files, &["A"], true).unwrap();
        let shown = fs::read_to_string(&record.page).unwrap();
        assert!(shown.contains("| slow | 4.00 times |"), "{shown}");
        let kept: Vec<Section> = read(&record.figures).unwrap();
        assert_eq!(kept[0].rows[0].ratio.unwrap().value, 4.0);
    }

    #[test]
    fn a_section_replaces_its_older_one_and_leaves_the_others() {
        let of = |title, figure| section(title, vec![Row::plain("time", figure)]);
        let recorded = vec![of("old", "0 s"), of("A", "1 s"), of("C", "3 s")];
        let all = joined(
            recorded,
            vec![of("B", "2 s"), of("A", "4 s")],
            &["A", "B", "C"],
        );
        let shown: Vec<_> = all
            .iter()
            .map(|section| (section.title.as_str(), section.rows[0].figure.as_str()))
            .collect();
        assert_eq!(
            shown,
            [("A", "4 s"), ("B", "2 s"), ("C", "3 s"), ("old", "0 s")]
        );
    }
}
