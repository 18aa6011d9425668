//! `spec.manifest`: fields of the plugin manifest that a reviewer saw must be what the package says.

use paperclip_oci::Digest;
use serde_json::{Map, Value};

/// Hash of the pins, by which a comparison is remembered.
#[must_use]
pub fn hash(pins: &Map<String, Value>) -> String {
    // Keys of a map are in order.
    let text = Value::Object(pins.clone()).to_string();
    Digest::of(text.as_bytes()).short(32).to_owned()
}

/// The first field that differs, as a sentence.
#[must_use]
pub fn mismatch(pins: &Map<String, Value>, manifest: &Value) -> Option<String> {
    first_difference("", &Value::Object(pins.clone()), manifest).map(|(path, pinned, found)| {
        format!("spec.manifest{path} is {pinned}, the package says {found}.")
    })
}

type Difference = (String, String, String);

fn first_difference(path: &str, pinned: &Value, found: &Value) -> Option<Difference> {
    match (pinned, found) {
        (Value::Object(pinned), Value::Object(found)) => pinned.iter().find_map(|(key, value)| {
            let path = format!("{path}.{key}");
            first_difference(&path, value, found.get(key).unwrap_or(&Value::Null))
        }),
        (Value::Array(one), Value::Array(other)) if is_permutation(one, other) => None,
        (pinned, found) if pinned == found => None,
        (pinned, found) => Some((path.to_owned(), shown(pinned), shown(found))),
    }
}

fn is_permutation(one: &[Value], other: &[Value]) -> bool {
    let count =
        |list: &[Value], wanted: &Value| list.iter().filter(|value| *value == wanted).count();
    one.len() == other.len()
        && one
            .iter()
            .all(|value| count(one, value) == count(other, value))
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        value => value.to_string().chars().take(300).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(pins: Value, manifest: Value) -> Option<String> {
        mismatch(pins.as_object().unwrap(), &manifest)
    }

    #[test]
    fn lists_match_in_any_order_and_objects_by_the_keys_given() {
        let manifest =
            json!({"id": "x", "capabilities": ["a", "b"], "ui": {"page": "p", "more": 1}});
        let pins = json!({"capabilities": ["b", "a"], "ui": {"page": "p"}});
        assert_eq!(check(pins, manifest), None);
    }

    #[test]
    fn a_capability_nobody_saw_is_named() {
        let found = check(
            json!({"capabilities": ["a"]}),
            json!({"capabilities": ["a", "b"]}),
        );
        let sentence = r#"spec.manifest.capabilities is ["a"], the package says ["a","b"]."#;
        assert_eq!(found.as_deref(), Some(sentence));
    }

    #[test]
    fn a_missing_field_differs() {
        let found = check(json!({"ui": {"page": "p"}}), json!({"id": "x"}));
        assert_eq!(
            found.as_deref(),
            Some(r#"spec.manifest.ui is {"page":"p"}, the package says nothing."#)
        );
    }
}
