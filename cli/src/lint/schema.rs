//! The OpenAPI schema of a kind, as the API server applies it to a new object.
//!
//! Defaults are filled in before anything is checked, for the CEL rules see them, too. Unknown
//! fields are faults, as with `kubectl --validate=strict`. `status` is the operator's.

use jsonschema::{ValidationError, Validator, error::ValidationErrorKind as Kind};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::JsonSchema as _;
use serde_json::{Map, Value, json};

use super::{
    BAD_REQUEST, Fault, INVALID,
    document::{Document, escape},
    rules, shown,
};

/// Kinds that people write. Revisions are the operator's.
const WRITTEN: [&str; 3] = ["PaperclipPlugin", "PaperclipHost", "PaperclipTrustPolicy"];

/// The kinds that can be checked.
pub(super) struct Kinds(Vec<KindOf>);

/// One kind.
pub(super) struct KindOf {
    api_version: String,
    name: String,
    schema: Value,
    validator: Validator,
}

impl Kinds {
    /// Those of the definitions this program was built with.
    ///
    /// # Panics
    /// When a definition is broken, which a test rules out.
    pub(super) fn of_this_release() -> Self {
        let definitions = paperclip_crds::definitions().into_iter();
        let written = definitions.filter(|found| WRITTEN.contains(&found.spec.names.kind.as_str()));
        let kind = |definition: k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition| {
            let version = &definition.spec.versions[0];
            let schema = version.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref());
            let mut schema = json!(schema);
            // What every object has, the definition leaves to the API server.
            schema["properties"]["apiVersion"] = json!({"type": "string"});
            schema["properties"]["kind"] = json!({"type": "string"});
            schema["properties"]["metadata"] = metadata_schema();
            KindOf {
                api_version: format!("{}/{}", definition.spec.group, version.name),
                name: definition.spec.names.kind.clone(),
                validator: jsonschema::draft202012::new(&as_json_schema(&schema))
                    .expect("the schemas of this release are JSON Schemas, as a test shows"),
                schema,
            }
        };
        Self(written.map(kind).collect())
    }

    /// The kind of a document, if it is one of ours.
    pub(super) fn of(&self, document: &Document) -> Option<&KindOf> {
        let (api_version, name) = document.type_of()?;
        let mut kinds = self.0.iter();
        kinds.find(|kind| kind.api_version == api_version && kind.name == name)
    }
}

impl KindOf {
    /// What the API server would refuse.
    pub(super) fn check(&self, document: &Document) -> Vec<Fault> {
        self.check_value(document.value())
    }

    fn check_value(&self, value: &Value) -> Vec<Fault> {
        let mut value = value.clone();
        if let Some(fields) = value.as_object_mut() {
            fields.remove("status");
        }
        let mut faults = Vec::new();
        check_metadata(&value["metadata"], &mut faults);
        complete_name(&mut value);
        find_unknown(&self.schema, &value, "", &mut faults);
        fill_in(&self.schema, &mut value);
        let invalid = self.validator.iter_errors(&value);
        faults.extend(invalid.map(|error| self.fault(&error)));
        find_twins(&self.schema, &value, "", &mut faults);
        // As the API server: rules may rely on what the schema says.
        if faults.iter().all(|fault| fault.reason != INVALID) {
            rules::check(&self.schema, &value, "", &mut faults);
        }
        faults
    }

    fn fault(&self, error: &ValidationError<'_>) -> Fault {
        let at = error.instance_path().to_string();
        let mut fault = Fault {
            at,
            reason: INVALID,
            found: shown(error.instance()),
            wanted: String::new(),
        };
        fault.wanted = match error.kind() {
            Kind::Required { property } => {
                let property = property.as_str().unwrap_or_default();
                fault.at = format!("{}/{}", fault.at, escape(property));
                fault.found = "nothing".into();
                "a value, which is required".into()
            }
            Kind::OneOfNotValid { .. } | Kind::OneOfMultipleValid { .. } => {
                let schema = json!(self.schema);
                let choices = schema.pointer(&error.schema_path().to_string());
                let choices = choices.and_then(Value::as_array).into_iter().flatten();
                let names = choices.filter_map(|choice| choice["required"][0].as_str());
                format!("exactly one of {}", names.collect::<Vec<_>>().join(", "))
            }
            kind => wanted(kind).unwrap_or_else(|| error.masked().to_string()),
        };
        fault
    }
}

/// What a keyword asks for. None for keywords that say it themselves.
pub(super) fn wanted(kind: &Kind) -> Option<String> {
    Some(match kind {
        Kind::Pattern { pattern } => format!("text that matches {pattern}"),
        Kind::MinLength { limit } => format!("at least {limit} characters"),
        Kind::MaxLength { limit } => format!("at most {limit} characters"),
        Kind::MinItems { limit } => format!("at least {limit} items"),
        Kind::MaxItems { limit } => format!("at most {limit} items"),
        Kind::Minimum { limit } => format!("at least {}", number(limit)),
        Kind::Maximum { limit } => format!("at most {}", number(limit)),
        Kind::ExclusiveMinimum { limit } => format!("more than {}", number(limit)),
        Kind::ExclusiveMaximum { limit } => format!("less than {}", number(limit)),
        Kind::Constant { expected_value } => expected_value.to_string(),
        Kind::Format { format } => format!("the format {format}"),
        Kind::Enum { options } => {
            let options = options.as_array().into_iter().flatten().map(shown);
            format!("one of {}", options.collect::<Vec<_>>().join(", "))
        }
        Kind::Type { kind } => match kind {
            jsonschema::error::TypeKind::Single(one) => format!("type {one}"),
            jsonschema::error::TypeKind::Multiple(types) => {
                let words = types.iter().map(|one| one.to_string());
                let words = words.filter(|word| word != "null");
                format!("type {}", words.collect::<Vec<_>>().join(" or "))
            }
        },
        _ => return None,
    })
}

/// A limit as it was written: definitions hold limits as floating-point numbers.
fn number(limit: &Value) -> String {
    let whole = limit.as_f64().filter(|limit| limit.fract() == 0.0);
    whole.map_or_else(|| limit.to_string(), |whole| format!("{whole:.0}"))
}

/// An OpenAPI schema of Kubernetes as a JSON Schema: `nullable` becomes a type, and formats
/// that are widths of numbers go.
fn as_json_schema(schema: &Value) -> Value {
    let Value::Object(fields) = schema else {
        return match schema {
            Value::Array(items) => items.iter().map(as_json_schema).collect(),
            other => other.clone(),
        };
    };
    let mut made = Map::new();
    for (key, value) in fields {
        let value = match key.as_str() {
            // Below `properties` stand names, not keywords.
            "properties" => {
                let fields = value.as_object().into_iter().flatten();
                fields
                    .map(|(name, schema)| (name.clone(), as_json_schema(schema)))
                    .collect::<Map<_, _>>()
                    .into()
            }
            "items" | "additionalProperties" | "not" | "allOf" | "anyOf" | "oneOf" => {
                as_json_schema(value)
            }
            "type" if schema["nullable"] == true => json!([value, "null"]),
            "enum" if schema["nullable"] == true => {
                let mut options = value.as_array().cloned().unwrap_or_default();
                options.push(Value::Null);
                options.into()
            }
            "nullable" | "description" | "default" => continue,
            keyword if keyword.starts_with("x-kubernetes-") => continue,
            _ => value.clone(),
        };
        made.insert(key.clone(), value);
    }
    made.into()
}

/// Fills in defaults, from the outside to the inside. A null that may not be one counts as absent.
fn fill_in(schema: &Value, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, below) in schema["properties"].as_object().into_iter().flatten() {
                let is_absent = fields
                    .get(name)
                    .is_none_or(|found| found.is_null() && below["nullable"] != true);
                if let Some(default) = below.get("default").filter(|_| is_absent) {
                    fields.insert(name.clone(), default.clone());
                }
                if let Some(value) = fields.get_mut(name) {
                    fill_in(below, value);
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                fill_in(&schema["items"], item);
            }
        }
        _ => {}
    }
}

/// Fields that the schema does not know, and where it does not say that any are welcome.
fn find_unknown(schema: &Value, value: &Value, at: &str, faults: &mut Vec<Fault>) {
    match (value, schema["properties"].as_object()) {
        (Value::Object(fields), Some(known)) => {
            for (name, value) in fields {
                let at = format!("{at}/{}", escape(name));
                match known.get(name) {
                    Some(below) => find_unknown(below, value, &at, faults),
                    None if schema["x-kubernetes-preserve-unknown-fields"] == true => {}
                    None => faults.push(unknown(at, known.keys())),
                }
            }
        }
        (Value::Array(items), _) => {
            for (index, item) in items.iter().enumerate() {
                find_unknown(&schema["items"], item, &format!("{at}/{index}"), faults);
            }
        }
        _ => {}
    }
}

fn unknown<'n>(at: String, known: impl Iterator<Item = &'n String>) -> Fault {
    let known: Vec<&str> = known.map(String::as_str).collect();
    Fault {
        at,
        reason: BAD_REQUEST,
        found: "an unknown field".into(),
        wanted: format!("one of {}", known.join(", ")),
    }
}

/// The fields of `metadata`, whose types are checked by reading them.
fn metadata_schema() -> Value {
    let mut generator = schemars::SchemaGenerator::default();
    let schema = json!(ObjectMeta::json_schema(&mut generator));
    let names = schema["properties"].as_object().into_iter().flatten();
    let any = names.map(|(name, _)| (name.clone(), json!({"nullable": true})));
    json!({"type": "object", "properties": any.collect::<Map<_, _>>()})
}

/// What the API server cannot read as metadata, or misses in it.
fn check_metadata(metadata: &Value, faults: &mut Vec<Fault>) {
    let mut refuse = |at: String, reason, found, wanted: &str| {
        faults.push(Fault {
            at,
            reason,
            found,
            wanted: wanted.into(),
        });
    };
    if metadata["name"].is_null() && metadata["generateName"].is_null() {
        let at = "/metadata/name".into();
        refuse(at, INVALID, "nothing".into(), "a name, or generateName");
    }
    // What YAML takes for a number or a boolean is the usual mistake, so it is told where it stands.
    for field in ["labels", "annotations"] {
        for (name, value) in metadata[field].as_object().into_iter().flatten() {
            if !value.is_string() {
                let at = format!("/metadata/{field}/{}", escape(name));
                refuse(at, BAD_REQUEST, shown(value), "text, in quotes");
            }
        }
    }
    if let Err(error) = serde_json::from_value::<ObjectMeta>(metadata.clone())
        && faults.is_empty()
    {
        faults.push(Fault {
            at: "/metadata".into(),
            reason: BAD_REQUEST,
            found: error.to_string(),
            wanted: "the metadata of an object".into(),
        });
    }
}

/// The API server makes the name from `generateName` before it looks at the rules.
fn complete_name(value: &mut Value) {
    if let Some(metadata) = value["metadata"].as_object_mut()
        && metadata.get("name").is_none_or(Value::is_null)
        && let Some(begin) = metadata.get("generateName").and_then(Value::as_str)
    {
        let name = format!("{begin}00000");
        metadata.insert("name".into(), name.into());
    }
}

/// Items of a list that are one and the same by the list's keys.
fn find_twins(schema: &Value, value: &Value, at: &str, faults: &mut Vec<Fault>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let below = &schema["properties"][name];
                find_twins(below, value, &format!("{at}/{}", escape(name)), faults);
            }
        }
        Value::Array(items) => {
            let keys = schema["x-kubernetes-list-map-keys"].as_array();
            let identity = |item: &Value| -> Option<Vec<Value>> {
                let keys = keys?.iter().filter_map(Value::as_str);
                Some(keys.map(|key| item[key].clone()).collect())
            };
            for (index, item) in items.iter().enumerate() {
                let at = format!("{at}/{index}");
                let own = identity(item);
                if let Some(own) = own.as_ref()
                    && items[..index]
                        .iter()
                        .any(|one| identity(one).as_ref() == Some(own))
                {
                    let words: Vec<String> = own.iter().map(shown).collect();
                    faults.push(Fault {
                        at: at.clone(),
                        reason: INVALID,
                        found: format!("{} twice", words.join(", ")),
                        wanted: "each once".into(),
                    });
                }
                find_twins(&schema["items"], item, &at, faults);
            }
        }
        _ => {}
    }
}
