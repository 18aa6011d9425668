//! Every write of a plugin's own objects, in the order in which a pod needs them.

use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::{Secret, Service, ServiceAccount},
    networking::v1::NetworkPolicy,
};
use kube::{
    Api, ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use paperclip_bridge::config::{self, DeliveredConfig};
use paperclip_crds::{ObjectKey, labels};
use paperclip_identity::Identity;
use paperclip_identity_issue::Subject;
use time::OffsetDateTime;

use super::{
    desired::{
        Desired, build_config_secret, build_service, build_service_account, build_store_secret,
    },
    error::ReconcileError,
    network::build_network_policy,
    plugin_id,
    pod::{build_deployment, rendered_by},
};
use crate::{
    apply::{apply, apply_unsealed},
    context::Context,
    secrets::{self, SecretError},
};

/// Label that the Deployment controller gives a template.
const TEMPLATE_HASH: &str = "pod-template-hash";

/// Brings the plugin's objects about and gives the Deployment as it then is.
///
/// With `exact` the spec asks for just this; else it is what ran before and goes on, so its
/// template is taken from where it is, not made anew from a spec that has moved on. `serving` is
/// the repository of the revision that serves.
pub async fn apply_all(
    context: &Context,
    wanted: &Desired<'_>,
    exact: bool,
    config: &DeliveredConfig,
    serving: Option<&str>,
    observed: Option<Deployment>,
) -> Result<Deployment, ReconcileError> {
    let namespace = wanted.plugin.key.namespace.clone();
    let client = || context.client.clone();
    let secrets: Api<Secret> = Api::namespaced(client(), &namespace);
    let identity = Subject::Identity(Identity::Plugin {
        namespace: namespace.clone(),
        name: wanted.plugin.name_any(),
    });
    let now = OffsetDateTime::from_unix_timestamp(context.now().as_second())
        .unwrap_or_else(|_| OffsetDateTime::now_utc());
    let leaf = secrets::leaf(
        &secrets,
        wanted.metadata("-tls"),
        &identity,
        &context.authority,
        now,
    )
    .await?;
    if let Some(leaf) = &leaf {
        apply(&secrets, leaf).await?;
    }
    let store = build_store_secret(wanted, &context.store_access, serving, now);
    apply(&secrets, &store.map_err(SecretError::from)?).await?;
    let handed = build_config_secret(wanted, config).map_err(ReconcileError::Encode)?;
    apply_unsealed(&secrets, &handed).await?;
    let accounts: Api<ServiceAccount> = Api::namespaced(client(), &namespace);
    apply(&accounts, &build_service_account(wanted)).await?;
    let policies: Api<NetworkPolicy> = Api::namespaced(client(), &namespace);
    apply(&policies, &build_network_policy(wanted, &context.args)).await?;
    let services: Api<Service> = Api::namespaced(client(), &namespace);
    apply(&services, &build_service(wanted)).await?;
    Box::pin(apply_deployment(context, wanted, exact, observed)).await
}

async fn apply_deployment(
    context: &Context,
    wanted: &Desired<'_>,
    exact: bool,
    observed: Option<Deployment>,
) -> Result<Deployment, ReconcileError> {
    let namespace = wanted.plugin.key.namespace.clone();
    let api: Api<Deployment> = Api::namespaced(context.client.clone(), &namespace);
    let keys = context.signing.pem();
    let mut desired = build_deployment(wanted, &context.args, &keys);
    if let Some(observed) = observed {
        let runs = activation_of(&observed) == Some(wanted.activation);
        let is_old = is_left_alone(&observed, &desired, &rendered_by(&context.args, &keys));
        if runs && is_ours(&observed, &desired) && (is_old || !exact) {
            return scale(context, observed, wanted.replicas()).await;
        }
        if !runs && !exact {
            put_back(context, wanted, &mut desired).await?;
        }
    }
    Ok(apply(&api, &desired).await?)
}

/// Takes the template of a former activation from its ReplicaSet, where there is one, so
/// that its pods are found again and none restarts.
async fn put_back(
    context: &Context,
    wanted: &Desired<'_>,
    desired: &mut Deployment,
) -> Result<(), ReconcileError> {
    let namespace = wanted.plugin.key.namespace.clone();
    let api: Api<ReplicaSet> = Api::namespaced(context.client.clone(), &namespace);
    let selector = wanted.selector();
    let selector: Vec<_> = selector
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let found = api
        .list(&ListParams::default().labels(&selector.join(",")))
        .await
        .map_err(ReconcileError::request("listing the plugin's ReplicaSets"))?;
    let activation = wanted.activation.to_string();
    let template = found.items.into_iter().find_map(|set| {
        let template = set.spec.template?;
        let annotations = template.metadata.as_ref()?.annotations.as_ref()?;
        (annotations.get(labels::ACTIVATION) == Some(&activation)).then_some(template)
    });
    let Some(mut template) = template else {
        return Ok(());
    };
    if let Some(metadata) = &mut template.metadata {
        metadata.creation_timestamp = None;
        if let Some(labels) = &mut metadata.labels {
            labels.remove(TEMPLATE_HASH);
        }
        let own = metadata.annotations.iter().flatten();
        let copied = [labels::INPUTS, labels::RENDERED_BY];
        let copied: Vec<_> = own
            .filter(|(key, _)| copied.contains(&key.as_str()))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        desired.annotations_mut().extend(copied);
    }
    desired.spec.template = template;
    Ok(())
}

/// The config that was handed to the plugin's sidecars last. What cannot be read is as if
/// it were not there: it is made anew.
pub async fn handed_over(
    context: &Context,
    namespace: &str,
    plugin: &str,
) -> Result<DeliveredConfig, ReconcileError> {
    let api: Api<Secret> = Api::namespaced(context.client.clone(), namespace);
    let found =
        api.get_opt(&format!("pcp-{plugin}-config"))
            .await
            .map_err(ReconcileError::request(
                "reading the plugin's config Secret",
            ))?;
    let bytes = found.and_then(|found| found.data?.remove(config::FILE_NAME));
    Ok(bytes
        .and_then(|bytes| serde_json::from_slice(&bytes.0).ok())
        .unwrap_or_default())
}

/// Stops the pods of a plugin that its host no longer lets in. Pods that still serve
/// another host are left to it.
pub async fn stop(
    context: &Context,
    observed: Deployment,
    host: &(String, String),
) -> Result<Deployment, ReconcileError> {
    if !runs_for(&observed, host) {
        return Ok(observed);
    }
    scale(context, observed, 0).await
}

/// Changes the number of pods and nothing else.
pub async fn scale(
    context: &Context,
    observed: Deployment,
    replicas: i32,
) -> Result<Deployment, ReconcileError> {
    if observed.spec.replicas == Some(replicas) {
        return Ok(observed);
    }
    let ObjectKey {
        namespace, name, ..
    } = ObjectKey::of(&observed)?;
    let api: Api<Deployment> = Api::namespaced(context.client.clone(), &namespace);
    let parameters = PatchParams {
        field_manager: Some(labels::OPERATOR.into()),
        ..PatchParams::default()
    };
    let patch = Patch::Merge(serde_json::json!({ "spec": { "replicas": replicas } }));
    let scaled = api.patch(&name, &parameters, &patch).await;
    let scaled = scaled.map_err(ReconcileError::request("scaling the plugin's Deployment"))?;
    tracing::info!(namespace, name, replicas, "pods of a plugin scaled");
    Ok(scaled)
}

/// The activation number of a Deployment's template.
#[must_use]
pub fn activation_of(deployment: &Deployment) -> Option<u64> {
    deployment
        .annotations()
        .get(labels::ACTIVATION)?
        .parse()
        .ok()
}

/// Whether pods serve this host. Their template says so: a release that put a template back
/// may have left the Deployment's own labels at the host of the spec.
fn runs_for(observed: &Deployment, host: &(String, String)) -> bool {
    let template = plugin_id::template(observed);
    template.and_then(plugin_id::host_of).as_ref() == Some(host)
}

/// A release of the operator, or other values of the platform, do not roll plugins that
/// serve and that nobody changed. One that does not serve gets what may help it.
fn is_left_alone(observed: &Deployment, desired: &Deployment, rendered_by: &str) -> bool {
    let same = |key| observed.annotations().get(key) == desired.annotations().get(key);
    let by_another = observed
        .annotations()
        .get(labels::RENDERED_BY)
        .is_some_and(|by| by != rendered_by);
    let status = observed.status.as_ref();
    let serves = status.and_then(|status| status.available_replicas) > Some(0);
    same(labels::INPUTS) && by_another && serves
}

fn is_ours(observed: &Deployment, desired: &Deployment) -> bool {
    desired.owner_references().iter().all(|owner| {
        let mut owners = observed.owner_references().iter();
        owners.any(|found| found.uid == owner.uid)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::fixtures;

    #[test]
    fn a_new_release_leaves_running_plugins_alone() {
        let (plugin, artifact) = (fixtures::plugin(), fixtures::packed());
        let wanted = fixtures::desired(&plugin, &artifact);
        let mut observed = build_deployment(&wanted, &fixtures::args(), "");
        let mut newer = fixtures::args();
        newer.sidecar_image = "sidecar:2".into();
        let desired = build_deployment(&wanted, &newer, "");
        // Its image cannot be pulled, say, and the newer one can.
        assert!(!is_left_alone(
            &observed,
            &desired,
            &rendered_by(&newer, "")
        ));
        observed.status.get_or_insert_default().available_replicas = Some(1);
        assert!(is_left_alone(&observed, &desired, &rendered_by(&newer, "")));
        // So does another signing key.
        let rotated = rendered_by(&fixtures::args(), "key");
        assert!(is_left_alone(&observed, &desired, &rotated));
        assert!(!is_left_alone(
            &observed,
            &desired,
            &rendered_by(&fixtures::args(), "")
        ));
    }
}
