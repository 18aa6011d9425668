//! Objects for tests, named by what matters about them.

use std::{collections::BTreeMap, sync::Arc};

use clap::Parser;
use k8s_openapi::api::{
    apps::v1::{Deployment, DeploymentCondition, DeploymentStatus},
    core::v1::{
        ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStatus, Pod,
        PodSpec, PodStatus,
    },
};
use kube::api::ObjectMeta;
use paperclip_bridge::v1::WatchStatusResponse;
use paperclip_crds::{
    labels,
    v1alpha1::{
        AllowedNamespaces, ArtifactStatus, Grant, GrantOrigin, HostReference, NamespacesFrom,
        NpmSource, PaperclipHost, PaperclipHostSpec, PaperclipPlugin, PaperclipPluginRevisionSpec,
        PaperclipPluginSpec, PluginSource, PluginSummary, RevisionArtifact, ServiceReference,
    },
};

use super::{desired::Wanted, revision};
use crate::{args::Args, pods::Seen};

pub fn args() -> Args {
    Args::parse_from([
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
    ])
}

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

/// The same as a revision has it.
pub fn packed() -> RevisionArtifact {
    revision::artifact(&artifact())
}

pub fn wanted<'a>(plugin: &'a PaperclipPlugin, artifact: &'a RevisionArtifact) -> Wanted<'a> {
    static GRANTED: std::sync::LazyLock<Vec<String>> =
        std::sync::LazyLock::new(|| vec!["a".to_owned()]);
    Wanted {
        plugin,
        artifact,
        granted: &GRANTED,
        host: plugin.host_reference(),
        resources: plugin.worker().resources,
        activation: 3,
    }
}

/// A pod of which one container has ended.
pub fn ended(container: &str, exit_code: i32, message: &str) -> Pod {
    Pod {
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

pub fn seen(pod: Pod) -> Seen {
    Seen {
        pod: Arc::new(pod),
        status: None,
    }
}

fn activated(activation: u64) -> ObjectMeta {
    ObjectMeta {
        annotations: Some(BTreeMap::from([(
            labels::ACTIVATION.into(),
            activation.to_string(),
        )])),
        ..ObjectMeta::default()
    }
}

pub fn deployment(activation: u64) -> Deployment {
    Deployment {
        metadata: activated(activation),
        ..Deployment::default()
    }
}

/// A Deployment whose pod the cluster refuses.
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

pub fn plugin_pod(activation: u64, status: Option<WatchStatusResponse>) -> Seen {
    let pod = Pod {
        metadata: activated(activation),
        ..Pod::default()
    };
    Seen {
        status,
        ..seen(pod)
    }
}

/// A pod of the plugin whose sidecar runs, at an address where nobody listens.
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

/// The rules of Pod Security `restricted`, and ours: no token, no writable root, no user.
pub fn assert_restricted(pod: &PodSpec) {
    assert_eq!(pod.automount_service_account_token, Some(false));
    assert!(!pod.host_network.unwrap_or(false) && !pod.host_pid.unwrap_or(false));
    let context = pod.security_context.as_ref().unwrap();
    assert_eq!(context.run_as_non_root, Some(true));
    assert_eq!(context.run_as_user, None);
    assert_eq!(
        context.seccomp_profile.as_ref().unwrap().type_,
        "RuntimeDefault"
    );
    for container in pod.init_containers.iter().flatten().chain(&pod.containers) {
        let context = container.security_context.as_ref().unwrap();
        assert_eq!(
            context.allow_privilege_escalation,
            Some(false),
            "{}",
            container.name
        );
        assert_eq!(
            context.read_only_root_filesystem,
            Some(true),
            "{}",
            container.name
        );
        let capabilities = context.capabilities.as_ref().unwrap();
        assert_eq!(
            capabilities.drop,
            Some(vec!["ALL".to_owned()]),
            "{}",
            container.name
        );
        let resources = container.resources.as_ref().unwrap();
        assert!(
            resources.requests.is_some() && resources.limits.is_some(),
            "{}",
            container.name
        );
    }
    for volume in pod.volumes.iter().flatten() {
        assert!(volume.host_path.is_none(), "{}", volume.name);
    }
}
