//! YAML documents that know the line of each field.

use std::collections::HashMap;

use kube::Resource;
use paperclip_crds::v1alpha1::PaperclipPlugin;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};
use serde_saphyr::Spanned;

use super::{BAD_REQUEST, Fault, File, Finding};

/// One object of a file.
#[derive(Debug)]
pub struct Document {
    file: String,
    /// Of objects that name none; None where that is not known.
    namespace: Option<String>,
    value: Value,
    /// By JSON pointer.
    lines: HashMap<String, u64>,
}

/// Reads the documents of a file; empty ones are left out, and a `List` is its items.
///
/// # Errors
/// With a finding when the text is no YAML.
pub(super) fn read(file: &File, namespace: Option<&str>) -> Result<Vec<Document>, Box<Finding>> {
    let trees: Vec<Spanned<Tree>> = serde_saphyr::from_multiple(&file.text)
        .map_err(|error| Box::new(unreadable(file, &error)))?;
    let mut documents = Vec::new();
    for tree in trees {
        let mut lines = HashMap::new();
        let line = tree.referenced.line();
        let value = tree.value.into_value(String::new(), line, &mut lines);
        if value.is_null() {
            continue;
        }
        let document = Document {
            file: file.name.clone(),
            namespace: namespace.map(str::to_owned),
            value,
            lines,
        };
        documents.extend(document.into_items());
    }
    Ok(documents)
}

fn unreadable(file: &File, error: &serde_saphyr::Error) -> Finding {
    Finding {
        file: file.name.clone(),
        line: error.location().map(|location| location.line()),
        kind: String::new(),
        object: String::new(),
        field: String::new(),
        reason: BAD_REQUEST,
        found: said(error),
        wanted: "YAML or JSON".into(),
    }
}

/// What the parser says, without the place before it and the excerpt it draws below.
fn said(error: &serde_saphyr::Error) -> String {
    let text = error.to_string();
    let mut first = text.lines().next().unwrap_or_default();
    while let Some((place, rest)) = first.split_once(": ")
        && (place == "error" || place.starts_with("line "))
    {
        first = rest;
    }
    first.trim_end_matches('.').to_owned()
}

impl Document {
    /// The object.
    #[must_use]
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// `apiVersion` and `kind`.
    pub(super) fn type_of(&self) -> Option<(&str, &str)> {
        let word = |field: &str| self.value.get(field).and_then(Value::as_str);
        Some((word("apiVersion")?, word("kind")?))
    }

    /// The object as a type of this release, if it is of that kind, in its namespace.
    pub(super) fn parse<K>(&self) -> Option<K>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned,
    {
        let wanted = (K::api_version(&()), K::kind(&()));
        if self.type_of()? != (&*wanted.0, &*wanted.1) {
            return None;
        }
        let mut object: K = serde_json::from_value(self.value.clone()).ok()?;
        let own = object.meta_mut().namespace.take();
        object.meta_mut().namespace = own.or_else(|| self.namespace.clone());
        Some(object)
    }

    /// Faults with the place where they stand.
    pub(super) fn findings(&self, faults: Vec<Fault>) -> impl Iterator<Item = Finding> {
        faults.into_iter().map(|fault| Finding {
            file: self.file.clone(),
            line: self.line(&fault.at),
            kind: self.value["kind"].as_str().unwrap_or_default().to_owned(),
            object: self.name(),
            field: self.field(&fault.at),
            reason: fault.reason,
            found: fault.found,
            wanted: fault.wanted,
        })
    }

    fn name(&self) -> String {
        let of = |field: &str| self.value["metadata"][field].as_str();
        let name = of("name").unwrap_or("without a name");
        match of("namespace").or(self.namespace.as_deref()) {
            Some(namespace) => format!("{namespace}/{name}"),
            None => name.to_owned(),
        }
    }

    /// Line of the field, or of the nearest object above that is there.
    fn line(&self, pointer: &str) -> Option<u64> {
        let mut at = pointer;
        loop {
            if let Some(line) = self.lines.get(at) {
                return Some(*line);
            }
            at = &at[..at.rfind('/')?];
        }
    }

    /// A JSON pointer as the API server writes it: `spec.secrets[0].name`.
    fn field(&self, pointer: &str) -> String {
        let mut text = String::new();
        let mut walked = String::new();
        for token in pointer.split('/').skip(1) {
            let is_list = self.value.pointer(&walked).is_some_and(Value::is_array);
            walked = format!("{walked}/{token}");
            if is_list {
                text.push_str(&format!("[{token}]"));
                continue;
            }
            if !text.is_empty() {
                text.push('.');
            }
            text.push_str(&unescape(token));
        }
        text
    }

    /// The items of a `List`, else the object itself.
    fn into_items(mut self) -> Vec<Self> {
        let is_list = self.type_of().is_some_and(|(_, kind)| {
            kind == "List" || kind == format!("{}List", PaperclipPlugin::kind(&()))
        });
        if !is_list {
            return vec![self];
        }
        let Value::Array(items) = self.value["items"].take() else {
            return vec![self];
        };
        let below = |index: usize| {
            let prefix = format!("/items/{index}");
            let lines = self.lines.iter().filter_map(|(at, line)| {
                let rest = at.strip_prefix(&prefix)?;
                (rest.is_empty() || rest.starts_with('/')).then(|| (rest.to_owned(), *line))
            });
            lines.collect()
        };
        let item = |(index, value)| Self {
            file: self.file.clone(),
            namespace: self.namespace.clone(),
            value,
            lines: below(index),
        };
        items.into_iter().enumerate().map(item).collect()
    }
}

/// One part of a JSON pointer for a key, RFC 6901.
pub(super) fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// The key of one part of a JSON pointer.
fn unescape(token: &str) -> String {
    token.replace("~1", "/").replace("~0", "~")
}

/// A value as it stands in the text, with the line of each key and item.
#[derive(Debug)]
enum Tree {
    Scalar(Value),
    List(Vec<Spanned<Tree>>),
    Object(Vec<(Spanned<String>, Tree)>),
}

impl Tree {
    fn into_value(self, at: String, line: u64, lines: &mut HashMap<String, u64>) -> Value {
        lines.insert(at.clone(), line);
        match self {
            Self::Scalar(value) => value,
            Self::List(items) => {
                let item = |(index, item): (usize, Spanned<Self>)| {
                    let line = item.referenced.line();
                    item.value.into_value(format!("{at}/{index}"), line, lines)
                };
                Value::Array(items.into_iter().enumerate().map(item).collect())
            }
            Self::Object(fields) => {
                let field = |(key, value): (Spanned<String>, Self)| {
                    let line = key.referenced.line();
                    let at = format!("{at}/{}", escape(&key.value));
                    (key.value, value.into_value(at, line, lines))
                };
                Value::Object(fields.into_iter().map(field).collect::<Map<_, _>>())
            }
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a value that JSON can hold")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Tree, E> {
        Ok(Tree::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        Tree::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Tree, E> {
        let number = Number::from_f64(value)
            .ok_or_else(|| E::custom(format!("{value} is no number of JSON")))?;
        Ok(Tree::Scalar(number.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.into()))
    }

    fn visit_string<E>(self, value: String) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Tree::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Tree, A::Error> {
        let mut object: Vec<(Spanned<String>, Tree)> = Vec::new();
        while let Some((key, value)) = fields.next_entry::<Spanned<String>, Tree>()? {
            if object.iter().any(|(known, _)| known.value == key.value) {
                return Err(A::Error::custom(format!("key {:?} twice", key.value)));
            }
            object.push((key, value));
        }
        Ok(Tree::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documents(text: &str) -> Vec<Document> {
        let file = File {
            name: "f.yaml".into(),
            text: text.into(),
        };
        read(&file, None).unwrap()
    }

    #[test]
    fn each_field_knows_its_line_in_the_file() {
        let text = "a: 1\n---\nkind: X\nspec:\n  list:\n  - one\n  - deep:\n      x/y: true\n";
        let documents = documents(text);
        let document = &documents[1];
        let lines = [
            "/kind",
            "/spec/list/1",
            "/spec/list/1/deep/x~1y",
            "/spec/gone/far",
        ];
        assert_eq!(lines.map(|at| document.line(at)), [3, 7, 8, 4].map(Some));
        assert_eq!(
            document.field("/spec/list/1/deep/x~1y"),
            "spec.list[1].deep.x/y"
        );
    }

    #[test]
    fn a_list_is_its_items_with_their_own_lines() {
        let text = "apiVersion: v1\nkind: List\nitems:\n- kind: A\n- kind: B\n  spec: {}\n";
        let documents = documents(text);
        assert_eq!(documents.len(), 2);
        assert_eq!(documents[1].line("/spec"), Some(6));
    }

    #[test]
    fn empty_documents_are_nothing() {
        assert!(documents("---\n---\n# nothing\n").is_empty());
    }
}
