//! Every write of a plugin's own objects, in the order in which a pod needs them.

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Secret, Service, ServiceAccount},
};
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use paperclip_crds::{
    labels,
    v1alpha1::{ArtifactStatus, PaperclipPlugin},
};
use paperclip_proto::identity::Identity;
use time::OffsetDateTime;

use super::{
    desired::{Wanted, build_facts, build_service, build_service_account, build_store_secret},
    pod::{build_deployment, rendered_by},
    reconcile::ReconcileError,
};
use crate::{apply::apply, ca::Subject, context::Context, secrets};

/// Brings the plugin's objects about and gives the Deployment as it then is.
pub async fn apply_all(
    context: &Context,
    plugin: &PaperclipPlugin,
    artifact: &ArtifactStatus,
    observed: Option<Deployment>,
    recorded: Option<i64>,
) -> Result<Deployment, ReconcileError> {
    let namespace = plugin.namespace().unwrap_or_default();
    let client = || context.client.clone();
    let mut wanted = Wanted {
        plugin,
        artifact,
        activation: 0,
    };
    wanted.activation = activation(&wanted.inputs(), observed.as_ref(), recorded);
    let wanted = &wanted;

    let secrets: Api<Secret> = Api::namespaced(client(), &namespace);
    let identity = Subject::Identity(Identity::Plugin {
        namespace: namespace.clone(),
        name: plugin.name_any(),
    });
    let now = OffsetDateTime::now_utc();
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
    apply(&secrets, &build_store_secret(wanted, &context.store_access)).await?;
    let accounts: Api<ServiceAccount> = Api::namespaced(client(), &namespace);
    apply(&accounts, &build_service_account(wanted)).await?;
    let facts = build_facts(wanted).map_err(ReconcileError::Encode)?;
    let maps: Api<ConfigMap> = Api::namespaced(client(), &namespace);
    apply(&maps, &facts).await?;
    let services: Api<Service> = Api::namespaced(client(), &namespace);
    apply(&services, &build_service(wanted)).await?;

    let desired = build_deployment(wanted, &context.args);
    match observed {
        Some(observed) if is_left_alone(&observed, &desired, &rendered_by(&context.args)) => {
            Ok(observed)
        }
        _ => {
            let deployments: Api<Deployment> = Api::namespaced(client(), &namespace);
            Ok(apply(&deployments, &desired).await?)
        }
    }
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
    let namespace = observed.namespace().unwrap_or_default();
    let api: Api<Deployment> = Api::namespaced(context.client.clone(), &namespace);
    let parameters = PatchParams {
        field_manager: Some(labels::OPERATOR.into()),
        ..PatchParams::default()
    };
    let none = Patch::Merge(serde_json::json!({ "spec": { "replicas": 0 } }));
    let name = observed.name_any();
    let stopped = api.patch(&name, &parameters, &none).await;
    let stopped = stopped.map_err(ReconcileError::request("stopping the plugin's pods"))?;
    tracing::info!(namespace, name, "the host forbids the plugin: pods stopped");
    Ok(stopped)
}

fn runs_for(observed: &Deployment, (namespace, name): &(String, String)) -> bool {
    let is = |key, wanted| observed.labels().get(key) == Some(wanted);
    let replicas = observed.spec.replicas;
    is(labels::HOST_NAMESPACE, namespace) && is(labels::HOST, name) && replicas != Some(0)
}

/// The number of the pod template: one more when its inputs are new.
fn activation(inputs: &str, observed: Option<&Deployment>, recorded: Option<i64>) -> u64 {
    let annotation = |key| observed.and_then(|found| found.annotations().get(key));
    let number = annotation(labels::ACTIVATION)
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    if number > 0 && annotation(labels::INPUTS).is_some_and(|found| found == inputs) {
        return number;
    }
    let recorded = recorded
        .and_then(|number| u64::try_from(number).ok())
        .unwrap_or(0);
    number.max(recorded) + 1
}

/// A release of the operator, or other values of the platform, do not roll plugins that
/// serve and that nobody changed. One that does not serve gets what may help it.
fn is_left_alone(observed: &Deployment, desired: &Deployment, rendered_by: &str) -> bool {
    let same = |key| observed.annotations().get(key) == desired.annotations().get(key);
    let by_another = observed
        .annotations()
        .get(labels::RENDERED_BY)
        .is_some_and(|by| by != rendered_by);
    let scaled = observed.spec.replicas != Some(1);
    let owned = desired.owner_references().iter().all(|owner| {
        observed
            .owner_references()
            .iter()
            .any(|found| found.uid == owner.uid)
    });
    let status = observed.status.as_ref();
    let serves = status.and_then(|status| status.available_replicas) > Some(0);
    owned && same(labels::INPUTS) && by_another && !scaled && serves
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::fixtures;

    #[test]
    fn activation_grows_with_new_inputs_only_and_never_falls_back() {
        let (plugin, artifact) = (fixtures::plugin(), fixtures::artifact());
        let wanted = fixtures::wanted(&plugin, &artifact);
        let observed = build_deployment(&wanted, &fixtures::args());
        assert_eq!(activation(&wanted.inputs(), Some(&observed), Some(3)), 3);
        assert_eq!(activation("other", Some(&observed), Some(3)), 4);
        assert_eq!(activation("other", None, Some(7)), 8);
        assert_eq!(activation("other", None, None), 1);
    }

    #[test]
    fn a_new_release_leaves_running_plugins_alone() {
        let (plugin, artifact) = (fixtures::plugin(), fixtures::artifact());
        let wanted = fixtures::wanted(&plugin, &artifact);
        let mut observed = build_deployment(&wanted, &fixtures::args());
        let mut newer = fixtures::args();
        newer.sidecar_image = "sidecar:2".into();
        let desired = build_deployment(&wanted, &newer);
        // Its image cannot be pulled, say, and the newer one can.
        assert!(!is_left_alone(&observed, &desired, &rendered_by(&newer)));
        observed.status.get_or_insert_default().available_replicas = Some(1);
        assert!(is_left_alone(&observed, &desired, &rendered_by(&newer)));
        assert!(!is_left_alone(
            &observed,
            &desired,
            &rendered_by(&fixtures::args())
        ));
    }
}
