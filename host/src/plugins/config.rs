//! The config of a plugin, as hosts see it: secrets are references in it.

use serde_json::{Value, value::RawValue};

/// A config that was parsed once; it shows as it was written.
#[derive(Clone, Debug)]
pub struct Config {
    json: Box<RawValue>,
    given: bool,
}

impl Config {
    /// Reads a config; nothing at all is an empty one.
    pub fn parse(json: &[u8]) -> Result<Self, serde_json::Error> {
        let json = if json.is_empty() { b"{}" } else { json };
        let given = match serde_json::from_slice(json)? {
            Value::Null => false,
            Value::Object(fields) => !fields.is_empty(),
            _ => true,
        };
        Ok(Self {
            json: serde_json::from_slice(json)?,
            given,
        })
    }

    /// Whether anything is configured.
    pub fn is_given(&self) -> bool {
        self.given
    }

    /// The config as JSON.
    pub fn json(&self) -> &RawValue {
        &self.json
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_object_or_nothing_is_no_config() {
        let is_given = |json: &str| Config::parse(json.as_bytes()).unwrap().is_given();
        for none in ["", "{}", " { } ", "null"] {
            assert!(!is_given(none), "{none:?}");
        }
        assert!(is_given(r#"{"currency":{}}"#));
        assert!(Config::parse(b"{").is_err());
    }
}
