//! Rules for one value, as a table can state them.

use serde_json::Value;

use super::ManifestError;

/// What a value must be.
#[derive(Clone, Copy)]
pub(super) enum Rule {
    /// A string of a number of characters.
    Text { min: usize, max: usize },
    /// A string that a function takes; the words say which.
    Pattern {
        is: fn(&str) -> bool,
        words: &'static str,
        max: usize,
    },
    /// One of these strings.
    OneOf(&'static [&'static str]),
    /// This number.
    Number(u64),
    /// A whole number in a range.
    Integer { min: i64, max: i64 },
    /// True or false.
    Boolean,
    /// Any object.
    Object,
    /// A JSON Schema.
    Schema,
    /// An object with any keys, all of whose values keep a rule.
    MapOf(&'static Rule),
    /// A list.
    List {
        of: &'static Rule,
        min: usize,
        max: usize,
    },
    /// An object with these fields.
    Record(&'static Record),
}

/// An object with named fields.
pub(super) struct Record {
    pub(super) fields: &'static [Field],
    /// Whether other keys are refused; else they do not matter.
    pub(super) strict: bool,
}

/// One field of an object.
pub(super) struct Field {
    name: &'static str,
    rule: Rule,
    required: bool,
}

pub(super) const ANY: usize = usize::MAX;

pub(super) const fn required(name: &'static str, rule: Rule) -> Field {
    Field {
        name,
        rule,
        required: true,
    }
}

pub(super) const fn optional(name: &'static str, rule: Rule) -> Field {
    Field {
        name,
        rule,
        required: false,
    }
}

pub(super) const fn text(min: usize, max: usize) -> Rule {
    Rule::Text { min, max }
}

pub(super) const fn list(of: &'static Rule) -> Rule {
    Rule::List {
        of,
        min: 0,
        max: ANY,
    }
}

pub(super) const fn list_of(of: &'static Rule, min: usize, max: usize) -> Rule {
    Rule::List { of, min, max }
}

/// Checks an object against its fields.
pub(super) fn check_record(
    path: &str,
    value: &Value,
    record: &Record,
) -> Result<(), ManifestError> {
    let object = value
        .as_object()
        .ok_or_else(|| wrong(path, value, "an object"))?;
    for Field {
        name,
        rule,
        required,
    } in record.fields
    {
        match object.get(*name) {
            Some(value) => check(&join(path, name), value, rule)?,
            None if *required => {
                return Err(ManifestError::new(
                    &join(path, name),
                    "missing",
                    words(rule),
                ));
            }
            None => {}
        }
    }
    let is_known = |key: &str| record.fields.iter().any(|field| field.name == key);
    match object.keys().find(|key| record.strict && !is_known(key)) {
        Some(key) => Err(ManifestError::new(
            &join(path, key),
            "not a field",
            "only known fields here",
        )),
        None => Ok(()),
    }
}

fn check(path: &str, value: &Value, rule: &Rule) -> Result<(), ManifestError> {
    let fits = match rule {
        Rule::Text { min, max } => {
            length(value).is_some_and(|count| count >= *min && count <= *max)
        }
        Rule::Pattern { is, max, .. } => {
            value.as_str().is_some_and(is) && length(value).is_some_and(|count| count <= *max)
        }
        Rule::OneOf(allowed) => value.as_str().is_some_and(|text| allowed.contains(&text)),
        Rule::Number(wanted) => value.as_f64() == Some(*wanted as f64),
        Rule::Integer { min, max } => {
            integer(value).is_some_and(|number| number >= *min && number <= *max)
        }
        Rule::Boolean => value.is_boolean(),
        Rule::Object => value.is_object(),
        Rule::Schema => is_schema(value),
        Rule::MapOf(inner) => {
            let object = value
                .as_object()
                .ok_or_else(|| wrong(path, value, "an object"))?;
            return object
                .iter()
                .try_for_each(|(key, value)| check(&join(path, key), value, inner));
        }
        Rule::List { of, min, max } => {
            let items = value
                .as_array()
                .ok_or_else(|| wrong(path, value, "a list"))?;
            if items.len() < *min || items.len() > *max {
                let found = format!("a list of {}", items.len());
                return Err(ManifestError::new(path, found, words(rule)));
            }
            let mut items = items.iter().enumerate();
            return items.try_for_each(|(at, item)| check(&format!("{path}[{at}]"), item, of));
        }
        Rule::Record(record) => return check_record(path, value, record),
    };
    if fits {
        Ok(())
    } else {
        Err(wrong(path, value, &words(rule)))
    }
}

/// JavaScript counts UTF-16 units.
fn length(value: &Value) -> Option<usize> {
    value.as_str().map(|text| text.encode_utf16().count())
}

/// JavaScript does not tell 1 from 1.0.
fn integer(value: &Value) -> Option<i64> {
    let number = value.as_f64()?;
    (number.fract() == 0.0 && number.abs() < 9_007_199_254_740_992.0).then_some(number as i64)
}

/// Empty, or with a type or a way to another schema.
fn is_schema(value: &Value) -> bool {
    value.as_object().is_some_and(|schema| {
        let leads_on = ["$ref", "oneOf", "anyOf", "allOf"]
            .iter()
            .any(|key| schema.contains_key(*key));
        schema.is_empty() || leads_on || schema.get("type").is_some_and(Value::is_string)
    })
}

fn words(rule: &Rule) -> String {
    match rule {
        Rule::Text { min: 0, max } => format!("a string of at most {max} characters"),
        Rule::Text { min: 1, max: ANY } => "a string that is not empty".into(),
        Rule::Text { min, max } => format!("a string of {min} to {max} characters"),
        Rule::Pattern {
            words, max: ANY, ..
        } => (*words).into(),
        Rule::Pattern { words, max, .. } => format!("{words}, at most {max} characters"),
        Rule::OneOf(allowed) if allowed.len() > 20 => {
            "one that this release of Paperclip knows".into()
        }
        Rule::OneOf(allowed) => format!("one of {}", allowed.join(", ")),
        Rule::Number(number) => format!("the number {number}"),
        Rule::Integer { min, max } => format!("a whole number from {min} to {max}"),
        Rule::Boolean => "true or false".into(),
        Rule::Object | Rule::MapOf(_) | Rule::Record(_) => "an object".into(),
        Rule::Schema => "a JSON Schema with a type, $ref, oneOf, anyOf or allOf".into(),
        Rule::List {
            min: 0, max: ANY, ..
        } => "a list".into(),
        Rule::List { min, max: ANY, .. } => format!("a list of at least {min}"),
        Rule::List { min, max, .. } => format!("a list of {min} to {max}"),
    }
}

fn wrong(path: &str, value: &Value, wanted: &str) -> ManifestError {
    let found = match value {
        Value::Null => "null".into(),
        Value::Bool(value) => format!("{value}"),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) => format!(
            "the string {:?}",
            text.chars().take(100).collect::<String>()
        ),
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "an object".into(),
    };
    ManifestError::new(path, found, wanted)
}

pub(super) fn join(path: &str, name: &str) -> String {
    let name: String = name.chars().take(100).collect();
    if path.is_empty() {
        name
    } else {
        format!("{path}.{name}")
    }
}
