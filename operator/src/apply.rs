//! Writes an owned object by server-side apply, and only when something differs.
//!
//! The hash of what is asked for travels as an annotation, so that a field we no longer
//! set counts as a difference too; the values themselves are compared, so that another's
//! edit of a field of ours is undone.

use std::fmt::Debug;

use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
};
use paperclip_crds::labels;
use paperclip_oci::Digest;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// Why an object is not as desired.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The API server refused, or could not be reached.
    #[error("applying {kind} {name}")]
    Request {
        /// Kind of the object.
        kind: String,
        /// Its name.
        name: String,
        /// What the API server said.
        source: kube::Error,
    },
    /// The name is taken by an object that is not ours.
    #[error("applying {kind} {name}: an object of this name exists and belongs to another")]
    Foreign {
        /// Kind of the object.
        kind: String,
        /// Its name.
        name: String,
    },
    /// The object cannot be written as JSON.
    #[error("writing {kind} as JSON")]
    Encode {
        /// Kind of the object.
        kind: String,
        /// What went wrong.
        source: serde_json::Error,
    },
}

/// Brings one object about and gives it as it is now.
///
/// # Errors
/// When the API server refuses, or the name belongs to another owner.
pub async fn apply<K>(api: &Api<K>, desired: &K) -> Result<K, ApplyError>
where
    K: Resource<DynamicType = ()> + Serialize + DeserializeOwned + Clone + Debug,
{
    bring_about(api, desired, true).await
}

/// The same without the hash, for a Secret whose content somebody could guess from it.
///
/// # Errors
/// When the API server refuses, or the name belongs to another owner.
pub async fn apply_unsealed<K>(api: &Api<K>, desired: &K) -> Result<K, ApplyError>
where
    K: Resource<DynamicType = ()> + Serialize + DeserializeOwned + Clone + Debug,
{
    bring_about(api, desired, false).await
}

async fn bring_about<K>(api: &Api<K>, desired: &K, seal: bool) -> Result<K, ApplyError>
where
    K: Resource<DynamicType = ()> + Serialize + DeserializeOwned + Clone + Debug,
{
    let (kind, name) = (K::kind(&()).into_owned(), desired.name_any());
    let failed = |source| ApplyError::Request {
        kind: kind.clone(),
        name: name.clone(),
        source,
    };
    let encode = |source| ApplyError::Encode {
        kind: kind.clone(),
        source,
    };
    let plain = serde_json::to_value(desired).map_err(encode)?;
    let wanted = if seal { sealed(plain) } else { plain };
    if let Some(observed) = api.get_opt(&name).await.map_err(failed)? {
        if !shares_owner(&observed, desired) {
            return Err(ApplyError::Foreign { kind, name });
        }
        if covers(&serde_json::to_value(&observed).map_err(encode)?, &wanted) {
            return Ok(observed);
        }
    }
    let parameters = PatchParams::apply(labels::OPERATOR).force();
    let applied = api
        .patch(&name, &parameters, &Patch::Apply(&wanted))
        .await
        .map_err(failed)?;
    tracing::info!(kind, name, "object applied");
    Ok(applied)
}

/// Adds the hash of everything else.
fn sealed(mut wanted: Value) -> Value {
    let hash = Digest::of(wanted.to_string().as_bytes())
        .short(16)
        .to_owned();
    wanted["metadata"]["annotations"][labels::APPLIED] = Value::String(hash);
    wanted
}

fn shares_owner<K: Resource>(observed: &K, desired: &K) -> bool {
    desired.owner_references().iter().all(|owner| {
        observed
            .owner_references()
            .iter()
            .any(|found| found.uid == owner.uid)
    })
}

/// Whether every value of `wanted` stands in `observed`.
fn covers(observed: &Value, wanted: &Value) -> bool {
    match (observed, wanted) {
        (Value::Object(observed), Value::Object(wanted)) => wanted
            .iter()
            .all(|(key, value)| observed.get(key).is_some_and(|found| covers(found, value))),
        (Value::Array(observed), Value::Array(wanted)) => {
            observed.len() == wanted.len()
                && observed
                    .iter()
                    .zip(wanted)
                    .all(|(found, value)| covers(found, value))
        }
        _ => observed == wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn defaults_of_the_api_server_are_no_difference() {
        let wanted = json!({"spec": {"ports": [{"port": 8443}]}});
        let observed =
            json!({"spec": {"ports": [{"port": 8443, "protocol": "TCP"}], "type": "ClusterIP"}});
        assert!(covers(&observed, &wanted));
    }

    #[test]
    fn another_value_and_another_length_are_differences() {
        let wanted = json!({"ports": [{"port": 8443}]});
        assert!(!covers(&json!({"ports": [{"port": 1}]}), &wanted));
        assert!(!covers(
            &json!({"ports": [{"port": 8443}, {"port": 1}]}),
            &wanted
        ));
        assert!(!covers(&json!({}), &wanted));
    }

    #[test]
    fn hash_changes_when_a_field_is_dropped() {
        let annotation = |value: Value| sealed(value)["metadata"]["annotations"].clone();
        assert_ne!(
            annotation(json!({"metadata": {}, "a": 1, "b": 2})),
            annotation(json!({"metadata": {}, "a": 1}))
        );
    }
}
