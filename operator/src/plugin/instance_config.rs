//! A plugin's config from its parts: pure, so that every rule can be tested.

use jsonschema::{ValidationError, error::ValidationErrorKind};
use paperclip_bridge::config::{ConfigRevision, DeliveredSecret};
use paperclip_crds::v1alpha1::{ConfigMapKey, PluginConfig, PluginSecret, Reason, SecretUse};
use paperclip_oci::Digest;
use serde_json::{Map, Value, json};

use super::conditions::Finding;

/// More errors of one config help nobody.
const MAX_ERRORS: usize = 5;

/// Config and secret values of a plugin, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// As hosts see it: a reference where a secret belongs.
    pub visible: Map<String, Value>,
    /// Values for the sidecar.
    pub secrets: Vec<DeliveredSecret>,
}

impl Config {
    /// Hash of what hosts see and of what the spec says of secrets. Values are not in it.
    #[must_use]
    pub fn hash(&self, secrets: &[PluginSecret]) -> String {
        let text = json!([self.visible, secrets]).to_string();
        Digest::of(text.as_bytes()).short(16).to_owned()
    }

    /// The config as it is delivered to the sidecars with this revision.
    #[must_use]
    pub fn delivered(&self, revision: u64) -> ConfigRevision {
        ConfigRevision {
            revision,
            config: self.visible.clone(),
            secrets: self.secrets.clone(),
        }
    }
}

/// Joins the inline config with the texts of `defaultFrom`, and puts a reference where a
/// secret belongs. `values` has a value for each of `secrets`, in order.
///
/// # Errors
/// When a text is no object, or a path leads through something that is none.
pub fn join(
    inline: Option<&PluginConfig>,
    texts: &[(&ConfigMapKey, String)],
    secrets: &[PluginSecret],
    values: Vec<String>,
) -> Result<Config, Finding> {
    let mut visible = Map::new();
    for (ConfigMapKey { name, key }, text) in texts {
        visible.extend(parse(text).map_err(|found| {
            let message = format!(
                "Key {key} of ConfigMap {name}, named by spec.config.defaultFrom, holds {found}; wanted an object as JSON or YAML."
            );
            Finding::no(Reason::ConfigInvalid, message)
        })?);
    }
    visible.extend(
        inline
            .map(|config| config.default.clone())
            .unwrap_or_default(),
    );
    for secret in secrets {
        if let Some(path) = &secret.config_path {
            let reference = json!({ "type": "secret_ref", "secretId": secret.name });
            place(&mut visible, path, reference).map_err(|found| {
                let message = format!(
                    "spec.secrets {}: configPath {path} leads through {found}, which holds something that is no object.",
                    secret.name
                );
                Finding::no(Reason::ConfigInvalid, message)
            })?;
        }
    }
    let secrets = secrets
        .iter()
        .zip(values)
        .map(|(secret, value)| DeliveredSecret {
            name: secret.name.clone(),
            fill: secret
                .config_path
                .clone()
                .filter(|_| secret.r#use == SecretUse::Value),
            value,
        })
        .collect();
    Ok(Config { visible, secrets })
}

/// An object from JSON or YAML; else what was found.
fn parse(text: &str) -> Result<Map<String, Value>, String> {
    match serde_saphyr::from_str(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(Value::Null) => Err("nothing".into()),
        Ok(Value::Array(_)) => Err("a list".into()),
        Ok(_) => Err("a single value".into()),
        // A parser's message may quote the text, which is no secret.
        Err(error) => Err(format!("what is neither JSON nor YAML ({error})")),
    }
}

/// Sets the value at a JSON pointer and makes the objects on the way. Fails with the part
/// of the pointer that leads to something else.
fn place<'p>(
    object: &mut Map<String, Value>,
    pointer: &'p str,
    value: Value,
) -> Result<(), &'p str> {
    let mut current = object;
    let mut rest = pointer.trim_start_matches('/');
    while let Some((token, after)) = rest.split_once('/') {
        rest = after;
        let walked = &pointer[..pointer.len() - rest.len() - 1];
        let next = current.entry(unescape(token)).or_insert_with(|| json!({}));
        current = next.as_object_mut().ok_or(walked)?;
    }
    current.insert(unescape(rest), value);
    Ok(())
}

/// RFC 6901, section 4.
fn unescape(token: &str) -> String {
    token.replace("~1", "/").replace("~0", "~")
}

/// Checks a config against the plugin manifest's `instanceConfigSchema`, as the worker will
/// see it. A value of a secret is never part of the message.
///
/// # Errors
/// With a finding that names each field, what was found and what was wanted.
pub fn check(config: &Config, secrets: &[PluginSecret], manifest: &Value) -> Result<(), Finding> {
    let Some(schema) = manifest.get("instanceConfigSchema") else {
        return Ok(());
    };
    if schema.as_object().is_none_or(Map::is_empty) {
        return Ok(());
    }
    let invalid = |message| Err(Finding::no(Reason::ConfigInvalid, message));
    let validator = match jsonschema::options()
        .with_format("secret-ref", |_: &str| true)
        .build(schema)
    {
        Ok(validator) => validator,
        Err(error) => {
            return invalid(format!(
                "The package's instanceConfigSchema is no JSON Schema: {}.",
                error.masked()
            ));
        }
    };
    let mut filled = config.visible.clone();
    for secret in &config.secrets {
        if let Some(path) = &secret.fill {
            let _ = place(&mut filled, path, secret.value.clone().into());
        }
    }
    let instance = Value::Object(filled);
    let errors: Vec<String> = validator
        .iter_errors(&instance)
        .filter(|error| !is_of_reference(error, secrets))
        .map(|error| {
            let at = error.instance_path().to_string();
            let mut paths = secrets
                .iter()
                .filter_map(|secret| secret.config_path.as_deref());
            if paths.any(|path| touches(&at, path)) {
                describe(&at, &error.masked().to_string())
            } else {
                describe(&at, &error.to_string())
            }
        })
        .take(MAX_ERRORS)
        .collect();
    if errors.is_empty() {
        return Ok(());
    }
    invalid(format!(
        "The config breaks the package's instanceConfigSchema: {}.",
        errors.join("; ")
    ))
}

/// Whether an error comes of a reference alone: schemas of the time before references ask for
/// a string. Where a schema names alternatives, one that only a reference breaks is enough.
fn is_of_reference(error: &ValidationError<'_>, secrets: &[PluginSecret]) -> bool {
    let at = error.instance_path().to_string();
    let mut references = secrets
        .iter()
        .filter(|secret| secret.r#use == SecretUse::Reference)
        .filter_map(|secret| secret.config_path.as_deref());
    if references.any(|path| within(&at, path)) {
        return true;
    }
    match error.kind() {
        ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context } => {
            context
                .iter()
                .any(|errors| errors.iter().all(|error| is_of_reference(error, secrets)))
        }
        _ => false,
    }
}

fn describe(at: &str, error: &str) -> String {
    let at = if at.is_empty() { "the config" } else { at };
    format!("{at}: {error}")
}

/// Whether `at` is the path or lies below it.
fn within(at: &str, path: &str) -> bool {
    at.strip_prefix(path)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether an error at `at` may show what stands at the path.
fn touches(at: &str, path: &str) -> bool {
    within(at, path) || within(path, at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use paperclip_crds::v1alpha1::SecretKey;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    fn inline(value: Value) -> PluginConfig {
        PluginConfig {
            default: object(value),
            default_from: Vec::new(),
        }
    }

    fn secret(name: &str, path: &str, r#use: SecretUse) -> PluginSecret {
        PluginSecret {
            name: name.into(),
            secret_ref: SecretKey {
                name: "access".into(),
                key: name.into(),
            },
            config_path: Some(path.into()),
            r#use,
        }
    }

    fn key(name: &str) -> ConfigMapKey {
        ConfigMapKey {
            name: name.into(),
            key: "c".into(),
        }
    }

    #[test]
    fn inline_wins_over_later_texts_over_earlier_ones() {
        let (first, second) = (key("first"), key("second"));
        let texts = [
            (&first, "a: 1\nb: 1\nc: 1\n".to_owned()),
            (&second, "{\"b\": 2, \"c\": 2}".to_owned()),
        ];
        let config = join(Some(&inline(json!({"c": 3}))), &texts, &[], Vec::new()).unwrap();
        assert_eq!(config.visible, object(json!({"a": 1, "b": 2, "c": 3})));
    }

    #[test]
    fn a_text_that_is_no_object_is_named() {
        let map = key("shared");
        let refused = join(None, &[(&map, "- 1\n".into())], &[], Vec::new()).unwrap_err();
        assert_eq!(refused.reason, Reason::ConfigInvalid);
        assert!(refused.message.contains("ConfigMap shared") && refused.message.contains("a list"));
    }

    #[test]
    fn hosts_see_references_and_sidecars_get_values() {
        let secrets = [
            secret("token", "/token", SecretUse::Reference),
            secret("password", "/smtp/pass~1word", SecretUse::Value),
        ];
        let values = vec!["t0p".to_owned(), "s3cret".to_owned()];
        let config = join(Some(&inline(json!({"a": 1}))), &[], &secrets, values).unwrap();
        assert_eq!(
            config.visible,
            object(json!({
                "a": 1,
                "token": {"type": "secret_ref", "secretId": "token"},
                "smtp": {"pass/word": {"type": "secret_ref", "secretId": "password"}},
            }))
        );
        assert_eq!(config.secrets[0].fill, None);
        assert_eq!(config.secrets[1].fill.as_deref(), Some("/smtp/pass~1word"));
        assert!(!format!("{config:?}").contains("s3cret"));
    }

    #[test]
    fn a_path_through_a_value_is_refused() {
        let secrets = [secret("token", "/a/b", SecretUse::Reference)];
        let refused = join(
            Some(&inline(json!({"a": 1}))),
            &[],
            &secrets,
            vec![String::new()],
        );
        assert!(refused.unwrap_err().message.contains("leads through /a,"));
    }

    fn manifest() -> Value {
        json!({"instanceConfigSchema": {
            "type": "object", "additionalProperties": false,
            "properties": {
                "size": {"type": "integer"},
                "token": {"type": "string", "format": "secret-ref"},
                "password": {"type": "string", "maxLength": 3},
            },
        }})
    }

    #[test]
    fn what_breaks_the_schema_is_named_with_what_was_found_and_wanted() {
        let config = join(
            Some(&inline(json!({"size": "many", "odd": 1}))),
            &[],
            &[],
            Vec::new(),
        );
        let refused = check(&config.unwrap(), &[], &manifest()).unwrap_err();
        assert_eq!(refused.reason, Reason::ConfigInvalid);
        for words in ["/size", "many", "integer", "odd"] {
            assert!(
                refused.message.contains(words),
                "{words} in {}",
                refused.message
            );
        }
    }

    #[test]
    fn a_reference_fits_where_an_older_schema_wants_text() {
        let secrets = [secret("token", "/token", SecretUse::Reference)];
        let config = join(None, &[], &secrets, vec!["t0p".into()]).unwrap();
        assert_eq!(check(&config, &secrets, &manifest()), Ok(()));
    }

    /// A schema in which a mail server is one of two things.
    fn alternatives(keyword: &str) -> Value {
        json!({"instanceConfigSchema": {"properties": {"mail": {keyword: [
            {"properties": {"host": {"type": "string"}, "password": {"type": "string"}},
             "required": ["host", "password"]},
            {"properties": {"relay": {"type": "string"}}, "required": ["relay"]},
        ]}}}})
    }

    #[test]
    fn a_reference_fits_where_one_of_several_alternatives_wants_text() {
        let secrets = [secret("password", "/mail/password", SecretUse::Reference)];
        let with = |mail: Value| {
            let inline = inline(json!({ "mail": mail }));
            join(Some(&inline), &[], &secrets, vec!["t0p".into()]).unwrap()
        };
        for keyword in ["anyOf", "oneOf"] {
            let manifest = alternatives(keyword);
            let fits = with(json!({"host": "smtp.example"}));
            assert_eq!(check(&fits, &secrets, &manifest), Ok(()), "{keyword}");
            let wrong = with(json!({"host": 25}));
            let refused = check(&wrong, &secrets, &manifest).unwrap_err();
            assert!(refused.message.contains("/mail"), "{}", refused.message);
        }
    }

    #[test]
    fn a_value_must_fit_one_of_several_alternatives() {
        let secrets = [secret("password", "/mail/password", SecretUse::Value)];
        let inline = inline(json!({"mail": {"host": 25}}));
        let config = join(Some(&inline), &[], &secrets, vec!["s3cret".into()]).unwrap();
        let refused = check(&config, &secrets, &alternatives("anyOf")).unwrap_err();
        assert!(!refused.message.contains("s3cret"), "{}", refused.message);
    }

    #[test]
    fn a_secret_that_breaks_the_schema_is_not_shown() {
        let secrets = [secret("password", "/password", SecretUse::Value)];
        let config = join(None, &[], &secrets, vec!["s3cret".into()]).unwrap();
        let refused = check(&config, &secrets, &manifest()).unwrap_err();
        assert!(refused.message.contains("/password"), "{}", refused.message);
        assert!(!refused.message.contains("s3cret"), "{}", refused.message);
    }

    #[test]
    fn the_hash_is_of_what_is_asked_for_and_of_no_value() {
        let secrets = [secret("token", "/token", SecretUse::Reference)];
        let with = |value: &str| join(None, &[], &secrets, vec![value.into()]).unwrap();
        assert_eq!(with("a").hash(&secrets), with("b").hash(&secrets));
        let mut other = secrets.clone();
        other[0].secret_ref.key = "another".into();
        assert_ne!(with("a").hash(&other), with("a").hash(&secrets));
    }
}
