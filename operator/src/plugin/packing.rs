//! The packing Job: what it is, and what it came to.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        batch::v1::{
            Job, JobSpec, PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement,
            PodFailurePolicyRule,
        },
        core::v1::{
            Container, EmptyDirVolumeSource, EnvVar, KeyToPath, PodSpec, PodTemplateSpec,
            SecretVolumeSource, Volume,
        },
    },
    apimachinery::pkg::api::resource::Quantity,
};
use kube::api::ObjectMeta;
use paperclip_artifact::{
    inline::{Inline, InlineError},
    inputs,
    outcome::{FailureReason, PACKAGE_AT_FAULT, Pushed, StepOutcome, parse, parse_failure},
    request::{self, PackRequest, Platform, StoreEndpoints},
    resolve::{self, ResolveRequest, Resolved},
    trust::judge::{self, Judged, VerifyRequest},
};
use paperclip_crds::{
    labels,
    v1alpha1::{NpmSource, Reason},
};

use serde::de::DeserializeOwned;

use super::{
    conditions::Finding,
    diagnose,
    pod::{memory, mount, restricted_container, restricted_pod},
};
use crate::{args::Args, pods::Seen};

/// Selects every Job of this module.
pub const JOBS: &str = "app.kubernetes.io/name=paperclip-packer";
/// Names of the steps; each is a command of the packer.
const RESOLVE: &str = "resolve";
const FETCH: &str = "fetch";
const EVALUATE: &str = "evaluate";
const PUSH: &str = "push";
const VERIFY: &str = "verify";
/// A Job that has ended is looked at within seconds; a failed one may be tried again after this.
const KEEP_SECONDS: i32 = 120;
const DEADLINE_SECONDS: i64 = 900;
const RETRIES: i32 = 3;

/// The request that packs a version of a source.
#[must_use]
pub fn build_request(
    source: &NpmSource,
    version: &str,
    lock: Option<String>,
    args: &Args,
) -> PackRequest {
    PackRequest {
        lock,
        ..request_of(&source.package, version, args)
    }
}

/// The request that packs a plugin of one file.
///
/// # Errors
/// When its plugin manifest names no package.
pub fn build_inline_request(inline: Inline, args: &Args) -> Result<PackRequest, InlineError> {
    inline.check()?;
    let request = request_of(inline.package()?, inline.version()?, args);
    Ok(PackRequest {
        inline: Some(inline),
        ..request
    })
}

fn request_of(package: &str, version: &str, args: &Args) -> PackRequest {
    PackRequest {
        registry: args.npm_registry.clone(),
        package: package.to_owned(),
        version: version.to_owned(),
        lock: None,
        inline: None,
        platform: Platform::default(),
        store: StoreEndpoints {
            read: args.store_read.clone(),
            push: args.store_push.clone(),
            plain_http: false,
        },
        repository: inputs::repository(package),
    }
}

/// The Job that carries a request out. Two plugins with equal requests share it, so it
/// belongs to neither.
///
/// # Errors
/// When the request is no JSON, which cannot be.
pub fn build_job(request: &PackRequest, args: &Args) -> Result<Job, serde_json::Error> {
    let text = serde_json::to_string(request)?;
    let step = |name| build_step(name, request::ENVIRONMENT, &text, args);
    Ok(build(
        request.job_name(),
        package_of(request),
        PodSpec {
            init_containers: Some(vec![step(FETCH), step(EVALUATE)]),
            containers: vec![step(PUSH)],
            volumes: Some(build_volumes(args)),
            ..restricted_pod()
        },
        args,
    ))
}

/// The Job that finds out what a range stands for. It has what is needed to ask npm.
///
/// # Errors
/// When the request is no JSON, which cannot be.
pub fn build_resolve_job(request: &ResolveRequest, args: &Args) -> Result<Job, serde_json::Error> {
    let text = serde_json::to_string(request)?;
    let mut volumes = build_volumes(args);
    volumes.retain(|volume| !volume.name.starts_with("store"));
    Ok(build(
        request.job_name(),
        format!("{}@{}", request.package, request.range),
        PodSpec {
            containers: vec![build_step(RESOLVE, resolve::ENVIRONMENT, &text, args)],
            volumes: Some(volumes),
            ..restricted_pod()
        },
        args,
    ))
}

/// The Job that checks signatures. It reads the store and asks nobody else.
///
/// # Errors
/// When the request is no JSON, which cannot be.
pub fn build_verify_job(
    request: &VerifyRequest,
    package: &str,
    args: &Args,
) -> Result<Job, serde_json::Error> {
    let text = serde_json::to_string(request)?;
    let mut volumes = build_volumes(args);
    volumes.retain(|volume| !matches!(volume.name.as_str(), "npm" | "store-read"));
    Ok(build(
        request.job_name(),
        package.to_owned(),
        PodSpec {
            containers: vec![build_step(VERIFY, judge::ENVIRONMENT, &text, args)],
            volumes: Some(volumes),
            ..restricted_pod()
        },
        args,
    ))
}

fn build(name: String, package: String, pod: PodSpec, args: &Args) -> Job {
    let labels = BTreeMap::from([
        (labels::MANAGED_BY.into(), labels::OPERATOR.into()),
        (labels::NAME.into(), "paperclip-packer".into()),
        (labels::COMPONENT.into(), "packer".into()),
    ]);
    let annotations = BTreeMap::from([(labels::PACKAGE.into(), package)]);
    let steps = pod.init_containers.iter().flatten().chain(&pod.containers);
    let policy = failure_policy(steps.map(|step| step.name.clone()));
    Job {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: Some(args.namespace.clone()),
            labels: Some(labels.clone()),
            annotations: Some(annotations.clone()),
            ..ObjectMeta::default()
        },
        spec: Some(JobSpec {
            active_deadline_seconds: Some(DEADLINE_SECONDS),
            backoff_limit: Some(RETRIES),
            pod_failure_policy: Some(policy),
            ttl_seconds_after_finished: Some(KEEP_SECONDS),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(labels),
                    annotations: Some(annotations),
                    ..ObjectMeta::default()
                }),
                spec: Some(PodSpec {
                    restart_policy: Some("Never".into()),
                    ..pod
                }),
            },
            ..JobSpec::default()
        }),
        ..Job::default()
    }
}

/// `name@version` of a request.
#[must_use]
pub fn package_of(request: &PackRequest) -> String {
    format!("{}@{}", request.package, request.version)
}

fn failure_policy(steps: impl Iterator<Item = String>) -> PodFailurePolicy {
    let at_fault = |step| PodFailurePolicyRule {
        action: "FailJob".into(),
        on_exit_codes: Some(PodFailurePolicyOnExitCodesRequirement {
            container_name: Some(step),
            operator: "In".into(),
            values: vec![i32::from(PACKAGE_AT_FAULT)],
        }),
        ..PodFailurePolicyRule::default()
    };
    PodFailurePolicy {
        rules: steps.map(at_fault).collect(),
    }
}

fn build_step(name: &str, variable: &str, request: &str, args: &Args) -> Container {
    let mut mounts = vec![mount("work", "/work", false), mount("tmp", "/tmp", false)];
    if matches!(name, FETCH | RESOLVE) && args.npm_secret.is_some() {
        mounts.push(mount("npm", "/etc/paperclip/npm", true));
    }
    match name {
        FETCH => mounts.push(mount("store-read", "/etc/paperclip/store", true)),
        // It records what it found.
        PUSH | VERIFY => mounts.push(mount("store-push", "/etc/paperclip/store", true)),
        _ => {}
    }
    Container {
        name: name.into(),
        image: Some(args.packer_image.clone()),
        image_pull_policy: Some(args.image_pull_policy.clone()),
        command: Some(vec!["/usr/local/bin/paperclip-packer".into(), name.into()]),
        env: Some(vec![EnvVar {
            name: variable.into(),
            value: Some(request.into()),
            ..EnvVar::default()
        }]),
        volume_mounts: Some(mounts),
        resources: Some(memory("100m", "2", "256Mi", "2Gi")),
        ..restricted_container()
    }
}

fn build_volumes(args: &Args) -> Vec<Volume> {
    let scratch = |name: &str, limit: &str| Volume {
        name: name.into(),
        empty_dir: Some(EmptyDirVolumeSource {
            size_limit: Some(Quantity(limit.into())),
            ..EmptyDirVolumeSource::default()
        }),
        ..Volume::default()
    };
    // The htpasswd file of the Secret is the store's alone.
    let credential = ["username", "password", "ca.crt"];
    let mut volumes = vec![
        scratch("work", "4Gi"),
        scratch("tmp", "1Gi"),
        build_secret_volume("store-read", &args.store_read_secret, &credential),
        build_secret_volume("store-push", &args.store_push_secret, &credential),
    ];
    if let Some(secret) = &args.npm_secret {
        volumes.push(build_secret_volume("npm", secret, &[]));
    }
    volumes
}

fn build_secret_volume(volume: &str, secret: &str, keys: &[&str]) -> Volume {
    let item = |key: &&str| KeyToPath {
        key: (*key).into(),
        path: (*key).into(),
        ..KeyToPath::default()
    };
    Volume {
        name: volume.into(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret.into()),
            items: (!keys.is_empty()).then(|| keys.iter().map(item).collect()),
            // A store with a public certificate has no ca.crt.
            optional: Some(true),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    }
}

/// What a packing Job came to so far.
#[derive(Clone, Debug, PartialEq)]
pub enum Progress<T> {
    /// Its last step has reported this.
    Done(T),
    /// It works, or will be tried again; the finding says what it hangs on.
    Under(Finding),
    /// It has failed for good; whether the package is at fault.
    Failed(Finding, bool),
}

/// How far the packing of a package is.
#[must_use]
pub fn progress(job: &Job, package: &str, pods: &[Seen]) -> Progress<Pushed> {
    progress_to(PUSH, job, package, pods)
}

/// How far the look at the registry is.
#[must_use]
pub fn resolve_progress(job: &Job, package: &str, pods: &[Seen]) -> Progress<Resolved> {
    progress_to(RESOLVE, job, package, pods)
}

/// How far the check of signatures is.
#[must_use]
pub fn verify_progress(job: &Job, package: &str, pods: &[Seen]) -> Progress<Judged> {
    progress_to(VERIFY, job, package, pods)
}

/// Reads a Job and its pods.
fn progress_to<T: DeserializeOwned>(
    last: &str,
    job: &Job,
    package: &str,
    pods: &[Seen],
) -> Progress<T> {
    for seen in pods {
        let message = diagnose::termination(&seen.pod, last).and_then(|end| end.message.as_deref());
        if let Some(StepOutcome::Ok(done)) = message.and_then(parse::<T>) {
            return Progress::Done(done);
        }
    }
    let failure = newest_failure(pods);
    let failed_for_good = job
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten())
        .find(|condition| condition.type_ == "Failed" && condition.status == "True");
    if let Some((reason, message, at_fault)) = failure {
        let finding = Finding::no(reason, message);
        return if failed_for_good.is_some() || at_fault {
            Progress::Failed(finding, at_fault)
        } else {
            Progress::Under(finding)
        };
    }
    if let Some(condition) = failed_for_good {
        let why = condition.message.as_deref().unwrap_or("the Job failed");
        let message = format!("Packing {package} failed: {why}.");
        return Progress::Failed(Finding::no(Reason::PackingFailed, message), false);
    }
    let trouble = pods.iter().find_map(|seen| diagnose::trouble(&seen.pod));
    Progress::Under(match trouble {
        Some(finding) => finding,
        None => Finding::no(
            Reason::Packing,
            format!("The packing Job of {package} runs."),
        ),
    })
}

/// The reason and words of the step that failed last.
fn newest_failure(pods: &[Seen]) -> Option<(Reason, String, bool)> {
    let mut pods: Vec<_> = pods.iter().map(|seen| &seen.pod).collect();
    pods.sort_by_key(|pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0));
    for pod in pods.iter().rev() {
        for step in [RESOLVE, FETCH, EVALUATE, PUSH, VERIFY] {
            let Some(end) = diagnose::termination(pod, step).filter(|end| end.exit_code != 0)
            else {
                continue;
            };
            let told = end.message.as_deref().and_then(parse_failure);
            return Some(match told {
                Some(failure) => (
                    reason(failure.reason),
                    failure.message,
                    failure.reason.is_fault_of_package(),
                ),
                None => (
                    Reason::PackingFailed,
                    untold(step, end.exit_code, end.reason.as_deref()),
                    false,
                ),
            });
        }
    }
    None
}

fn untold(step: &str, code: i32, reason: Option<&str>) -> String {
    let reason = reason.unwrap_or("Error");
    format!(
        "The step {step} of the packing Job ended with code {code} ({reason}) and said nothing."
    )
}

/// The API's word for a step's.
#[must_use]
pub fn reason(reason: FailureReason) -> Reason {
    match reason {
        FailureReason::PackageNotFound => Reason::PackageNotFound,
        FailureReason::VersionNotFound => Reason::VersionNotFound,
        FailureReason::RegistryUnavailable => Reason::RegistryUnavailable,
        FailureReason::RegistryAccessDenied => Reason::RegistryAccessDenied,
        FailureReason::PackageRefused => Reason::PackageRefused,
        FailureReason::ManifestMissing => Reason::ManifestMissing,
        FailureReason::ManifestInvalid => Reason::ManifestInvalid,
        FailureReason::WorkerFileMissing => Reason::WorkerFileMissing,
        FailureReason::PackingFailed => Reason::PackingFailed,
        FailureReason::StoreUnavailable => Reason::StoreUnavailable,
        FailureReason::SignatureMissing => Reason::SignatureMissing,
        FailureReason::SignatureInvalid => Reason::SignatureInvalid,
        FailureReason::IdentityMismatch => Reason::IdentityMismatch,
        FailureReason::KeyExpired => Reason::KeyExpired,
        FailureReason::PolicyInvalid => Reason::PolicyInvalid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::fixtures;
    use serde_json::json;

    fn request() -> PackRequest {
        build_request(&fixtures::npm(), "1.0.0", None, &fixtures::args())
    }

    #[test]
    fn only_the_step_that_needs_a_credential_has_it() {
        let job = build_job(&request(), &fixtures::args()).unwrap();
        let spec = job.spec.unwrap().template.spec.unwrap();
        let steps: Vec<_> = spec
            .init_containers
            .iter()
            .flatten()
            .chain(&spec.containers)
            .collect();
        let secrets: Vec<Vec<&str>> = steps
            .iter()
            .map(|step| {
                let names = step
                    .volume_mounts
                    .iter()
                    .flatten()
                    .map(|mount| mount.name.as_str());
                names.filter(|name| name.starts_with("store")).collect()
            })
            .collect();
        assert_eq!(secrets, [vec!["store-read"], vec![], vec!["store-push"]]);
        fixtures::assert_restricted(&spec);
    }

    #[test]
    fn equal_requests_have_one_job() {
        let name = |lock: Option<&str>| {
            let lock = lock.map(str::to_owned);
            build_request(&fixtures::npm(), "1.0.0", lock, &fixtures::args()).job_name()
        };
        assert_eq!(name(None), name(None));
        assert_ne!(name(None), name(Some("{}")));
        assert!(name(None).len() <= 63);
    }

    #[test]
    fn a_push_that_reports_is_the_artifact() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let message = json!({"ok": {"repository": "plugins/x", "digest": digest, "marker": "m",
            "sizeBytes": 1, "lockDigest": digest}});
        let pod = fixtures::ended("push", 0, &message.to_string());
        let found = progress(&Job::default(), "x@1.0.0", &[fixtures::seen(pod)]);
        assert!(matches!(found, Progress::Done(pushed) if pushed.digest.as_str() == digest));
    }

    #[test]
    fn a_package_at_fault_fails_before_the_job_says_so() {
        let message = json!({"error": {"reason": "PackageNotFound", "message": "no such version"}});
        let pod = fixtures::ended("fetch", 10, &message.to_string());
        let found = progress(&Job::default(), "x@1.0.0", &[fixtures::seen(pod)]);
        let finding = Finding::no(Reason::PackageNotFound, "no such version".into());
        assert_eq!(found, Progress::Failed(finding, true));
    }

    #[test]
    fn a_fault_that_passes_is_told_while_the_job_tries_again() {
        let message = json!({"error": {"reason": "RegistryUnavailable", "message": "timed out"}});
        let pod = fixtures::ended("fetch", 1, &message.to_string());
        let found = progress(&Job::default(), "x@1.0.0", &[fixtures::seen(pod)]);
        let finding = Finding::no(Reason::RegistryUnavailable, "timed out".into());
        assert_eq!(found, Progress::Under(finding));
    }
}
