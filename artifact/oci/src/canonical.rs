//! One spelling for each JSON value: keys in bytewise order.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// The value with the keys of every object in bytewise order, compact.
#[must_use]
pub fn compact(value: &Value) -> Vec<u8> {
    serde_json::to_vec(&sorted(value)).expect("a JSON value is always JSON")
}

/// As [`compact`], indented for people to read and compare, with a newline at the end.
#[must_use]
pub fn readable(value: &Value) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(&sorted(value)).expect("a JSON value is always JSON");
    text.push(b'\n');
    text
}

/// Sorts whether or not the map type keeps the order of insertion, which is a feature
/// that any crate in a build may switch on.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(object) => {
            let ordered: BTreeMap<_, _> =
                object.iter().map(|(k, v)| (k.clone(), sorted(v))).collect();
            Value::Object(Map::from_iter(ordered))
        }
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_of_keys_does_not_matter_and_order_of_items_does() {
        let parse = |text: &str| compact(&serde_json::from_str(text).unwrap());
        assert_eq!(
            parse(r#"{"b":[{"d":1,"c":2}],"a":0}"#),
            br#"{"a":0,"b":[{"c":2,"d":1}]}"#
        );
        assert_ne!(parse("[1,2]"), parse("[2,1]"));
    }
}
