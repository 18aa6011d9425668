//! Desired state: every object that a plugin owns, from plain values. No client, no clock.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Secret, Service, ServiceAccount, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::{apis::meta::v1::OwnerReference, util::intstr::IntOrString};
use kube::{Resource, ResourceExt, api::ObjectMeta};
use paperclip_bridge::{
    config::{self, DeliveredConfig},
    facts::{Facts, HostFacts, InstanceFacts},
};
use paperclip_crds::{
    labels,
    v1alpha1::{RevisionArtifact, WorkerResources},
};
use paperclip_oci::{Digest, client::Credentials};
use paperclip_pod_layout::{port, store};
use paperclip_protocol::PAPERCLIP_RELEASE;
use time::OffsetDateTime;

use super::Plugin;
use crate::{
    context::{Shown, StoreAccess},
    pull_tokens::TokenError,
    secrets,
};

/// A plugin whose artifact is known and may run.
pub struct Desired<'a> {
    /// The plugin.
    pub plugin: &'a Plugin,
    /// The artifact that runs.
    pub artifact: &'a RevisionArtifact,
    /// Capabilities that are granted.
    pub granted: &'a [String],
    /// Namespace and name of the host it serves. Not always that of the spec, which may
    /// have moved on.
    pub host: (String, String),
    /// CPU and memory of the worker, as far as they are asked for.
    pub resources: WorkerResources,
    /// Number of the pod template.
    pub activation: u64,
}

impl Desired<'_> {
    /// `pcp-<plugin><suffix>`.
    #[must_use]
    pub fn name(&self, suffix: &str) -> String {
        format!("pcp-{}{suffix}", self.plugin.name_any())
    }

    /// Desired number of pods.
    #[must_use]
    pub fn replicas(&self) -> i32 {
        match self.plugin.spec.suspend {
            true => 0,
            false => self.plugin.worker().replicas,
        }
    }

    /// Labels that select the pods.
    #[must_use]
    pub fn selector(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            (labels::NAME.into(), "paperclip-plugin".into()),
            (labels::PLUGIN.into(), self.plugin.name_any()),
        ])
    }

    /// Labels of every owned object. The Service's are copied to its EndpointSlices,
    /// which is how a host finds the pods.
    #[must_use]
    pub fn labels(&self) -> BTreeMap<String, String> {
        let (host_namespace, host) = self.host.clone();
        let namespace = self.plugin.key.namespace.clone();
        let mut all = self.selector();
        all.extend([
            (labels::MANAGED_BY.into(), labels::OPERATOR.into()),
            (labels::COMPONENT.into(), "plugin".into()),
            (labels::PLUGIN_NAMESPACE.into(), namespace),
            (labels::PLUGIN_UID.into(), self.plugin.key.uid.clone()),
            (labels::HOST.into(), host),
            (labels::HOST_NAMESPACE.into(), host_namespace),
        ]);
        all
    }

    /// Metadata of an owned object.
    #[must_use]
    pub fn metadata(&self, suffix: &str) -> ObjectMeta {
        // Blocking the owner's deletion would need a right on its finalizers.
        let owner = self
            .plugin
            .controller_owner_ref(&())
            .map(|owner| OwnerReference {
                block_owner_deletion: None,
                ..owner
            });
        ObjectMeta {
            name: Some(self.name(suffix)),
            namespace: self.plugin.namespace(),
            labels: Some(self.labels()),
            owner_references: owner.map(|owner| vec![owner]),
            ..ObjectMeta::default()
        }
    }

    /// Hash of everything the pods are made from, the activation's number apart.
    #[must_use]
    pub fn inputs(&self) -> String {
        let facts = Facts {
            activation: 0,
            ..self.facts()
        };
        let facts = serde_json::to_string(&facts).unwrap_or_default();
        let asked = self.plugin.annotations().get(labels::RESTARTED_AT);
        let restarted = asked.map(String::as_str).unwrap_or_default();
        let mut text = format!("{} {restarted} {facts}", self.artifact.repository);
        // Nothing is added for the default, so that templates of earlier releases keep their hash.
        if !self.resources.is_default() {
            text += &serde_json::to_string(&self.resources).unwrap_or_default();
        }
        Digest::of(text.as_bytes()).short(16).to_owned()
    }

    /// Facts for the sidecar.
    #[must_use]
    pub fn facts(&self) -> Facts {
        let (namespace, name) = self.host.clone();
        Facts {
            plugin_namespace: self.plugin.key.namespace.clone(),
            plugin_name: self.plugin.name_any(),
            plugin_uid: self.plugin.key.uid.clone(),
            activation: self.activation,
            artifact_digest: self.artifact.digest.clone(),
            marker: self.artifact.marker.clone(),
            instance: InstanceFacts {
                instance_id: format!("{namespace}/{name}"),
                host_version: PAPERCLIP_RELEASE.into(),
                deployment_mode: "authenticated".into(),
                deployment_exposure: "private".into(),
            },
            host: HostFacts { namespace, name },
            granted: self.granted.to_vec(),
        }
    }
}

/// The ServiceAccount of the pods, which can do nothing.
#[must_use]
pub fn build_service_account(wanted: &Desired<'_>) -> ServiceAccount {
    ServiceAccount {
        metadata: wanted.metadata(""),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}

/// The headless Service whose EndpointSlices hosts watch.
#[must_use]
pub fn build_service(wanted: &Desired<'_>) -> Service {
    Service {
        metadata: wanted.metadata(""),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".into()),
            publish_not_ready_addresses: Some(true),
            selector: Some(wanted.selector()),
            ports: Some(vec![ServicePort {
                name: Some(port::GRPC_NAME.into()),
                port: port::GRPC.into(),
                protocol: Some("TCP".into()),
                target_port: Some(IntOrString::String(port::GRPC_NAME.into())),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// The Secret with config and secret values, for sidecars alone.
///
/// # Errors
/// When the config is no JSON, which cannot be.
pub fn build_config_secret(
    wanted: &Desired<'_>,
    config: &DeliveredConfig,
) -> Result<Secret, serde_json::Error> {
    let text = serde_json::to_string(config)?;
    let texts = [(config::FILE_NAME, text.as_str())];
    Ok(secrets::build_secret(
        wanted.metadata("-config"),
        secrets::OPAQUE,
        texts,
    ))
}

/// The Secret that the pods pull with. `serving` is the repository of the revision that serves,
/// whose pods may have to start again while this one is rolled out.
///
/// # Errors
/// When a token cannot be signed.
pub fn build_store_secret(
    wanted: &Desired<'_>,
    access: &StoreAccess,
    serving: Option<&str>,
    now: OffsetDateTime,
) -> Result<Secret, TokenError> {
    let metadata = wanted.metadata("-store");
    let mut texts: Vec<_> = access.ca.iter().map(|ca| (store::CA, ca.clone())).collect();
    match &access.shown {
        Shown::Credential(Credentials { username, password }) => {
            texts.push((store::USERNAME, username.clone()));
            texts.push((store::PASSWORD, password.clone()));
        }
        Shown::Token(tokens) => {
            let repositories = [Some(&*wanted.artifact.repository), serving];
            let repositories = repositories.into_iter().flatten().collect();
            let namespace = wanted.plugin.key.namespace.clone();
            let subject = format!("{namespace}/{}", wanted.plugin.name_any());
            texts.push((store::TOKEN, tokens.issue(&subject, &repositories, now)?));
        }
    }
    let texts = texts.iter().map(|(key, text)| (*key, &**text));
    Ok(secrets::build_secret(metadata, secrets::OPAQUE, texts))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::fixtures;
    use serde_json::json;

    #[test]
    fn facts_are_what_the_sidecar_reads() {
        let (plugin, artifact) = (fixtures::plugin(), fixtures::packed());
        let facts = fixtures::desired(&plugin, &artifact).facts();
        assert_eq!(
            serde_json::to_value(facts).unwrap(),
            json!({
                "pluginNamespace": "shop", "pluginName": "commerce", "pluginUid": "uid-1",
                "activation": 3, "artifactDigest": artifact.digest, "marker": "m",
                "host": {"namespace": "paperclip", "name": "main"}, "granted": ["a"],
                "instance": {"instanceId": "paperclip/main", "hostVersion": "2026.916.1",
                    "deploymentMode": "authenticated", "deploymentExposure": "private"}
            })
        );
    }

    #[test]
    fn service_carries_what_a_host_selects_by_and_publishes_pods_that_are_not_ready() {
        let (plugin, artifact) = (fixtures::plugin(), fixtures::packed());
        let service = build_service(&fixtures::desired(&plugin, &artifact));
        assert_eq!(service.labels()[labels::HOST], "main");
        assert_eq!(service.labels()[labels::HOST_NAMESPACE], "paperclip");
        assert_eq!(service.labels()[labels::PLUGIN_UID], "uid-1");
        assert_eq!(service.name_any(), "pcp-commerce");
        assert_eq!(
            service.spec.unwrap().publish_not_ready_addresses,
            Some(true)
        );
    }

    #[test]
    fn owned_objects_name_their_owner_and_do_not_block_it() {
        let (plugin, artifact) = (fixtures::plugin(), fixtures::packed());
        let account = build_service_account(&fixtures::desired(&plugin, &artifact));
        let owner = &account.owner_references()[0];
        assert_eq!(
            (owner.uid.as_str(), owner.controller),
            ("uid-1", Some(true))
        );
        assert_eq!(owner.block_owner_deletion, None);
    }
}
