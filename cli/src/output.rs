//! Writing answers to standard output.

use std::io::Write;

use serde::Serialize;

use crate::{args::Form, error::Error};

/// Writes text to standard output.
///
/// # Errors
/// When standard output is closed.
pub fn print(text: &str) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(Error::Write)
}

/// A value as indented JSON with a line end.
///
/// # Errors
/// When the value cannot be JSON.
pub fn json(value: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string_pretty(value)
        .map(|text| text + "\n")
        .map_err(|source| Error::Encoding {
            doing: "write the answer as JSON".into(),
            source: Box::new(source),
        })
}

/// A value as YAML.
///
/// # Errors
/// When the value cannot be YAML.
pub fn yaml(value: &impl Serialize) -> Result<String, Error> {
    serde_saphyr::to_string(value).map_err(|source| Error::Encoding {
        doing: "write the answer as YAML".into(),
        source: Box::new(source),
    })
}

/// Prints an answer: whole with `-o json` and `-o yaml`, else as `for_people` puts it.
///
/// # Errors
/// When the answer cannot be written.
pub fn answer(
    form: Option<Form>,
    value: &impl Serialize,
    for_people: impl FnOnce() -> Result<String, Error>,
) -> Result<(), Error> {
    print(&match form {
        Some(Form::Json) => json(value)?,
        Some(Form::Yaml) => yaml(value)?,
        Some(Form::Wide | Form::Name) | None => for_people()?,
    })
}

/// Text of others in a line of ours: control characters become spaces.
#[must_use]
pub fn printable(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// Whether to colour what goes to standard output: on a terminal, unless `NO_COLOR` is set.
#[must_use]
pub fn is_coloured() -> bool {
    use std::io::IsTerminal;
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::io::stdout().is_terminal()
}
