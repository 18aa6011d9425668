//! Inputs of calls: text, a file, or standard input.

use std::{io::Read, path::PathBuf};

use serde_json::{Map, Value};

use crate::{args::Source, error::Error};

/// Reads the bytes of a source.
///
/// # Errors
/// When the file or standard input cannot be read.
pub fn read(source: &Source) -> Result<Vec<u8>, Error> {
    match source {
        Source::Text(text) => Ok(text.clone().into_bytes()),
        Source::File(path) => std::fs::read(path).map_err(|error| Error::ReadFile {
            path: path.clone(),
            source: error,
        }),
        Source::StandardInput => {
            let mut bytes = Vec::new();
            std::io::stdin()
                .read_to_end(&mut bytes)
                .map_err(|error| Error::ReadFile {
                    path: PathBuf::from("standard input"),
                    source: error,
                })?;
            Ok(bytes)
        }
    }
}

/// Reads parameters: a JSON object, empty when the option was not given.
///
/// # Errors
/// When the source cannot be read or is no JSON object.
pub fn read_params(source: Option<&Source>) -> Result<Map<String, Value>, Error> {
    source.map_or_else(|| Ok(Map::new()), |source| parse_object(&read(source)?))
}

fn parse_object(bytes: &[u8]) -> Result<Map<String, Value>, Error> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(other) => Err(Error::Input {
            what: format!("--params is {}, wanted a JSON object", kind(&other)),
        }),
        Err(error) => Err(Error::Input {
            what: format!("--params is no JSON ({error}), wanted a JSON object"),
        }),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// The content type a body is sent with when no header names one.
#[must_use]
pub fn content_type(body: &[u8]) -> &'static str {
    if serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok() {
        "application/json"
    } else {
        "text/plain; charset=utf-8"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn params_are_an_object() {
        assert_eq!(parse_object(b"{\"a\":1}").unwrap()["a"], 1);
        let error = parse_object(b"[1]").unwrap_err();
        assert_eq!(
            error.to_string(),
            "--params is a list, wanted a JSON object"
        );
        assert_eq!(error.exit_code(), 2);
        assert!(parse_object(b"{").is_err());
    }

    #[test]
    fn no_params_are_an_empty_object() {
        assert!(read_params(None).unwrap().is_empty());
    }

    #[test]
    fn a_json_body_is_sent_as_json() {
        assert_eq!(content_type(b" {\"a\": [1]}"), "application/json");
        assert_eq!(content_type(b"sku;quantity"), "text/plain; charset=utf-8");
    }
}
