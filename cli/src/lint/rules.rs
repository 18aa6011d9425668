//! The CEL rules of a schema (`x-kubernetes-validations`), as the API server runs them on create.

use std::collections::HashMap;

use cel::{Context, Program, Value as CelValue};
use serde_json::Value;

use super::{Fault, INVALID, document::escape, shown};

/// Checks a value against the rules at its place of the schema and below.
pub(super) fn check(schema: &Value, value: &Value, at: &str, faults: &mut Vec<Fault>) {
    let rules = schema["x-kubernetes-validations"].as_array();
    for rule in rules.into_iter().flatten() {
        faults.extend(broken(rule, value, at));
    }
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let below = schema["properties"].get(key);
                if let Some(below) = below.or_else(|| schema.get("additionalProperties")) {
                    check(below, value, &format!("{at}/{}", escape(key)), faults);
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                check(&schema["items"], item, &format!("{at}/{index}"), faults);
            }
        }
        _ => {}
    }
}

/// The fault, if the value breaks the rule. A rule on a change says nothing of a new object.
fn broken(rule: &Value, value: &Value, at: &str) -> Option<Fault> {
    let text = rule["rule"].as_str().unwrap_or_default();
    let field = only_field(text);
    let fault = |wanted: String| {
        Some(Fault {
            at: format!("{at}{field}"),
            reason: INVALID,
            found: shown(value.pointer(&field).unwrap_or(&Value::Null)),
            wanted,
        })
    };
    let program = match Program::compile(text) {
        Ok(program) => program,
        Err(error) => return fault(format!("a rule that can be read, not {text}: {error}")),
    };
    if program.references().has_variable("oldSelf") {
        return None;
    }
    let mut context = Context::default();
    context.add_variable_from_value("self", from_json(value));
    match program.execute(&context) {
        Ok(CelValue::Bool(true)) => None,
        Ok(CelValue::Bool(false)) => {
            let said = rule["message"].as_str().map(str::to_owned);
            fault(said.unwrap_or_else(|| format!("{text} to hold")))
        }
        Ok(other) => fault(format!("{text} to be true or false, not {other:?}")),
        Err(error) => fault(format!("{text} to hold, which cannot be told: {error}")),
    }
}

/// JSON pointer of the field a rule is about; empty, which is the value itself, for a rule on more
/// than one field.
fn only_field(rule: &str) -> String {
    let is_name = |letter: char| letter.is_ascii_alphanumeric() || "_.".contains(letter);
    let mut fields = rule.split("self.").skip(1).map(|rest| {
        let end = rest.find(|letter| !is_name(letter)).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        // The last word before a bracket is a function.
        let is_call = after.starts_with('(');
        let field = if is_call {
            name.rsplit_once('.').map(|(field, _)| field)
        } else {
            Some(name)
        };
        field.unwrap_or_default()
    });
    let Some(first) = fields.next() else {
        return String::new();
    };
    match fields.all(|field| field == first) && !first.is_empty() {
        true => format!("/{}", first.replace('.', "/")),
        false => String::new(),
    }
}

/// A value of JSON in CEL: a whole number is an `int`, as it is for the API server.
fn from_json(value: &Value) -> CelValue {
    match value {
        Value::Null => CelValue::Null,
        Value::Bool(value) => CelValue::Bool(*value),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => CelValue::Int(whole),
            None => CelValue::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => text.as_str().into(),
        Value::Array(items) => items.iter().map(from_json).collect::<Vec<_>>().into(),
        Value::Object(fields) => {
            let fields = fields
                .iter()
                .map(|(key, value)| (key.clone(), from_json(value)));
            fields.collect::<HashMap<_, _>>().into()
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn faults(rule: &str, value: &Value) -> Vec<Fault> {
        let schema = json!({"x-kubernetes-validations": [{"rule": rule, "message": "m"}]});
        let mut faults = Vec::new();
        check(&schema, value, "", &mut faults);
        faults
    }

    #[test]
    fn a_rule_on_one_field_names_it() {
        assert_eq!(
            only_field("self.metadata.name.matches('x')"),
            "/metadata/name"
        );
        assert_eq!(only_field("size(self.a) > 0 && self.a != 'b'"), "/a");
        assert_eq!(only_field("self.a || self.b"), "");
        assert_eq!(only_field("self.all(x, x > 1)"), "");
    }

    #[test]
    fn the_words_of_cel_that_rules_are_written_in_work() {
        let value = json!({"list": [1, 2], "text": "abc", "number": 3, "map": {"a": 1}});
        let rules = [
            ("has(self.text)", "has(self.gone)"),
            ("size(self.list) == 2", "self.list.size() > 2"),
            ("self.list.all(x, x > 0)", "self.list.exists(x, x > 2)"),
            ("self.text.matches('^a.c$')", "self.text.startsWith('b')"),
            ("'a' in self.map", "'b' in self.map"),
            ("self.number + 1 == 4", "self.number < 1"),
            (
                "!has(self.gone) || self.gone == 1",
                "has(self.gone) ? true : false",
            ),
        ];
        for (holds, breaks) in rules {
            assert_eq!(faults(holds, &value), [], "{holds}");
            assert_eq!(faults(breaks, &value).len(), 1, "{breaks}");
        }
    }

    #[test]
    fn a_rule_on_a_change_is_not_run_and_one_that_fails_is_a_fault() {
        assert_eq!(faults("self.a == oldSelf.a", &json!({"a": 1})), []);
        assert_eq!(faults("self.gone == 1", &json!({"a": 1})).len(), 1);
        assert_eq!(faults("self.(", &json!({"a": 1})).len(), 1);
    }
}
