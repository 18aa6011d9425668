//! Objects of the cluster, named by what matters about them.

use std::collections::BTreeMap;

use k8s_openapi::api::{
    apps::v1::{Deployment, DeploymentCondition, DeploymentStatus},
    core::v1::{
        ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStatus, Pod,
        PodStatus,
    },
};
use kube::api::ObjectMeta;
use paperclip_crds::{
    labels,
    v1alpha1::{
        AllowedNamespaces, ArtifactStatus, Grant, GrantOrigin, HostReference, NamespacesFrom,
        NpmSource, PaperclipHost, PaperclipHostSpec, PaperclipPlugin, PaperclipPluginRevisionSpec,
        PaperclipPluginSpec, PluginSource, PluginSummary, RevisionArtifact, ServiceReference,
    },
};

/// Flags of an operator whose store is the one in the cluster.
pub const OPERATOR_FLAGS: [&str; 11] = [
    "paperclip-operator",
    "--namespace=paperclip-system",
    "--pod-name=operator-0",
    "--npm-registry=https://registry.npmjs.org",
    "--store-read=paperclip-store.paperclip-system.svc:5000",
    "--store-push=paperclip-store.paperclip-system.svc:5001",
    "--store-pull=paperclip-store.paperclip-system.svc:5000",
    "--store-service=paperclip-store",
    "--sidecar-image=sidecar:1",
    "--packer-image=packer:1",
    "--runtime-image=runtime:1",
];

/// Release 1.0.0 of the package `example`.
#[must_use]
pub fn npm() -> NpmSource {
    NpmSource {
        package: "example".into(),
        version: Some("1.0.0".into()),
        range: None,
        resolve_interval_seconds: 3600,
        lock: None,
        registry: None,
        credentials_secret: None,
    }
}

/// Plugin `shop/commerce` of that package, attached to the host.
#[must_use]
pub fn plugin() -> PaperclipPlugin {
    let mut plugin = PaperclipPlugin::new(
        "commerce",
        PaperclipPluginSpec {
            source: PluginSource::Npm(npm()),
            manifest: None,
            config: None,
            secrets: Vec::new(),
            upgrade: Default::default(),
            suspend: false,
            worker: None,
            limits: None,
            revision_history_limit: 5,
            host: HostReference {
                name: "main".into(),
                namespace: Some("paperclip".into()),
            },
        },
    );
    plugin.metadata.namespace = Some("shop".into());
    plugin.metadata.uid = Some("uid-1".into());
    plugin
}

/// Host `paperclip/main`, which lets every namespace in.
#[must_use]
pub fn host() -> PaperclipHost {
    let mut host = PaperclipHost::new(
        "main",
        PaperclipHostSpec {
            service: ServiceReference {
                name: "main".into(),
                port: 3100,
            },
            allowed_namespaces: AllowedNamespaces {
                from: NamespacesFrom::All,
                names: Vec::new(),
            },
        },
    );
    host.metadata.namespace = Some("paperclip".into());
    host.metadata.uid = Some("uid-2".into());
    host.metadata.generation = Some(1);
    host
}

/// The artifact of that release.
#[must_use]
pub fn artifact() -> ArtifactStatus {
    ArtifactStatus {
        request: "pack-example-0".into(),
        source: "npm:example@1.0.0".into(),
        version: "1.0.0".into(),
        repository: "plugins/example".into(),
        digest: format!("sha256:{}", "a".repeat(64)),
        marker: "m".into(),
        signed_by: None,
        size_bytes: 1,
        observed_at: "2026-01-01T00:00:00Z".into(),
        agrees_with: None,
        lock_changes: None,
        platforms: Vec::new(),
        packed_for: Vec::new(),
    }
}

/// A revision of the plugin.
#[must_use]
pub fn revision(number: i64, activation: i64) -> PaperclipPluginRevisionSpec {
    PaperclipPluginRevisionSpec {
        plugin: "commerce".into(),
        number,
        artifact: packed(),
        manifest_digest: "sha256:m".into(),
        summary: PluginSummary::default(),
        activation,
        template_hash: format!("t{activation}"),
        config_hash: format!("c{number}"),
        secrets: Vec::new(),
        grant: Grant {
            origin: GrantOrigin::FirstRevision,
            capabilities: Vec::new(),
        },
        host: None,
        resources: Default::default(),
    }
}

/// The artifact as a revision has it.
#[must_use]
pub fn packed() -> RevisionArtifact {
    let found = artifact();
    RevisionArtifact {
        source: found.source,
        version: found.version,
        repository: found.repository,
        digest: found.digest,
        marker: found.marker,
        signed_by: found.signed_by,
        size_bytes: found.size_bytes,
        platforms: found.platforms,
    }
}

/// A pod of which one container has ended.
#[must_use]
pub fn ended(container: &str, exit_code: i32, message: &str) -> Pod {
    Pod {
        metadata: ObjectMeta {
            uid: Some("pod-1".into()),
            ..ObjectMeta::default()
        },
        status: Some(PodStatus {
            container_statuses: Some(vec![ContainerStatus {
                name: container.into(),
                state: Some(ContainerState {
                    terminated: Some(ContainerStateTerminated {
                        exit_code,
                        message: Some(message.into()),
                        ..ContainerStateTerminated::default()
                    }),
                    ..ContainerState::default()
                }),
                ..ContainerStatus::default()
            }]),
            ..PodStatus::default()
        }),
        ..Pod::default()
    }
}

/// Metadata of what belongs to an activation.
#[must_use]
pub fn activated(activation: u64) -> ObjectMeta {
    ObjectMeta {
        annotations: Some(BTreeMap::from([(
            labels::ACTIVATION.into(),
            activation.to_string(),
        )])),
        ..ObjectMeta::default()
    }
}

/// A Deployment of an activation.
#[must_use]
pub fn deployment(activation: u64) -> Deployment {
    Deployment {
        metadata: activated(activation),
        ..Deployment::default()
    }
}

/// A Deployment whose pod the cluster refuses.
#[must_use]
pub fn replica_failure(words: &str) -> Deployment {
    let condition = DeploymentCondition {
        type_: Some("ReplicaFailure".into()),
        status: Some("True".into()),
        reason: Some("FailedCreate".into()),
        message: Some(words.into()),
        ..DeploymentCondition::default()
    };
    Deployment {
        status: Some(DeploymentStatus {
            conditions: Some(vec![condition]),
            ..DeploymentStatus::default()
        }),
        ..deployment(2)
    }
}

/// A pod of the plugin whose sidecar runs, at an address where nobody listens.
#[must_use]
pub fn serving_pod() -> Pod {
    Pod {
        metadata: ObjectMeta {
            name: Some("pcp-commerce-1".into()),
            namespace: Some("shop".into()),
            uid: Some("pod-1".into()),
            labels: Some(BTreeMap::from([
                (labels::PLUGIN.into(), "commerce".into()),
                (labels::PLUGIN_UID.into(), "uid-1".into()),
            ])),
            ..ObjectMeta::default()
        },
        status: Some(PodStatus {
            pod_ip: Some("127.0.0.1".into()),
            init_container_statuses: Some(vec![ContainerStatus {
                name: "sidecar".into(),
                state: Some(ContainerState {
                    running: Some(ContainerStateRunning::default()),
                    ..ContainerState::default()
                }),
                ..ContainerStatus::default()
            }]),
            ..PodStatus::default()
        }),
        ..Pod::default()
    }
}
