//! Status is written once a pass, and only when something in it is new.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use kube::{
    Api, Resource,
    api::{Patch, PatchParams},
};
use paperclip_crds::{
    Keyed, labels,
    v1alpha1::{Condition, ConditionType},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;

use crate::context::Context;

/// Writes the status of an object and tells of a new `Ready`.
///
/// # Errors
/// When the API server refuses. An object that is gone is no error.
pub async fn write<K, S>(
    context: &Context,
    Keyed { key, object }: &Keyed<K>,
    status: &S,
    [before, after]: [&[Condition]; 2],
    warning: bool,
) -> Result<(), kube::Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + DeserializeOwned
        + Clone
        + Debug,
    S: Serialize,
{
    let api: Api<K> = Api::namespaced(context.client.clone(), &key.namespace);
    let patch = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": { "name": key.name },
        "status": status,
    });
    let parameters = PatchParams::apply(labels::OPERATOR).force();
    match api
        .patch_status(&key.name, &parameters, &Patch::Apply(&patch))
        .await
    {
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
        written => written?,
    };
    let (old, new) = (ready(before), ready(after));
    if let Some(new) = new
        && old.is_none_or(|old| (&old.status, &old.reason) != (&new.status, &new.reason))
    {
        context
            .events
            .ready_changed(object.object_ref(&()), new, warning)
            .await;
    }
    Ok(())
}

fn ready(conditions: &[Condition]) -> Option<&Condition> {
    let type_ = ConditionType::Ready.to_string();
    conditions.iter().find(|condition| condition.type_ == type_)
}
