//! References of a plugin's config: keys of ConfigMaps and Secrets, each read by name.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, ResourceExt};
use paperclip_crds::{
    labels,
    v1alpha1::{ConfigMapKey, PluginSecret, Reason, SecretVersion},
};

use super::{
    Plugin,
    conditions::Finding,
    error::ReconcileError,
    instance_config::{self, Config},
    unfinished::Unfinished,
};
use crate::{context::Context, fingerprint::Fingerprints};

/// Config and secrets as the spec asks for them, and the versions of the Secrets read.
pub struct Resolved {
    /// The config.
    pub config: Config,
    /// Each Secret once.
    pub secrets: Vec<SecretVersion>,
}

/// Reads what the spec refers to, and joins it.
///
/// # Errors
/// Blocked where a reference is missing or its content is unusable, failed where the API server
/// fails.
pub async fn resolve(context: &Context, plugin: &Plugin) -> Result<Resolved, Unfinished<Finding>> {
    let inline = plugin.spec.config.as_ref();
    let mut texts = Vec::new();
    for key in inline.iter().flat_map(|config| &config.default_from) {
        let text = map_text(context, plugin, key, "spec.config.defaultFrom").await?;
        texts.push((key, text));
    }
    let mut values = Vec::new();
    for wanted in &plugin.spec.secrets {
        values.push(secret_value(context, plugin, wanted).await?);
    }
    let versions = versions(&context.fingerprints, plugin, &values);
    let config = instance_config::join(inline, &texts, &plugin.spec.secrets, values);
    Ok(Resolved {
        config: config.map_err(Unfinished::Blocked)?,
        secrets: versions,
    })
}

/// The version of each Secret: a fingerprint of what the plugin is given of it, so that an
/// edit of anything else is none. Namespace and name are in it, and so nobody sees that two
/// Secrets hold the same.
fn versions(fingerprints: &Fingerprints, plugin: &Plugin, values: &[String]) -> Vec<SecretVersion> {
    let namespace = &plugin.key.namespace;
    let mut given: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
    for (PluginSecret { secret_ref, .. }, value) in plugin.spec.secrets.iter().zip(values) {
        let of_secret = given.entry(&secret_ref.name).or_default();
        of_secret.insert(&secret_ref.key, value);
    }
    let versions = given.into_iter().map(|(name, values)| {
        let values = values.into_iter().flat_map(|(key, value)| [key, value]);
        let texts: Vec<_> = [namespace.as_str(), name]
            .into_iter()
            .chain(values)
            .collect();
        SecretVersion {
            name: name.to_owned(),
            version: fingerprints.of(&texts),
        }
    });
    versions.collect()
}

/// Text of a key of a ConfigMap that a field of the spec names.
///
/// # Errors
/// Blocked where the ConfigMap or the key is missing, failed where the API server fails.
pub async fn map_text(
    context: &Context,
    plugin: &Plugin,
    ConfigMapKey { name, key }: &ConfigMapKey,
    field: &str,
) -> Result<String, Unfinished<Finding>> {
    let namespace = &plugin.key.namespace;
    let api: Api<ConfigMap> = Api::namespaced(context.client.clone(), namespace);
    let found = api.get_opt(name).await.map_err(ReconcileError::request(
        "reading a ConfigMap that the spec names",
    ))?;
    let missing = |what: String| {
        let finding = Finding::no(Reason::ReferenceMissing, what);
        Err(Unfinished::Blocked(finding))
    };
    match found.map(|found| found.data.and_then(|mut data| data.remove(key))) {
        None => missing(format!("ConfigMap {name} of {field} does not exist.")),
        Some(None) => missing(format!("ConfigMap {name} of {field} has no key {key}.")),
        Some(Some(text)) => Ok(text),
    }
}

async fn secret_value(
    context: &Context,
    plugin: &Plugin,
    wanted: &PluginSecret,
) -> Result<String, Unfinished<Finding>> {
    let found = secret(context, plugin, &wanted.secret_ref.name).await?;
    let namespace = &plugin.key.namespace;
    take(found, wanted, namespace).map_err(Unfinished::Blocked)
}

/// A Secret of the plugin's namespace, read by name.
///
/// # Errors
/// When the API server fails.
pub async fn secret(
    context: &Context,
    plugin: &Plugin,
    name: &str,
) -> Result<Option<Secret>, ReconcileError> {
    let namespace = &plugin.key.namespace;
    let api: Api<Secret> = Api::namespaced(context.client.clone(), namespace);
    let found = api.get_opt(name).await;
    found.map_err(ReconcileError::request(
        "reading a Secret that the spec names",
    ))
}

/// The Secret, if it is there and open to plugins. `of` names the field, and `create` says how
/// to make one that is missing.
pub fn open(
    found: Option<Secret>,
    of: &str,
    (name, namespace): (&str, &str),
    create: &str,
) -> Result<Secret, Finding> {
    let refuse = |what: &str, then| Err(unavailable(of, name, what, then));
    let label = labels::ALLOW_PLUGINS;
    let Some(found) = found else {
        let then = format!(
            "{create}; then label it: kubectl label secret {name} -n {namespace} {label}=true"
        );
        return refuse("does not exist", &then);
    };
    if found
        .labels()
        .get(label)
        .is_none_or(|value| value != "true")
    {
        let what = format!("is not open to plugins: it lacks the label {label}=true");
        let then = format!(
            "If plugins of this namespace may read it: kubectl label secret {name} -n {namespace} {label}=true"
        );
        return refuse(&what, &then);
    }
    Ok(found)
}

fn unavailable(of: &str, name: &str, what: &str, then: &str) -> Finding {
    let message = format!("Secret {name} of {of} {what}. {then}");
    Finding::no(Reason::SecretUnavailable, message)
}

/// The value, if the Secret is there and open to plugins.
fn take(found: Option<Secret>, wanted: &PluginSecret, namespace: &str) -> Result<String, Finding> {
    let (name, key) = (&wanted.secret_ref.name, &wanted.secret_ref.key);
    let of = format!("spec.secrets {}", wanted.name);
    let refuse = |what: &str, then| Err(unavailable(&of, name, what, then));
    let create = format!(
        "Create it: kubectl create secret generic {name} -n {namespace} --from-file={key}=FILE"
    );
    let found = open(found, &of, (name, namespace), &create)?;
    let bytes = found.data.and_then(|mut data| data.remove(key));
    match bytes.map(|bytes| String::from_utf8(bytes.0)) {
        None => refuse(
            &format!("has no key {key}"),
            "Add the key, or name another.",
        ),
        Some(Err(_)) => refuse(
            &format!("holds no text under key {key}"),
            "Values are UTF-8 text.",
        ),
        Some(Ok(value)) => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::fixtures;
    use k8s_openapi::ByteString;
    use kube::api::ObjectMeta;
    use paperclip_crds::v1alpha1::{SecretKey, SecretUse};

    fn wanted() -> PluginSecret {
        PluginSecret {
            name: "token".into(),
            secret_ref: SecretKey {
                name: "access".into(),
                key: "t".into(),
            },
            config_path: None,
            r#use: SecretUse::Reference,
        }
    }

    fn secret(label: &str, key: &str, value: &[u8]) -> Secret {
        Secret {
            metadata: ObjectMeta {
                labels: Some(BTreeMap::from([(
                    labels::ALLOW_PLUGINS.into(),
                    label.into(),
                )])),
                ..ObjectMeta::default()
            },
            data: Some(BTreeMap::from([(key.into(), ByteString(value.to_vec()))])),
            ..Secret::default()
        }
    }

    #[test]
    fn a_labelled_secret_gives_its_value() {
        let value = take(Some(secret("true", "t", b"v")), &wanted(), "shop");
        assert_eq!(value, Ok("v".into()));
    }

    #[test]
    fn a_version_follows_from_the_values_that_are_used_and_from_whose_they_are() {
        let fingerprints = Fingerprints::new(b"key");
        let mut plugin = fixtures::plugin();
        let second = PluginSecret {
            secret_ref: SecretKey {
                name: "access".into(),
                key: "u".into(),
            },
            ..wanted()
        };
        plugin.spec.secrets = vec![wanted(), second];
        let of = |plugin: &Plugin, values: [&str; 2]| {
            versions(&fingerprints, plugin, &values.map(String::from))
        };
        let first = of(&plugin, ["a", "b"]);
        assert_eq!(first.len(), 1, "each Secret once");
        assert_eq!(of(&plugin, ["a", "b"]), first);
        assert_ne!(of(&plugin, ["b", "a"]), first);
        plugin.key.namespace = "another".into();
        assert_ne!(of(&plugin, ["a", "b"]), first);
    }

    #[test]
    fn what_is_missing_is_named_with_the_command_that_mends_it() {
        let refused = |found| take(found, &wanted(), "shop").unwrap_err().message;
        assert!(refused(None).contains("kubectl create secret generic access -n shop"));
        let closed = refused(Some(secret("false", "t", b"hidden")));
        assert!(closed.contains(
            "kubectl label secret access -n shop plugins.paperclip.ing/allow-plugins=true"
        ));
        assert!(!closed.contains("hidden"));
        assert!(refused(Some(secret("true", "other", b"v"))).contains("has no key t"));
        assert!(refused(Some(secret("true", "t", b"\xff"))).contains("no text"));
    }
}
