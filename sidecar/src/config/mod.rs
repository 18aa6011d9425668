//! Config and secrets of the plugin: what the worker runs with, and what of it may be seen.

pub mod apply;
pub mod follow;
mod redact;

use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use paperclip_bridge::config::{ConfigRevision, DeliveredSecret};
use serde::Deserialize;
use serde_json::{Map, Value};

use redact::Redactor;

/// Config and secrets that the worker runs with, shared by everything that speaks to it.
#[derive(Debug, Default)]
pub struct Settings(RwLock<Held>);

#[derive(Debug, Default)]
struct Held {
    current: Option<Arc<ConfigRevision>>,
    /// The revision that a worker accepted last.
    accepted: u64,
    /// The revision that was sent to the worker, not just is about to be.
    sent: u64,
    redactor: Arc<Redactor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResolveParams {
    secret_ref: SecretRef,
}

/// A reference as a worker hands it back, in its two forms.
#[derive(Deserialize)]
#[serde(untagged)]
enum SecretRef {
    Object {
        #[serde(rename = "secretId")]
        secret_id: String,
    },
    Text(String),
}

impl Settings {
    /// From now on the worker reads this.
    pub fn hold(&self, revision: Option<Arc<ConfigRevision>>) {
        let mut held = self.0.write().unwrap_or_else(PoisonError::into_inner);
        held.current = revision;
    }

    /// A worker accepted this revision: its successors get it unasked.
    pub fn accept(&self, revision: u64) {
        let mut held = self.0.write().unwrap_or_else(PoisonError::into_inner);
        held.accepted = revision;
    }

    /// This revision was sent to the worker.
    pub fn mark_sent(&self, revision: u64) {
        let mut held = self.0.write().unwrap_or_else(PoisonError::into_inner);
        held.sent = revision;
    }

    /// Number of the revision that was sent to the worker; 0 for none.
    pub fn sent(&self) -> u64 {
        self.0.read().unwrap_or_else(PoisonError::into_inner).sent
    }

    /// Number of the revision that a worker accepted last; 0 for none.
    pub fn accepted(&self) -> u64 {
        let held = self.0.read().unwrap_or_else(PoisonError::into_inner);
        held.accepted
    }

    /// The config as the worker may read it, as JSON.
    pub fn config_json(&self) -> Bytes {
        let config = self.current().map_or_else(Map::new, |current| {
            filled(current.config.clone(), &current.secrets)
        });
        Value::Object(config).to_string().into()
    }

    /// Values of this revision are redacted from now on, whether the worker takes it up or not.
    pub fn conceal(&self, revision: &ConfigRevision) {
        let mut held = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let values = revision.secrets.iter().map(|secret| secret.value.as_str());
        held.redactor = Arc::new(held.redactor.with(values));
    }

    /// The text without any secret value.
    pub fn redact(&self, text: &str) -> String {
        let redactor = {
            let held = self.0.read().unwrap_or_else(PoisonError::into_inner);
            held.redactor.clone()
        };
        redactor.apply(text)
    }

    /// The value that `secrets.resolve` asks for, if it is one of ours: by the name of a secret, as
    /// an object or as a string, or by the value itself, which a worker finds in its config at the
    /// path that the value fills.
    pub fn resolve(&self, params: &[u8]) -> Option<String> {
        let params: ResolveParams = serde_json::from_slice(params).ok()?;
        let wanted = match params.secret_ref {
            SecretRef::Object { secret_id } => secret_id,
            SecretRef::Text(text) => text,
        };
        let current = self.current()?;
        let secrets = &current.secrets;
        let by_name = secrets.iter().find(|secret| secret.name == wanted);
        let by_value = || {
            let is_it = |secret: &&DeliveredSecret| secret.fill.is_some() && secret.value == wanted;
            secrets.iter().find(is_it)
        };
        Some(by_name.or_else(by_value)?.value.clone())
    }

    /// A config as the worker may read it: with the values that it holds itself. What is no
    /// object passes as it is.
    pub fn fill(&self, config_json: Bytes) -> Bytes {
        let Some(current) = self.current().filter(|current| has_fills(&current.secrets)) else {
            return config_json;
        };
        match serde_json::from_slice(&config_json) {
            Ok(Value::Object(config)) => {
                let filled = Value::Object(filled(config, &current.secrets));
                filled.to_string().into()
            }
            _ => config_json,
        }
    }

    /// Params of a call that carry a config under `config`, filled.
    pub fn fill_params(&self, params_json: Bytes) -> Bytes {
        let Some(current) = self.current().filter(|current| has_fills(&current.secrets)) else {
            return params_json;
        };
        match serde_json::from_slice(&params_json) {
            Ok(Value::Object(mut params)) => {
                if let Some(Value::Object(config)) = params.remove("config") {
                    let config = filled(config, &current.secrets);
                    params.insert("config".into(), Value::Object(config));
                }
                Value::Object(params).to_string().into()
            }
            _ => params_json,
        }
    }

    /// The revision that the worker reads.
    pub fn current(&self) -> Option<Arc<ConfigRevision>> {
        let held = self.0.read().unwrap_or_else(PoisonError::into_inner);
        held.current.clone()
    }
}

fn has_fills(secrets: &[DeliveredSecret]) -> bool {
    secrets.iter().any(|secret| secret.fill.is_some())
}

/// A config with each value at its place.
pub fn filled(mut config: Map<String, Value>, secrets: &[DeliveredSecret]) -> Map<String, Value> {
    for secret in secrets {
        if let Some(pointer) = &secret.fill {
            place(&mut config, pointer, secret.value.clone().into());
        }
    }
    config
}

/// Sets the value at a JSON pointer (RFC 6901). What stands in the way becomes an object:
/// the operator has checked the path against the config of the spec.
fn place(config: &mut Map<String, Value>, pointer: &str, value: Value) {
    let unescape = |token: &str| token.replace("~1", "/").replace("~0", "~");
    let mut current = config;
    let mut rest = pointer.trim_start_matches('/');
    while let Some((token, after)) = rest.split_once('/') {
        rest = after;
        let next = current.entry(unescape(token)).or_insert(Value::Null);
        if !next.is_object() {
            *next = Value::Object(Map::new());
        }
        let Value::Object(next) = next else { return };
        current = next;
    }
    current.insert(unescape(rest), value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn settings() -> Settings {
        let settings = Settings::default();
        let secret = |name: &str, fill: Option<&str>, value: &str| DeliveredSecret {
            name: name.into(),
            fill: fill.map(Into::into),
            value: value.into(),
        };
        settings.hold(Some(Arc::new(ConfigRevision {
            revision: 4,
            config: Map::new(),
            secrets: vec![
                secret("token", None, "t0p-secret"),
                secret("password", Some("/smtp/pass~1word"), "pw-value"),
            ],
        })));
        settings
    }

    fn parsed(bytes: &[u8]) -> Value {
        serde_json::from_slice(bytes).unwrap()
    }

    #[test]
    fn a_reference_of_ours_is_resolved_and_another_is_not() {
        let settings = settings();
        let resolve = |params: Value| settings.resolve(params.to_string().as_bytes());
        let ours = json!({"secretRef": {"type": "secret_ref", "secretId": "token"}});
        assert_eq!(resolve(ours).as_deref(), Some("t0p-secret"));
        assert_eq!(
            resolve(json!({"secretRef": "token"})).as_deref(),
            Some("t0p-secret")
        );
        assert_eq!(resolve(json!({"secretRef": {"secretId": "other"}})), None);
        // What stands in the config is handed back as it is; what does not, is no reference.
        let found = resolve(json!({"secretRef": "pw-value"}));
        assert_eq!(found.as_deref(), Some("pw-value"));
        assert_eq!(resolve(json!({"secretRef": "t0p-secret"})), None);
        assert_eq!(resolve(json!({})), None);
    }

    #[test]
    fn values_are_filled_in_at_their_pointers() {
        let config = settings().fill(Bytes::from_static(br#"{"a":1,"smtp":{"host":"h"}}"#));
        assert_eq!(
            parsed(&config),
            json!({"a": 1, "smtp": {"host": "h", "pass/word": "pw-value"}})
        );
        let params =
            settings().fill_params(Bytes::from_static(br#"{"config":{},"companyId":"c"}"#));
        assert_eq!(
            parsed(&params),
            json!({"config": {"smtp": {"pass/word": "pw-value"}}, "companyId": "c"})
        );
    }

    #[test]
    fn without_values_bytes_pass_as_they_are() {
        let odd = Bytes::from_static(b"{ \"a\" :1}");
        assert_eq!(Settings::default().fill(odd.clone()), odd);
        assert_eq!(settings().fill(Bytes::from_static(b"null")), "null");
    }
}
