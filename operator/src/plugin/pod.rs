//! The Deployment of a plugin: one pod with fetch step, sidecar and worker.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment},
        core::v1::{
            Capabilities, Container, ContainerPort, DownwardAPIVolumeFile, DownwardAPIVolumeSource,
            EmptyDirVolumeSource, EnvVar, HTTPGetAction, ObjectFieldSelector, PodSecurityContext,
            PodSpec, PodTemplateSpec, Probe, ResourceRequirements, SeccompProfile,
            SecretVolumeSource, SecurityContext, Volume, VolumeMount,
        },
    },
    apimachinery::pkg::{
        api::resource::Quantity, apis::meta::v1::LabelSelector, util::intstr::IntOrString,
    },
};
use kube::api::ObjectMeta;
use paperclip_bridge::facts;
use paperclip_crds::{labels, v1alpha1::UpgradeStrategy};
use paperclip_oci::Digest;
use paperclip_pod_layout::{arguments, container, path, port, program, time, variable, volume};

use super::{desired::Desired, platforms, resources};
use crate::args::Args;

/// The capability without which a manifest may not declare jobs.
const JOBS: &str = "jobs.schedule";
const PROGRESS_SECONDS: i32 = 600;
/// ReplicaSets that are kept, so that a revision can be put back as it was.
const OLD_TEMPLATES: i32 = 5;

/// The Deployment, with every choice made. Pods of an artifact that the platform signed are
/// told the keys, in PEM.
#[must_use]
pub fn build_deployment(wanted: &Desired<'_>, args: &Args, keys: &str) -> Deployment {
    let selector = wanted.selector();
    let mut pod_labels = wanted.labels();
    pod_labels.extend(selector.clone());
    let mut metadata = wanted.metadata("");
    metadata.annotations = Some(BTreeMap::from([
        (labels::ACTIVATION.into(), wanted.activation.to_string()),
        (labels::INPUTS.into(), wanted.inputs()),
        (labels::RENDERED_BY.into(), rendered_by(args, keys)),
    ]));
    Deployment {
        metadata,
        spec: DeploymentSpec {
            replicas: Some(wanted.replicas()),
            revision_history_limit: Some(OLD_TEMPLATES),
            progress_deadline_seconds: Some(PROGRESS_SECONDS),
            selector: LabelSelector {
                match_labels: Some(selector),
                ..LabelSelector::default()
            },
            strategy: Some(build_strategy(wanted.plugin.spec.upgrade.strategy)),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(pod_labels),
                    annotations: Some(BTreeMap::from([
                        (labels::ACTIVATION.into(), wanted.activation.to_string()),
                        (labels::INPUTS.into(), wanted.inputs()),
                        (labels::RENDERED_BY.into(), rendered_by(args, keys)),
                        (
                            labels::ARTIFACT_DIGEST.into(),
                            wanted.artifact.digest.clone(),
                        ),
                        (
                            labels::FACTS.into(),
                            serde_json::to_string(&wanted.facts()).unwrap_or_default(),
                        ),
                    ])),
                    ..ObjectMeta::default()
                }),
                spec: Some(build_pod(wanted, args, keys)),
            },
            ..DeploymentSpec::default()
        },
        ..Deployment::default()
    }
}

fn build_strategy(strategy: UpgradeStrategy) -> DeploymentStrategy {
    match strategy {
        UpgradeStrategy::Overlap => DeploymentStrategy {
            type_: Some("RollingUpdate".into()),
            rolling_update: Some(RollingUpdateDeployment {
                max_surge: Some(IntOrString::Int(1)),
                max_unavailable: Some(IntOrString::Int(0)),
            }),
        },
        UpgradeStrategy::Replace => DeploymentStrategy {
            type_: Some("Recreate".into()),
            rolling_update: None,
        },
    }
}

/// Fingerprint of the operator's own release, images and keys.
#[must_use]
pub fn rendered_by(args: &Args, keys: &str) -> String {
    let images = [&args.sidecar_image, &args.runtime_image, keys].join(" ");
    let hash = Digest::of(images.as_bytes());
    format!("{}-{}", env!("CARGO_PKG_VERSION"), hash.short(8))
}

/// Grace period of a pod. No longer than it can need: a namespace that is deleted
/// comes back to its pods only after half the longest of these.
fn grace_seconds(granted: &[String]) -> i64 {
    let has_jobs = granted.iter().any(|capability| capability == JOBS);
    let drain = if has_jobs { time::JOBS } else { time::CALLS };
    (drain + time::STOP).as_secs().cast_signed()
}

fn build_pod(wanted: &Desired<'_>, args: &Args, keys: &str) -> PodSpec {
    PodSpec {
        service_account_name: Some(wanted.name("")),
        termination_grace_period_seconds: Some(grace_seconds(wanted.granted)),
        init_containers: Some(vec![
            build_fetch(wanted, args, keys),
            build_sidecar(wanted, args),
        ]),
        containers: vec![build_worker(wanted, args)],
        volumes: Some(build_volumes(wanted)),
        affinity: platforms::affinity(wanted.artifact),
        ..restricted_pod()
    }
}

fn build_fetch(wanted: &Desired<'_>, args: &Args, keys: &str) -> Container {
    let artifact = wanted.artifact;
    let reference = format!(
        "{}/{}@{}",
        args.store_pull(),
        artifact.repository,
        artifact.digest
    );
    let own = [
        arguments::REFERENCE,
        &reference,
        arguments::MARKER,
        &artifact.marker,
    ];
    let flags = own.into_iter().chain(arguments::FETCH);
    Container {
        name: container::FETCH.into(),
        image: Some(args.sidecar_image.clone()),
        image_pull_policy: Some(args.image_pull_policy.clone()),
        command: Some(vec![program::FETCH.into()]),
        args: Some(flags.map(str::to_owned).collect()),
        env: artifact.signed_by.as_ref().map(|_| {
            vec![EnvVar {
                name: variable::SIGNING_KEYS.into(),
                value: Some(keys.into()),
                ..EnvVar::default()
            }]
        }),
        volume_mounts: Some(vec![
            mount(volume::ARTIFACT, path::ARTIFACT, false),
            mount(volume::BIN, path::BIN, false),
            mount(volume::STORE, path::STORE, true),
        ]),
        resources: Some(memory("50m", "1", "64Mi", "512Mi")),
        termination_message_policy: Some("FallbackToLogsOnError".into()),
        ..restricted_container()
    }
}

fn build_sidecar(wanted: &Desired<'_>, args: &Args) -> Container {
    let mut flags = arguments::SIDECAR.map(str::to_owned).to_vec();
    if let Some(bytes) = resources::heap_follows(&wanted.resources) {
        flags.extend([arguments::WORKER_MEMORY.into(), bytes.to_string()]);
    }
    let open = |name: &str, number: u16| ContainerPort {
        name: Some(name.into()),
        container_port: number.into(),
        protocol: Some("TCP".into()),
        ..ContainerPort::default()
    };
    Container {
        name: container::SIDECAR.into(),
        image: Some(args.sidecar_image.clone()),
        image_pull_policy: Some(args.image_pull_policy.clone()),
        command: Some(vec![program::SIDECAR.into()]),
        args: Some(flags),
        restart_policy: Some("Always".into()),
        ports: Some(vec![
            open(port::GRPC_NAME, port::GRPC),
            open(port::HEALTH_NAME, port::HEALTH),
        ]),
        readiness_probe: Some(probe(port::READY, 1, 2)),
        liveness_probe: Some(probe(port::LIVE, 10, 3)),
        volume_mounts: Some(vec![
            mount(volume::ARTIFACT, path::ARTIFACT, true),
            mount(volume::RUN, path::RUN, false),
            mount(volume::TLS, path::TLS, true),
            mount(volume::FACTS, path::FACTS, true),
            mount(volume::CONFIG, path::CONFIG, true),
        ]),
        // A message of 128 Mi characters is held up to three times on its way; 285 MB were
        // seen with 100 MB.
        resources: Some(memory("10m", "1", "32Mi", "512Mi")),
        termination_message_policy: Some("FallbackToLogsOnError".into()),
        ..restricted_container()
    }
}

fn build_worker(wanted: &Desired<'_>, args: &Args) -> Container {
    Container {
        name: container::WORKER.into(),
        image: Some(args.runtime_image.clone()),
        image_pull_policy: Some(args.image_pull_policy.clone()),
        command: Some(vec![path::SHIM.into()]),
        volume_mounts: Some(vec![
            mount(volume::ARTIFACT, path::ARTIFACT, true),
            mount(volume::BIN, path::BIN, true),
            mount(volume::RUN, path::RUN, false),
            mount(volume::TMP, path::TMP, false),
        ]),
        resources: Some(resources::of_worker(&wanted.resources)),
        ..restricted_container()
    }
}

fn build_volumes(wanted: &Desired<'_>) -> Vec<Volume> {
    let empty = |name: &str, medium: Option<&str>, limit: &str| Volume {
        name: name.into(),
        empty_dir: Some(EmptyDirVolumeSource {
            medium: medium.map(str::to_owned),
            size_limit: Some(Quantity(limit.into())),
            ..EmptyDirVolumeSource::default()
        }),
        ..Volume::default()
    };
    let secret = |name: &str| Volume {
        name: name.into(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(wanted.name(&format!("-{name}"))),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    };
    let facts = Volume {
        name: volume::FACTS.into(),
        downward_api: Some(DownwardAPIVolumeSource {
            items: Some(vec![DownwardAPIVolumeFile {
                path: facts::FILE_NAME.into(),
                field_ref: Some(ObjectFieldSelector {
                    field_path: format!("metadata.annotations['{}']", labels::FACTS),
                    ..ObjectFieldSelector::default()
                }),
                ..DownwardAPIVolumeFile::default()
            }]),
            ..DownwardAPIVolumeSource::default()
        }),
        ..Volume::default()
    };
    vec![
        empty(volume::ARTIFACT, None, "4Gi"),
        empty(volume::BIN, None, "64Mi"),
        empty(volume::RUN, Some("Memory"), "16Mi"),
        empty(volume::TMP, None, "256Mi"),
        secret(volume::TLS),
        secret(volume::STORE),
        secret(volume::CONFIG),
        facts,
    ]
}

fn probe(path: &str, period: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.into()),
            port: IntOrString::String(port::HEALTH_NAME.into()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        failure_threshold: Some(failures),
        timeout_seconds: Some(1),
        ..Probe::default()
    }
}

/// A mount of a volume.
#[must_use]
pub fn mount(volume: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: volume.into(),
        mount_path: path.into(),
        // `false` is the default and is not stored.
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}

/// Requests and limits of a container.
#[must_use]
pub fn memory(
    cpu: &str,
    cpu_limit: &str,
    memory: &str,
    memory_limit: &str,
) -> ResourceRequirements {
    let of = |cpu: &str, memory: &str| {
        let quantity = |text: &str| Quantity(text.into());
        BTreeMap::from([
            ("cpu".into(), quantity(cpu)),
            ("memory".into(), quantity(memory)),
        ])
    };
    ResourceRequirements {
        requests: Some(of(cpu, memory)),
        limits: Some(of(cpu_limit, memory_limit)),
        ..ResourceRequirements::default()
    }
}

/// A container as Pod Security `restricted` wants it.
#[must_use]
pub fn restricted_container() -> Container {
    Container {
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".into()]),
                ..Capabilities::default()
            }),
            ..SecurityContext::default()
        }),
        ..Container::default()
    }
}

/// A pod as Pod Security `restricted` wants it, without a token. The user is the image's.
#[must_use]
pub fn restricted_pod() -> PodSpec {
    PodSpec {
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".into(),
                ..SeccompProfile::default()
            }),
            ..PodSecurityContext::default()
        }),
        ..PodSpec::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::fixtures;

    fn pod() -> PodSpec {
        let (plugin, artifact) = (fixtures::plugin(), fixtures::packed());
        build_pod(
            &fixtures::desired(&plugin, &artifact),
            &fixtures::args(),
            "keys",
        )
    }

    fn named(name: &str) -> Container {
        let pod = pod();
        let mut all = pod
            .init_containers
            .into_iter()
            .flatten()
            .chain(pod.containers);
        all.find(|container| container.name == name).unwrap()
    }

    #[test]
    fn only_a_plugin_that_may_have_jobs_gets_the_time_of_a_job() {
        assert_eq!(grace_seconds(&["tools.register".to_owned()]), 50);
        assert_eq!(grace_seconds(&["jobs.schedule".to_owned()]), 330);
    }

    #[test]
    fn pod_passes_pod_security_restricted() {
        fixtures::assert_restricted(&pod());
    }

    /// The flags of a container as pairs.
    fn flags(container: &Container) -> Vec<(String, String)> {
        let flags = container.args.clone().unwrap();
        let pairs = flags.chunks_exact(2);
        pairs
            .map(|pair| (pair[0].clone(), pair[1].clone()))
            .collect()
    }

    /// Where volumes are mounted in a container, by their names.
    fn mounts(container: &Container) -> BTreeMap<String, String> {
        let mounts = container.volume_mounts.iter().flatten();
        mounts
            .map(|mount| (mount.name.clone(), mount.mount_path.clone()))
            .collect()
    }

    #[test]
    fn every_folder_of_a_flag_is_mounted_and_every_mount_has_its_volume() {
        let pod = pod();
        let volumes: Vec<_> = pod.volumes.iter().flatten().map(|v| &v.name).collect();
        let all = pod.init_containers.iter().flatten().chain(&pod.containers);
        for container in all {
            let mounts = mounts(container);
            assert!(mounts.keys().all(|name| volumes.contains(&name)));
            let given = container.args.as_ref().map(|_| flags(container));
            for (flag, folder) in given.into_iter().flatten() {
                if let Some(name) = flag.strip_prefix("--").and_then(|f| f.strip_suffix("-dir")) {
                    assert_eq!(mounts.get(name), Some(&folder), "{flag}");
                }
            }
        }
    }

    #[test]
    fn programs_of_a_pod_meet_where_the_layout_says() {
        let (sidecar, worker) = (named(container::SIDECAR), named(container::WORKER));
        let run = |container: &Container| mounts(container)[volume::RUN].clone();
        assert_eq!(run(&sidecar), run(&worker));
        let flags: BTreeMap<_, _> = flags(&sidecar).into_iter().collect();
        assert!(flags["--socket"].starts_with(&run(&sidecar)));
        assert!(path::SHIM.starts_with(&mounts(&worker)[volume::BIN]));
        assert_eq!(mounts(&named(container::FETCH))[volume::BIN], path::BIN);
        let ports: Vec<_> = sidecar.ports.iter().flatten().collect();
        for (flag, port) in [("--grpc-listen", ports[0]), ("--health-listen", ports[1])] {
            assert_eq!(flags[flag], format!("0.0.0.0:{}", port.container_port));
        }
        let probed = sidecar.readiness_probe.unwrap().http_get.unwrap();
        assert_eq!(
            probed.port,
            IntOrString::String(ports[1].name.clone().unwrap())
        );
    }

    #[test]
    fn keys_facts_and_credentials_are_out_of_the_workers_reach() {
        let worker = named(container::WORKER);
        let names: Vec<_> = worker
            .volume_mounts
            .iter()
            .flatten()
            .map(|m| m.name.as_str())
            .collect();
        assert_eq!(names, ["artifact", "bin", "run", "tmp"]);
        assert_eq!(worker.env, None);
    }

    #[test]
    fn pods_of_what_was_signed_are_told_the_keys_and_others_are_left_as_they_were() {
        assert_eq!(named(container::FETCH).env, None);
        let (plugin, mut artifact) = (fixtures::plugin(), fixtures::packed());
        let unsigned = fixtures::desired(&plugin, &artifact).inputs();
        artifact.signed_by = Some("sha256:a".into());
        let wanted = fixtures::desired(&plugin, &artifact);
        assert_eq!(wanted.inputs(), unsigned, "no pod goes for it");
        let fetch = build_fetch(&wanted, &fixtures::args(), "keys");
        let told = fetch.env.unwrap().pop().unwrap();
        assert_eq!(told.name, variable::SIGNING_KEYS);
        assert_eq!(told.value.as_deref(), Some("keys"));
    }

    #[test]
    fn pods_of_an_artifact_for_some_cpus_are_kept_to_their_nodes() {
        let (plugin, mut artifact) = (fixtures::plugin(), fixtures::packed());
        assert_eq!(pod().affinity, None);
        artifact.platforms = vec!["linux/amd64".into()];
        let pod = build_pod(
            &fixtures::desired(&plugin, &artifact),
            &fixtures::args(),
            "",
        );
        assert_eq!(pod.affinity, platforms::affinity(&artifact));
        assert!(pod.affinity.is_some());
    }

    #[test]
    fn fetch_pulls_by_digest() {
        let reference = &named(container::FETCH).args.unwrap()[1];
        let digest = fixtures::packed().digest;
        assert_eq!(
            *reference,
            format!("paperclip-store.paperclip-system.svc:5000/plugins/example@{digest}")
        );
    }

    #[test]
    fn another_artifact_or_restart_is_another_template_and_config_or_activation_is_not() {
        let (mut plugin, mut artifact) = (fixtures::plugin(), fixtures::packed());
        let mut later = fixtures::desired(&plugin, &artifact);
        let before = later.inputs();
        later.activation += 1;
        assert_eq!(later.inputs(), before);
        artifact.digest = format!("sha256:{}", "b".repeat(64));
        assert_ne!(fixtures::desired(&plugin, &artifact).inputs(), before);
        let artifact = fixtures::packed();
        let annotations = plugin.metadata.annotations.get_or_insert_default();
        annotations.insert(labels::RESTARTED_AT.into(), "now".into());
        assert_ne!(fixtures::desired(&plugin, &artifact).inputs(), before);
        plugin.metadata.annotations = None;
        let mut config = paperclip_crds::v1alpha1::PluginConfig::default();
        config.default.insert("a".into(), 1.into());
        plugin.spec.config = Some(config);
        assert_eq!(fixtures::desired(&plugin, &artifact).inputs(), before);
    }
}
