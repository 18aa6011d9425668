//! The body of a request: a JSON object whose fields are checked one by one, so
//! that a refusal names the field, what was found and what is wanted. Values are
//! kept as they were written.

use std::collections::BTreeMap;

use axum::{
    body::{self, Body},
    extract::{FromRequest, Request},
    http::StatusCode,
};
use serde_json::value::{RawValue, to_raw_value};

use super::{BODY_LIMIT, error::ApiError};

/// A JSON object.
#[derive(Debug, Default)]
pub struct Fields(BTreeMap<String, Box<RawValue>>);

impl Fields {
    /// Reads a body; an empty one is an empty object.
    pub fn parse(bytes: &[u8]) -> Result<Self, ApiError> {
        if bytes.trim_ascii().is_empty() {
            return Ok(Self::default());
        }
        serde_json::from_slice(bytes).map(Self).map_err(|error| {
            ApiError::bad_request(format!("the body is not a JSON object: {error}"))
        })
    }

    /// A text that must be there.
    pub fn text(&self, field: &str) -> Result<String, ApiError> {
        self.optional_text(field)?.ok_or_else(|| {
            ApiError::bad_request(format!("field {field:?} is missing, wanted a text"))
        })
    }

    /// A text that may be there. Null and blank count as absent.
    pub fn optional_text(&self, field: &str) -> Result<Option<String>, ApiError> {
        let Some(value) = self.value(field) else {
            return Ok(None);
        };
        let text: String =
            serde_json::from_str(value.get()).map_err(|_| unwanted(field, value, "a text"))?;
        Ok(Some(text).filter(|text| !text.trim().is_empty()))
    }

    /// An object that may be there.
    pub fn optional_object(&self, field: &str) -> Result<Option<Self>, ApiError> {
        let Some(value) = self.value(field) else {
            return Ok(None);
        };
        serde_json::from_str(value.get())
            .map(|fields| Some(Self(fields)))
            .map_err(|_| unwanted(field, value, "an object"))
    }

    /// A switch, off unless given.
    pub fn switch(&self, field: &str) -> Result<bool, ApiError> {
        match self.value(field) {
            None => Ok(false),
            Some(value) => serde_json::from_str(value.get())
                .map_err(|_| unwanted(field, value, "true or false")),
        }
    }

    /// A value as it was written, unless it is absent or null.
    pub fn value(&self, field: &str) -> Option<&RawValue> {
        self.0
            .get(field)
            .map(|value| &**value)
            .filter(|value| value.get() != "null")
    }

    /// Whether the field is there and null.
    pub fn is_null(&self, field: &str) -> bool {
        self.0.get(field).is_some_and(|value| value.get() == "null")
    }

    /// Puts a text in.
    pub fn set_text(&mut self, field: &str, text: &str) {
        if let Ok(value) = to_raw_value(text) {
            self.0.insert(field.to_owned(), value);
        }
    }

    /// The fields, to be written again.
    pub fn as_map(&self) -> &BTreeMap<String, Box<RawValue>> {
        &self.0
    }
}

impl<S: Sync> FromRequest<S> for Fields {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, Self::Rejection> {
        Self::parse(&read(request.into_body()).await?)
    }
}

/// Reads a body of at most [`BODY_LIMIT`].
pub async fn read(body: Body) -> Result<bytes::Bytes, ApiError> {
    body::to_bytes(body, BODY_LIMIT).await.map_err(|error| {
        let too_large = std::error::Error::source(&error)
            .is_some_and(|source| source.to_string().contains("length limit"));
        match too_large {
            true => ApiError::Refused(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the body is larger than {BODY_LIMIT} bytes"),
            ),
            false => ApiError::bad_request(format!("the body cannot be read: {error}")),
        }
    })
}

fn unwanted(field: &str, value: &RawValue, wanted: &str) -> ApiError {
    let found = match value.get().as_bytes().first() {
        Some(b'"') => "a text",
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b't' | b'f') => "true or false",
        _ => "a number",
    };
    ApiError::bad_request(format!("field {field:?} is {found}, wanted {wanted}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(error: ApiError) -> String {
        match error {
            ApiError::Refused(StatusCode::BAD_REQUEST, message) => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_refusal_names_the_field_what_was_found_and_what_is_wanted() {
        let fields = Fields::parse(br#"{"key":3,"params":[],"tool":" "}"#).unwrap();
        assert_eq!(
            message(fields.text("key").unwrap_err()),
            r#"field "key" is a number, wanted a text"#
        );
        assert_eq!(
            message(fields.optional_object("params").unwrap_err()),
            r#"field "params" is a list, wanted an object"#
        );
        assert_eq!(
            message(fields.text("tool").unwrap_err()),
            r#"field "tool" is missing, wanted a text"#
        );
    }

    #[test]
    fn values_keep_the_bytes_they_were_written_with() {
        let fields = Fields::parse(br#"{"params":{"b":1.0,"a":12345678901234567890}}"#).unwrap();
        assert_eq!(
            fields.value("params").unwrap().get(),
            r#"{"b":1.0,"a":12345678901234567890}"#
        );
    }
}
