//! Takes secret values out of texts that leave the pod.

use std::collections::BTreeSet;

/// The text in place of a value.
const REDACTED: &str = "[redacted]";
/// Shorter values would take ordinary words out of every text.
const SHORTEST: usize = 4;
/// Values remembered: rotated ones stay secret.
const MOST: usize = 1024;

/// Values in the forms in which programs print them.
#[derive(Debug, Default)]
pub struct Redactor {
    /// Longest first, so that a value within another leaves nothing of the longer one.
    forms: Vec<Form>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Form(String);

impl std::fmt::Debug for Form {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(REDACTED)
    }
}

impl Redactor {
    /// The same, and these values.
    pub fn with<'v>(&self, values: impl Iterator<Item = &'v str>) -> Self {
        let new = values.flat_map(forms).map(Form);
        let all: BTreeSet<Form> = self.forms.iter().cloned().chain(new).collect();
        let mut forms: Vec<Form> = all.into_iter().take(MOST).collect();
        forms.sort_by_key(|form| std::cmp::Reverse(form.0.len()));
        Self { forms }
    }

    /// The text without the values.
    pub fn apply(&self, text: &str) -> String {
        self.forms.iter().fold(text.to_owned(), |text, form| {
            if text.contains(&form.0) {
                text.replace(&form.0, REDACTED)
            } else {
                text
            }
        })
    }
}

/// The value itself and line by line, as JSON writes it, and in base64.
fn forms(value: &str) -> Vec<String> {
    use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
    let json = serde_json::Value::from(value).to_string();
    let mut forms = vec![
        value.to_owned(),
        json.trim_matches('"').to_owned(),
        STANDARD_NO_PAD.encode(value),
    ];
    // A key in PEM is printed a line at a time.
    forms.extend(value.lines().map(str::to_owned));
    forms.retain(|form| form.len() >= SHORTEST);
    forms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_taken_out_in_each_of_its_forms() {
        let redactor = Redactor::default().with(["pa\"ss", "ab", "line one\nline two"].into_iter());
        let redacted = |text: &str| redactor.apply(text);
        assert_eq!(redacted("x pa\"ss y"), "x [redacted] y");
        assert_eq!(redacted(r#"{"k":"pa\"ss"}"#), r#"{"k":"[redacted]"}"#);
        assert_eq!(redacted("cGEic3M="), "[redacted]=");
        assert_eq!(redacted("got line two"), "got [redacted]");
        assert_eq!(redacted("ab stays"), "ab stays");
        assert!(!format!("{redactor:?}").contains("pa"));
    }

    #[test]
    fn a_value_within_another_leaves_nothing_of_the_longer() {
        let redactor = Redactor::default().with(["secret", "my-secret-long"].into_iter());
        assert_eq!(redactor.apply("my-secret-long"), REDACTED);
    }
}
