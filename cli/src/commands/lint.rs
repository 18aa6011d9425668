//! `lint`: what the cluster would say of resources, without one.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use crate::{
    args::Global,
    error::Error,
    lint::{self, File, Report},
    output,
};

/// Endings of files that are read from a folder.
const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];

pub(super) fn run(global: &Global, paths: &[PathBuf]) -> Result<(), Error> {
    let mut files = Vec::new();
    for path in paths {
        collect(path, &mut files)?;
    }
    let report = lint::check(&files, global.namespace.as_deref());
    output::answer(global.output, &report, || Ok(text(&report)))?;
    match report.findings.len() {
        0 => Ok(()),
        1 => Err(Error::Failed("1 finding".into())),
        count => Err(Error::Failed(format!("{count} findings"))),
    }
}

/// A line a finding, then what was looked at.
fn text(report: &Report) -> String {
    let mut text: String = report
        .findings
        .iter()
        .map(|finding| format!("{finding}\n"))
        .collect();
    text.push_str(&format!("{} checked", report.checked));
    if report.passed_over > 0 {
        text.push_str(&format!(
            ", {} of other kinds passed over",
            report.passed_over
        ));
    }
    text.push('\n');
    text
}

/// Reads a file, standard input, or the files of a folder and below, in order of their names.
fn collect(path: &Path, files: &mut Vec<File>) -> Result<(), Error> {
    let failed = |source| Error::ReadFile {
        path: path.to_owned(),
        source,
    };
    if path.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(failed)?;
        files.push(File {
            name: "-".into(),
            text,
        });
        return Ok(());
    }
    if !path.is_dir() {
        files.push(File {
            name: path.display().to_string(),
            text: fs::read_to_string(path).map_err(failed)?,
        });
        return Ok(());
    }
    let entries = fs::read_dir(path).map_err(failed)?;
    let entries: Result<Vec<_>, _> = entries.collect();
    let mut inside: Vec<PathBuf> = entries
        .map_err(failed)?
        .iter()
        .map(fs::DirEntry::path)
        .filter(|path| is_wanted(path))
        .collect();
    inside.sort();
    inside.iter().try_for_each(|path| collect(path, files))
}

/// Whether something in a folder is looked at. Links to folders may lead in a circle.
fn is_wanted(path: &Path) -> bool {
    let is_hidden = path
        .file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with('.'));
    if is_hidden || path.is_dir() {
        return !is_hidden && !path.is_symlink();
    }
    let ending = path.extension().and_then(|ending| ending.to_str());
    ending.is_some_and(|ending| ENDINGS.contains(&ending))
}
