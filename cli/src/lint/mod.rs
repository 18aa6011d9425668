//! Checks of resources without a cluster, in the words the cluster would use.
//!
//! A document goes through what the API server does with it (unknown fields, schema, CEL rules)
//! and then, if the types can read it, through what the operator decides from the spec alone.

mod document;
mod rules;
mod schema;
mod semantics;

use std::fmt;

use paperclip_crds::v1alpha1::{PaperclipHost, PaperclipPlugin};
use serde::Serialize;

pub use document::Document;
use schema::Kinds;

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// The file, or `-`.
    pub file: String,
    /// Line of the field, or of what it is missing from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// Kind of the object; empty where a file is no YAML.
    pub kind: String,
    /// Name of the object, with its namespace if it has one.
    pub object: String,
    /// The field, as in `spec.secrets[0].name`; empty for the whole file.
    pub field: String,
    /// One word: `Invalid` and `BadRequest` are the API server's, the others reasons of conditions.
    pub reason: &'static str,
    /// What was found.
    pub found: String,
    /// What was wanted.
    pub wanted: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            line,
            kind,
            object,
            field,
            reason,
            found,
            wanted,
        } = self;
        formatter.write_str(file)?;
        if let Some(line) = line {
            write!(formatter, ":{line}")?;
        }
        if !kind.is_empty() {
            write!(formatter, " {kind} {object}")?;
        }
        formatter.write_str(":")?;
        if !field.is_empty() {
            write!(formatter, " {field}:")?;
        }
        write!(formatter, " found {found}, wanted {wanted} ({reason})")
    }
}

/// What was looked at, and what is wrong with it. The shape of `-o json`.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Objects that were checked.
    pub checked: usize,
    /// Objects of other kinds, which were not.
    pub passed_over: usize,
    /// In the order of files and lines.
    pub findings: Vec<Finding>,
}

/// What is wrong with a field of a document, before it is known where that stands.
#[derive(Debug, PartialEq, Eq)]
struct Fault {
    /// JSON pointer of the field.
    at: String,
    reason: &'static str,
    found: String,
    wanted: String,
}

/// Reason of the API server for a field that a schema or a rule forbids.
const INVALID: &str = "Invalid";
/// Reason of the API server for what it cannot read.
const BAD_REQUEST: &str = "BadRequest";

/// A file by name, with its text.
pub struct File {
    /// Name as the user gave it, or `-`.
    pub name: String,
    /// The text.
    pub text: String,
}

/// Checks files. Objects without a namespace are taken to be in `namespace`.
///
/// # Panics
/// When the definitions of this release are broken, which its tests rule out.
#[must_use]
pub fn check(files: &[File], namespace: Option<&str>) -> Report {
    let kinds = Kinds::of_this_release();
    let mut report = Report::default();
    let mut plugins = Vec::new();
    let mut hosts = Vec::new();
    for file in files {
        let documents = match document::read(file, namespace) {
            Ok(documents) => documents,
            Err(finding) => {
                report.findings.push(*finding);
                continue;
            }
        };
        for document in documents {
            let Some(kind) = kinds.of(&document) else {
                report.passed_over += 1;
                continue;
            };
            report.checked += 1;
            let faults = kind.check(&document);
            let is_valid = faults.is_empty();
            report.findings.extend(document.findings(faults));
            if !is_valid {
                continue;
            }
            if let Some(host) = document.parse::<PaperclipHost>() {
                hosts.push(host);
            } else if let Some(plugin) = document.parse::<PaperclipPlugin>() {
                plugins.push((document, plugin));
            }
        }
    }
    for (document, plugin) in &plugins {
        let faults = semantics::check(plugin, &hosts);
        report.findings.extend(document.findings(faults));
    }
    let order = |name: &str| files.iter().position(|file| file.name == name);
    report
        .findings
        .sort_by_key(|finding| (order(&finding.file), finding.line));
    report
}

/// A value as a person reads it, on one line and not too long.
fn shown(value: &serde_json::Value) -> String {
    const LONGEST: usize = 80;
    match value {
        serde_json::Value::Null => "nothing".to_owned(),
        value => {
            let text = value.to_string();
            match text.char_indices().nth(LONGEST) {
                Some((end, _)) => format!("{}…", &text[..end]),
                None => text,
            }
        }
    }
}
