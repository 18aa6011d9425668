//! The packing Job: its desired state, and its progress.

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
use paperclip_artifact_format::platform::Platform;
use paperclip_crds::{
    labels,
    v1alpha1::{NpmSource, Reason},
};
use paperclip_packing_api::{
    job::{self, EVALUATE, FETCH, PUSH, RESOLVE, VERIFY},
    naming,
    policies::{self, Policies},
    report::{FailureReason, PACKAGE_AT_FAULT, Published, StepReport, parse, parse_failure},
    request::{self, PackRequest, RemoteImage, StoreEndpoints},
    resolve::{self, ResolveRequest, Resolved, Wanted},
    single_file::{SingleFile, SingleFileError},
    verification::{self, VerificationReport, VerifyRequest},
};

use serde::de::DeserializeOwned;

use super::{
    conditions::Finding,
    diagnose,
    pod::{memory, mount, restricted_container, restricted_pod},
};
use crate::{args::Args, nodes::ARCHITECTURE, pods::ObservedPod, signing};

/// Selects every Job of this module.
pub const JOBS: &str = "app.kubernetes.io/name=paperclip-packer";
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
pub fn build_single_file_request(
    single_file: SingleFile,
    args: &Args,
) -> Result<PackRequest, SingleFileError> {
    single_file.check()?;
    let request = request_of(single_file.package()?, single_file.version()?, args);
    Ok(PackRequest {
        single_file: Some(single_file),
        ..request
    })
}

fn request_of(package: &str, version: &str, args: &Args) -> PackRequest {
    PackRequest {
        registry: args.npm_registry.clone(),
        package: package.to_owned(),
        version: version.to_owned(),
        store: StoreEndpoints {
            read: args.store_read.clone(),
            push: args.store_push.clone(),
            plain_http: false,
        },
        repository: naming::repository(package),
        ..PackRequest::default()
    }
}

/// The request that packs a resolved tarball.
#[must_use]
pub fn build_tarball_request(url: &str, resolved: Resolved, args: &Args) -> PackRequest {
    let package = resolved.package.unwrap_or_default();
    PackRequest {
        tarball: Some(url.to_owned()),
        integrity: Some(resolved.integrity),
        ..request_of(&package, &resolved.version, args)
    }
}

/// The request that copies a resolved image.
#[must_use]
pub fn build_image_request(image: RemoteImage, resolved: &Resolved, args: &Args) -> PackRequest {
    let package = resolved.package.as_deref().unwrap_or_default();
    PackRequest {
        image: Some(image),
        ..request_of(package, &resolved.version, args)
    }
}

/// The Job that carries a request out, and pushes nothing that does not meet the demand. Two
/// plugins with equal requests and demands share it, so it belongs to neither.
///
/// # Errors
/// When the request is no JSON, which cannot be.
pub fn build_job(
    request: &PackRequest,
    demand: &Policies,
    args: &Args,
) -> Result<Job, serde_json::Error> {
    let text = serde_json::to_string(request)?;
    let name = demand.job_name(request);
    let from = match (&request.image, &request.tarball, &request.single_file) {
        (Some(_), ..) => Origin::Image,
        (None, Some(_), _) => Origin::Tarball,
        (None, None, Some(_)) => Origin::SingleFile,
        (None, None, None) => Origin::Npm,
    };
    let lent = Lent::new(&name, request.tenant.is_some(), from);
    let step = |name| build_step(name, request::ENVIRONMENT, &text, &lent, args);
    // An image holds its plugin manifest already, and nothing of it is run.
    let before = match request.image {
        Some(_) => vec![step(FETCH)],
        None => vec![step(FETCH), step(EVALUATE)],
    };
    let mut push = step(PUSH);
    let mounts = push.volume_mounts.get_or_insert_default();
    mounts.push(mount("signing", job::SIGNING, true));
    let mut volumes = build_volumes(&lent, args);
    volumes.push(build_signing_volume());
    if !demand.is_empty() {
        let text = serde_json::to_string(demand)?;
        let variables = push.env.get_or_insert_default();
        variables.push(variable(policies::ENVIRONMENT, &text));
    }
    Ok(build(
        name.clone(),
        package_of(request),
        PodSpec {
            init_containers: Some(before),
            containers: vec![push],
            volumes: Some(volumes),
            ..restricted_pod()
        },
        args,
    ))
}

/// The Job that resolves a source, with the credential for its registry.
///
/// # Errors
/// When the request is no JSON, which cannot be.
pub fn build_resolve_job(
    request: &ResolveRequest,
    asked: &str,
    args: &Args,
) -> Result<Job, serde_json::Error> {
    let text = serde_json::to_string(request)?;
    let name = request.job_name();
    let from = match &request.wanted {
        Wanted::Npm { .. } => Origin::Npm,
        Wanted::Tarball { .. } => Origin::Tarball,
        Wanted::Image { .. } => Origin::Image,
    };
    let lent = Lent {
        // A resolution reads the tarball alone, and not its dependencies.
        platforms_npm: from == Origin::Npm && request.tenant.is_none(),
        ..Lent::new(&name, request.tenant.is_some(), from)
    };
    let mut volumes = build_volumes(&lent, args);
    volumes.retain(|volume| !volume.name.starts_with("store"));
    let step = build_step(RESOLVE, resolve::ENVIRONMENT, &text, &lent, args);
    Ok(build(
        name.clone(),
        asked.to_owned(),
        PodSpec {
            containers: vec![step],
            volumes: Some(volumes),
            ..restricted_pod()
        },
        args,
    ))
}

/// Kind of the place that a package comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Npm,
    Tarball,
    Image,
    SingleFile,
}

/// The credentials that the step which downloads has.
struct Lent<'a> {
    /// The platform's, for its npm registry.
    platforms_npm: bool,
    /// The tenant's: the Secret of the Job, and the folder that takes it.
    tenants: Option<(&'a str, &'static str)>,
}

impl<'a> Lent<'a> {
    fn new(job: &'a str, is_tenants: bool, origin: Origin) -> Self {
        let folder = match origin {
            Origin::Npm => job::NPM,
            Origin::Tarball | Origin::Image | Origin::SingleFile => job::SOURCE,
        };
        Self {
            platforms_npm: match origin {
                Origin::Npm => !is_tenants,
                Origin::Tarball | Origin::SingleFile => true,
                Origin::Image => false,
            },
            tenants: is_tenants.then_some((job, folder)),
        }
    }
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
    let nothing = Lent {
        platforms_npm: false,
        tenants: None,
    };
    let mut volumes = build_volumes(&nothing, args);
    volumes.retain(|volume| volume.name != "store-read");
    Ok(build(
        request.job_name(),
        package.to_owned(),
        PodSpec {
            containers: vec![build_step(
                VERIFY,
                verification::ENVIRONMENT,
                &text,
                &nothing,
                args,
            )],
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
                    node_selector: Some(packers_nodes()),
                    ..pod
                }),
            },
            ..JobSpec::default()
        }),
        ..Job::default()
    }
}

/// The nodes that a packer runs on: its Node is pinned for one CPU, whatever it packs for.
fn packers_nodes() -> BTreeMap<String, String> {
    let architecture = Platform::default().oci_architecture();
    let of = |architecture: &str| (ARCHITECTURE.to_owned(), architecture.to_owned());
    architecture.map(of).into_iter().collect()
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

fn variable(name: &str, value: &str) -> EnvVar {
    EnvVar {
        name: name.into(),
        value: Some(value.into()),
        ..EnvVar::default()
    }
}

fn build_step(
    name: &str,
    name_of_request: &str,
    request: &str,
    lent: &Lent<'_>,
    args: &Args,
) -> Container {
    let mut mounts = vec![
        mount("work", job::WORK, false),
        mount("tmp", job::TEMPORARY, false),
    ];
    if matches!(name, FETCH | RESOLVE) {
        if lent.platforms_npm && args.npm_secret.is_some() {
            mounts.push(mount("npm", job::NPM, true));
        }
        if let Some((_, folder)) = lent.tenants {
            mounts.push(mount("lent", folder, true));
        }
    }
    match name {
        FETCH => mounts.push(mount("store-read", job::STORE, true)),
        // It records what it found.
        PUSH | VERIFY => mounts.push(mount("store-push", job::STORE, true)),
        _ => {}
    }
    Container {
        name: name.into(),
        image: Some(args.packer_image.clone()),
        image_pull_policy: Some(args.image_pull_policy.clone()),
        command: Some(vec![job::PROGRAM.into(), name.into()]),
        env: Some(vec![variable(name_of_request, request)]),
        volume_mounts: Some(mounts),
        resources: Some(memory("100m", "2", "256Mi", "2Gi")),
        ..restricted_container()
    }
}

fn build_volumes(lent: &Lent<'_>, args: &Args) -> Vec<Volume> {
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
    if let Some(secret) = args.npm_secret.as_ref().filter(|_| lent.platforms_npm) {
        volumes.push(build_secret_volume("npm", secret, &[]));
    }
    if let Some((secret, _)) = lent.tenants {
        // It is made after the Job, whose it is; the pod waits for it.
        let mut volume = build_secret_volume("lent", secret, &[]);
        if let Some(secret) = &mut volume.secret {
            secret.optional = Some(false);
        }
        volumes.push(volume);
    }
    volumes
}

/// The platform's key. Nothing is pushed without it.
fn build_signing_volume() -> Volume {
    let mut volume = build_secret_volume("signing", signing::SECRET, &[signing::PRIVATE]);
    if let Some(secret) = &mut volume.secret {
        secret.optional = Some(false);
    }
    volume
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

/// Progress of a packing Job.
#[derive(Clone, Debug, PartialEq)]
pub enum Progress<T> {
    /// Its last step has reported this.
    Done(T),
    /// It works, or will be tried again; the finding says what it hangs on.
    Under(Finding),
    /// It has failed for good; whether the package is at fault.
    Failed(Finding, bool),
}

/// Progress of the packing of a package.
#[must_use]
pub fn progress(job: &Job, package: &str, pods: &[ObservedPod]) -> Progress<Published> {
    progress_to(PUSH, job, package, pods)
}

/// Progress of a resolution.
#[must_use]
pub fn resolve_progress(job: &Job, package: &str, pods: &[ObservedPod]) -> Progress<Resolved> {
    progress_to(RESOLVE, job, package, pods)
}

/// Progress of a verification.
#[must_use]
pub fn verify_progress(
    job: &Job,
    package: &str,
    pods: &[ObservedPod],
) -> Progress<VerificationReport> {
    progress_to(VERIFY, job, package, pods)
}

/// Reads a Job and its pods.
fn progress_to<T: DeserializeOwned>(
    last: &str,
    job: &Job,
    package: &str,
    pods: &[ObservedPod],
) -> Progress<T> {
    for seen in pods {
        let message = diagnose::termination(&seen.pod, last).and_then(|end| end.message.as_deref());
        if let Some(StepReport::Ok(done)) = message.and_then(parse::<T>) {
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
fn newest_failure(pods: &[ObservedPod]) -> Option<(Reason, String, bool)> {
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

    #[test]
    fn a_rendered_job_keeps_to_the_contract_with_the_packer() {
        let (args, lent) = (fixtures::args(), Some(("lent", job::SOURCE)));
        let lent = Lent {
            platforms_npm: true,
            tenants: lent,
        };
        for step in job::STEPS {
            let Container {
                command,
                volume_mounts,
                name,
                ..
            } = build_step(step, request::ENVIRONMENT, "{}", &lent, &args);
            assert_eq!(command.unwrap(), [job::PROGRAM, step]);
            assert_eq!(name, step);
            for mount in volume_mounts.unwrap() {
                let path = &*mount.mount_path;
                assert!(job::FOLDERS.contains(&path), "{step}: {path}");
            }
        }
        let job = build_job(&request(), &Policies::default(), &args).unwrap();
        let pod = job.spec.unwrap().template.spec.unwrap();
        let signing = pod
            .volumes
            .unwrap()
            .into_iter()
            .find(|one| one.name == "signing");
        let items = signing.unwrap().secret.unwrap().items.unwrap();
        assert_eq!(items[0].path, job::SIGNING_KEY);
        let push = &pod.containers[0];
        let mut mounts = push.volume_mounts.iter().flatten();
        assert!(mounts.any(|mount| mount.mount_path == job::SIGNING));
    }

    fn request() -> PackRequest {
        build_request(&fixtures::npm(), "1.0.0", None, &fixtures::args())
    }

    #[test]
    fn only_the_step_that_needs_a_credential_has_it() {
        let job = build_job(&request(), &Policies::default(), &fixtures::args()).unwrap();
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
                let is_secret = |name: &&str| name.starts_with("store") || *name == "signing";
                names.filter(is_secret).collect()
            })
            .collect();
        assert_eq!(
            secrets,
            [vec!["store-read"], vec![], vec!["store-push", "signing"]]
        );
        fixtures::assert_restricted(&spec);
    }

    fn mounts(spec: &PodSpec, volume: &str) -> Vec<String> {
        let steps = spec
            .init_containers
            .iter()
            .flatten()
            .chain(&spec.containers);
        let has = |step: &&Container| {
            let mut mounts = step.volume_mounts.iter().flatten();
            mounts.any(|mount| mount.name == volume)
        };
        steps.filter(has).map(|step| step.name.clone()).collect()
    }

    #[test]
    fn what_a_tenant_lends_is_for_the_download_and_the_platforms_is_not_for_its_registry() {
        let args = Args {
            npm_secret: Some("npm".into()),
            ..fixtures::args()
        };
        let tenant = Some(paperclip_packing_api::request::Tenant {
            owner: "aa".into(),
            credential: "bb".into(),
        });
        let spec = |request: &PackRequest| {
            let job = build_job(request, &Policies::default(), &args).unwrap();
            job.spec.unwrap().template.spec.unwrap()
        };
        let own = PackRequest {
            tenant: tenant.clone(),
            ..request()
        };
        let of_npm = spec(&own);
        assert_eq!(mounts(&of_npm, "lent"), [FETCH]);
        assert!(of_npm.volumes.iter().flatten().all(|one| one.name != "npm"));
        let lent = of_npm
            .volumes
            .iter()
            .flatten()
            .find(|one| one.name == "lent");
        let secret = lent.unwrap().secret.clone().unwrap();
        assert_eq!(secret.secret_name, Some(own.job_name()));
        assert_eq!(secret.optional, Some(false));

        let of_tarball = spec(&PackRequest {
            tarball: Some("https://files.example/x.tgz".into()),
            ..own.clone()
        });
        assert_eq!(mounts(&of_tarball, "lent"), [FETCH]);
        assert_eq!(mounts(&of_tarball, "npm"), [FETCH]);

        let of_image = spec(&PackRequest {
            image: Some(RemoteImage {
                repository: "registry.example/x".into(),
                digest: paperclip_oci::Digest::of(b""),
            }),
            ..own.clone()
        });
        assert_eq!(mounts(&of_image, "lent"), [FETCH]);
        assert_eq!(mounts(&of_image, "npm"), [""; 0]);
        assert_eq!(of_image.init_containers.map(|steps| steps.len()), Some(1));

        let look = ResolveRequest {
            wanted: Wanted::Npm {
                registry: "https://npm.acme.example".into(),
                package: "x".into(),
                range: "1.0.0".into(),
            },
            round: String::new(),
            tenant,
        };
        let look = build_resolve_job(&look, "x@1.0.0", &args).unwrap();
        let look = look.spec.unwrap().template.spec.unwrap();
        assert_eq!(mounts(&look, "lent"), [RESOLVE]);
        assert_eq!(mounts(&look, "npm"), [""; 0]);
        for spec in [&of_npm, &of_tarball, &look] {
            fixtures::assert_restricted(spec);
        }
    }

    #[test]
    fn what_policies_ask_is_told_to_the_step_that_pushes_and_makes_another_job() {
        let demand: Policies = serde_json::from_value(json!([
            {"name": "p", "require": [{"cosign": {"key": "k"}}]}
        ]))
        .unwrap();
        let job = build_job(&request(), &demand, &fixtures::args()).unwrap();
        let plain = build_job(&request(), &Policies::default(), &fixtures::args()).unwrap();
        assert_ne!(job.metadata.name, plain.metadata.name);
        let asked = |job: Job| -> Vec<(String, Option<String>)> {
            let spec = job.spec.unwrap().template.spec.unwrap();
            let steps = spec.init_containers.into_iter().flatten();
            let steps = steps.chain(spec.containers);
            let named = steps.flat_map(|step| {
                let variables = step.env.into_iter().flatten();
                let asked = variables.filter(|one| one.name == policies::ENVIRONMENT);
                let name = step.name;
                asked
                    .map(move |one| (name.clone(), one.value))
                    .collect::<Vec<_>>()
            });
            named.collect()
        };
        let text = serde_json::to_string(&demand).unwrap();
        assert_eq!(asked(job), [(PUSH.to_owned(), Some(text))]);
        assert_eq!(asked(plain), []);
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
        assert!(matches!(found, Progress::Done(done) if done.pushed.digest.as_str() == digest));
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
