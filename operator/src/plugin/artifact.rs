//! From source to artifact: what is recorded, what the packing Job says, what the pins say.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, ResourceExt,
    api::{ListParams, PostParams},
    runtime::reflector::ObjectRef,
};
use paperclip_crds::{
    labels,
    v1alpha1::{
        ArtifactStatus, Class, ConditionType, ConfigMapKey, HttpSource, NpmSource, OciSource,
        PaperclipPluginStatus, PluginSource, Reason,
    },
};
use paperclip_oci::Digest;
use paperclip_packing_api::{
    naming,
    report::Published,
    request::{PackRequest, RemoteImage},
    resolve::{Reference, Wanted, locked},
    single_file::SingleFile,
};
use serde_json::Value;

use super::{
    Plugin,
    conditions::{Finding, rfc3339},
    credential::{self, Access},
    error::ReconcileError,
    lock_changes,
    packing::{self, Progress},
    pins, platforms,
    queue::{self, Turn},
    references::map_text,
    resolution, retry, summary,
    unfinished::Unfinished,
    verification::{self, SignatureRequirement},
};
use crate::{args::Args, context::Context, errors::chain};

/// State of the artifact.
pub struct Stage {
    /// `ArtifactReady`.
    pub finding: Finding,
    /// Why an artifact that is there may not run: a pin that differs.
    pub refused: Option<Finding>,
    /// Nothing more happens until a person acts.
    pub stalled: bool,
}

impl Stage {
    /// It is being brought about, or stands; what it waits for comes by itself.
    #[must_use]
    pub fn under_way(finding: Finding) -> Self {
        Self {
            finding,
            refused: None,
            stalled: false,
        }
    }

    /// Nothing more happens until a person acts.
    #[must_use]
    pub fn stalled(finding: Finding) -> Self {
        Self {
            finding,
            refused: None,
            stalled: true,
        }
    }
}

/// Brings the artifact about and records it in `status`, with what the policies that ask
/// something of it found.
pub async fn resolve(
    context: &Context,
    plugin: &Plugin,
    asked: &SignatureRequirement,
    status: &mut PaperclipPluginStatus,
) -> Result<Stage, ReconcileError> {
    if let Some(insecure) = insecure(plugin, &context.args) {
        return Ok(Stage::stalled(insecure));
    }
    let access = credential::access(context, plugin).await?;
    let access = access.as_ref();
    let request = match request(context, plugin, status, access).await {
        Ok(request) => request,
        Err(Unfinished::Blocked(stage)) => return Ok(stage),
        Err(Unfinished::Failed(error)) => return Err(error),
    };
    if let Err(error) = request.validate() {
        let finding = Finding::no(Reason::PackageRefused, error.to_string());
        return Ok(Stage::stalled(finding));
    }
    let job = asked.demand().job_name(&request);
    if status.failed_request.as_ref() == Some(&job)
        && let Some(finding) = recorded_failure(plugin)
    {
        return Ok(Stage::stalled(finding));
    }
    if status.artifact.as_ref().is_none_or(|artifact| {
        artifact.request != request.name() || is_withdrawn(context, artifact.signed_by.as_deref())
    }) {
        match pack(context, plugin, &request, asked, access).await? {
            Progress::Under(finding) => {
                return Ok(Stage::under_way(still_failing(plugin, finding)));
            }
            Progress::Failed(finding, true) => {
                if finding.reason.class() == Class::Policy {
                    status.verification = Some(verification::refused(context, &job, &finding));
                }
                status.failed_request = Some(job);
                return Ok(Stage::stalled(finding));
            }
            // The Job goes by itself, and then a new one tries again.
            Progress::Failed(finding, false) => return Ok(Stage::under_way(finding)),
            Progress::Done(published) => {
                record(context, plugin, &request, asked, published, status).await?;
            }
        }
    }
    status.failed_request = grow(context, plugin, &request, asked, access, status).await?;
    check_pins(context, plugin, status).await
}

/// The request that packs what the source stands for, for the platforms of this cluster.
async fn request(
    context: &Context,
    plugin: &Plugin,
    status: &mut PaperclipPluginStatus,
    access: Option<&Access>,
) -> Result<PackRequest, Unfinished<Stage>> {
    let request = match &plugin.spec.source {
        PluginSource::Npm(source) => npm_request(context, plugin, status, source, access).await?,
        PluginSource::Http(source) => http_request(context, plugin, status, source, access).await?,
        PluginSource::Oci(source) => oci_request(context, plugin, status, source, access).await?,
        PluginSource::ConfigMap(key) => {
            status.resolution = None;
            inline_request(context, plugin, key).await?
        }
    };
    let request = PackRequest {
        relock: relock_of(plugin, &request),
        repository: repository_of(context, plugin, &request),
        ..request
    };
    let nodes = context.nodes.platforms();
    Ok(platforms::request(request, status.artifact.as_ref(), nodes))
}

/// What a namespace's own credential opened, and what stands in its own ConfigMaps, is for that
/// namespace: it has repositories of its own, since who may pull is told by repository.
fn repository_of(context: &Context, plugin: &Plugin, request: &PackRequest) -> String {
    let namespace = &plugin.key.namespace;
    let own = || credential::owner(&context.fingerprints, namespace);
    let owner = request.owner().map(str::to_owned);
    match owner.or_else(|| request.single_file.is_some().then(own)) {
        Some(owner) => naming::repository_of_owner(&owner, &request.package),
        None => naming::repository(&request.package),
    }
}

/// Whether the key that signed an artifact was taken back since: it is packed again, which adds
/// a signature by the current key.
fn is_withdrawn(context: &Context, signed_by: Option<&str>) -> bool {
    let mut accepted = context.signing.keys().iter().map(|key| key.id());
    signed_by.is_some_and(|by| !accepted.any(|key| key.as_str() == by))
}

/// Packs again what differs by CPU and lacks that of a node. Meanwhile, and when that fails, the
/// artifact that is there goes on. Gives the request that the package's own fault made fail.
async fn grow(
    context: &Context,
    plugin: &Plugin,
    request: &PackRequest,
    asked: &SignatureRequirement,
    access: Option<&Access>,
    status: &mut PaperclipPluginStatus,
) -> Result<Option<String>, ReconcileError> {
    let settled = context.nodes.settled(context.now());
    let artifact = status.artifact.as_ref();
    // What was packed elsewhere has what it has.
    let artifact = artifact.filter(|_| request.image.is_none());
    let Some(platforms) = artifact.and_then(|artifact| platforms::grown(artifact, &settled)) else {
        return Ok(None);
    };
    let request = PackRequest {
        platforms,
        ..request.clone()
    };
    let job = asked.demand().job_name(&request);
    if status.failed_request.as_ref() == Some(&job) {
        return Ok(Some(job));
    }
    match pack(context, plugin, &request, asked, access).await? {
        Progress::Done(published) => {
            record(context, plugin, &request, asked, published, status).await?;
        }
        Progress::Failed(finding, true) => {
            let platforms = &request.platforms;
            let why = finding.message;
            tracing::warn!(%platforms, why, "an artifact cannot be packed for a new platform");
            return Ok(Some(job));
        }
        Progress::Under(_) | Progress::Failed(_, false) => {}
    }
    Ok(None)
}

/// Names the act of locking anew, where there is a lock to be resolved.
fn relock_of(plugin: &Plugin, request: &PackRequest) -> Option<String> {
    let is_resolved =
        request.lock.is_none() && request.single_file.is_none() && request.image.is_none();
    let asked = plugin.annotations().get(labels::RELOCK_REQUESTED_AT);
    asked.filter(|_| is_resolved).cloned()
}

/// A URL without TLS that the platform does not allow.
fn insecure(plugin: &Plugin, args: &Args) -> Option<Finding> {
    let (field, url) = match &plugin.spec.source {
        source @ PluginSource::Npm(_) => {
            let own = credential::own_registry(source, &args.npm_registry)?;
            ("npm.registry", own)
        }
        PluginSource::Http(source) => ("http.url", source.url.as_str()),
        PluginSource::Oci(_) | PluginSource::ConfigMap(_) => return None,
    };
    let is_refused = url.starts_with("http:") && !args.allow_insecure_sources;
    is_refused.then(|| {
        let message = format!(
            "spec.source.{field} is {url}, wanted an https URL: this platform does not allow insecure sources."
        );
        Finding::no(Reason::PackageRefused, message)
    })
}

async fn npm_request(
    context: &Context,
    plugin: &Plugin,
    status: &mut PaperclipPluginStatus,
    source: &NpmSource,
    access: Option<&Access>,
) -> Result<PackRequest, Unfinished<Stage>> {
    let args = &context.args;
    let lock = match &source.lock {
        None => None,
        Some(key) => {
            let text = map_text(context, plugin, key, "spec.source.npm.lock").await;
            Some(text.map_err(|missing| missing.map(Stage::under_way))?)
        }
    };
    let exact = match (&lock, &source.version) {
        (Some(lock), None) => match locked(lock, &source.package) {
            Some(version) => Some(version),
            None => return Err(Unfinished::Blocked(no_package_in_lock(source))),
        },
        (_, version) => version.clone(),
    };
    if let (Some(version), None) = (&exact, access) {
        status.resolution = None;
        return Ok(packing::build_request(source, version, lock, args));
    }
    let registry = credential::own_registry(&plugin.spec.source, &args.npm_registry);
    let registry = registry.unwrap_or(&args.npm_registry).to_owned();
    let wanted = Wanted::Npm {
        registry: registry.clone(),
        package: source.package.clone(),
        range: exact.or(source.range.clone()).unwrap_or_default(),
    };
    let resolved = resolution::resolve(context, plugin, status, wanted, access).await?;
    let request = packing::build_request(source, &resolved.version, lock, args);
    Ok(match access {
        // What the platform itself asks may be served by whatever it packed before.
        None => request,
        Some(access) => PackRequest {
            registry,
            integrity: Some(resolved.integrity),
            tenant: Some(access.tenant.clone()),
            ..request
        },
    })
}

fn no_package_in_lock(source: &NpmSource) -> Stage {
    let message = format!(
        "The lock under spec.source.npm.lock has no package {}.",
        source.package
    );
    Stage::stalled(Finding::no(Reason::PackageRefused, message))
}

async fn http_request(
    context: &Context,
    plugin: &Plugin,
    status: &mut PaperclipPluginStatus,
    HttpSource { url, integrity, .. }: &HttpSource,
    access: Option<&Access>,
) -> Result<PackRequest, Unfinished<Stage>> {
    let wanted = Wanted::Tarball {
        url: url.clone(),
        integrity: integrity.clone(),
    };
    let resolved = resolution::resolve(context, plugin, status, wanted, access).await?;
    Ok(PackRequest {
        tenant: access.map(|access| access.tenant.clone()),
        ..packing::build_tarball_request(url, resolved, &context.args)
    })
}

async fn oci_request(
    context: &Context,
    plugin: &Plugin,
    status: &mut PaperclipPluginStatus,
    source: &OciSource,
    access: Option<&Access>,
) -> Result<PackRequest, Unfinished<Stage>> {
    let reference = match (&source.tag, &source.digest) {
        (Some(tag), _) => Reference::Tag(tag.clone()),
        (None, digest) => match digest.as_deref().unwrap_or_default().parse() {
            Ok(digest) => Reference::Digest(digest),
            Err(_) => return Err(no_digest("spec.source.oci.digest")),
        },
    };
    let wanted = Wanted::Image {
        repository: source.repository.clone(),
        reference,
    };
    let resolved = resolution::resolve(context, plugin, status, wanted, access).await?;
    let Ok(digest) = resolved.integrity.parse() else {
        return Err(no_digest("status.resolution.integrity"));
    };
    let image = RemoteImage {
        repository: source.repository.clone(),
        digest,
    };
    Ok(PackRequest {
        tenant: access.map(|access| access.tenant.clone()),
        ..packing::build_image_request(image, &resolved, &context.args)
    })
}

fn no_digest(field: &str) -> Unfinished<Stage> {
    let message = format!("{field} is no digest, wanted `sha256:` and 64 hex digits.");
    Unfinished::Blocked(Stage::stalled(Finding::no(Reason::PackageRefused, message)))
}

async fn inline_request(
    context: &Context,
    plugin: &Plugin,
    key: &ConfigMapKey,
) -> Result<PackRequest, Unfinished<Stage>> {
    let worker = map_text(context, plugin, key, "spec.source.configMap").await;
    let worker = worker.map_err(|missing| missing.map(Stage::under_way))?;
    let inline = SingleFile {
        // The schema wants it there.
        manifest: Value::Object(plugin.spec.manifest.clone().unwrap_or_default()),
        worker,
    };
    let request = packing::build_single_file_request(inline, &context.args);
    request.map_err(|error| {
        let message = format!("{}.", chain(&error));
        let stage = Stage::stalled(Finding::no(Reason::ManifestInvalid, message));
        Unfinished::Blocked(stage)
    })
}

/// The failure that an earlier pass wrote down.
pub(super) fn recorded_failure(plugin: &Plugin) -> Option<Finding> {
    let condition = plugin.condition(ConditionType::ArtifactReady)?;
    let reason = Reason::from_name(&condition.reason)?;
    if !matches!(reason.class(), Class::Package | Class::Policy) {
        return None;
    }
    Some(Finding::no(reason, condition.message.clone()))
}

/// A Job that packs the same again after one that failed says nothing new until it ends.
pub(super) fn still_failing(plugin: &Plugin, finding: Finding) -> Finding {
    let before = plugin
        .condition(ConditionType::ArtifactReady)
        .filter(|stage| stage.observed_generation == plugin.metadata.generation)
        .filter(|_| finding.reason == Reason::Packing);
    retry::failed_before(before).unwrap_or(finding)
}

/// The Job's progress. Without a Job the store is asked, and the Job made if it has nothing
/// and the policies let anything in.
async fn pack(
    context: &Context,
    plugin: &Plugin,
    request: &PackRequest,
    asked: &SignatureRequirement,
    access: Option<&Access>,
) -> Result<Progress<Published>, ReconcileError> {
    let namespace = &context.args.namespace;
    let demand = asked.demand();
    let name = demand.job_name(request);
    let package = packing::package_of(request);
    if let Some(job) = job(context, &name, access).await? {
        let pods = context.pods.of_job(namespace, &name);
        return Ok(match packing::progress(&job, &package, &pods) {
            Progress::Done(done)
                if is_withdrawn(context, done.signed_by.as_ref().map(Digest::as_str)) =>
            {
                let message = format!(
                    "{package} was signed with a key that was taken back since, and is packed again once that Job is gone."
                );
                Progress::Under(Finding::no(Reason::Packing, message))
            }
            progress => progress,
        });
    }
    if let Some((pushed, key)) = context.packed(request).await {
        tracing::info!(package, digest = %pushed.digest, "artifact found in the store");
        return Ok(Progress::Done(Published {
            pushed,
            proofs: Vec::new(),
            signed_by: Some(key),
        }));
    }
    if let SignatureRequirement::Unsatisfiable(finding) = asked {
        return Ok(Progress::Under(finding.clone()));
    }
    if let Some(obstacle) = access.and_then(Access::obstacle) {
        return Ok(Progress::Under(obstacle.clone()));
    }
    let job = packing::build_job(request, demand, &context.args).map_err(ReconcileError::Encode)?;
    create(context, plugin, &job, &package, access).await
}

/// A Job of the platform's namespace. While it runs it has what it is lent, also when an operator
/// was ended between the two.
pub(super) async fn job(
    context: &Context,
    name: &str,
    access: Option<&Access>,
) -> Result<Option<Job>, ReconcileError> {
    let api: Api<Job> = Api::namespaced(context.client.clone(), &context.args.namespace);
    let found = api.get_opt(name).await;
    let found = found.map_err(ReconcileError::request("reading the packing Job"))?;
    if let (Some(job), Some(access)) = (&found, access)
        && queue::runs(job)
    {
        credential::lend(context, job, access).await?;
    }
    Ok(found)
}

/// Creates a Job when it is its turn, and says what happens now.
pub(super) async fn create<T>(
    context: &Context,
    plugin: &Plugin,
    job: &Job,
    package: &str,
    access: Option<&Access>,
) -> Result<Progress<T>, ReconcileError> {
    let api: Api<Job> = Api::namespaced(context.client.clone(), &context.args.namespace);
    let name = job.name_any();
    let limit = usize::from(context.args.max_packing_jobs);
    // Held until the Job is there, so that it is counted by who asks next.
    let mut queue = context.queue.lock().await;
    let ours = ListParams::default().labels(packing::JOBS);
    let jobs = api.list(&ours).await;
    let jobs = jobs.map_err(ReconcileError::request("listing the packing Jobs"))?;
    let running = jobs.iter().filter(|job| queue::runs(job)).count();
    let of = ObjectRef::from_obj(&plugin.object);
    let message = match queue.ask(&name, of, (running, limit), context.now()) {
        Turn::After(before) => format!(
            "{package} waits to be packed: {running} packing Jobs run, of {limit} at once, and {before} wait before it."
        ),
        Turn::Now => {
            match api.create(&PostParams::default(), job).await {
                // Another plugin's pass was faster; the Job is the same.
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                created => {
                    let job =
                        created.map_err(ReconcileError::request("creating the packing Job"))?;
                    tracing::info!(job = name, package, "packing Job created");
                    if let Some(access) = access {
                        credential::lend(context, &job, access).await?;
                    }
                }
            }
            format!("The packing Job of {package} runs.")
        }
    };
    Ok(Progress::Under(Finding::no(Reason::Packing, message)))
}

/// Writes down what a packing came to, and what it found of the policies.
async fn record(
    context: &Context,
    plugin: &Plugin,
    request: &PackRequest,
    asked: &SignatureRequirement,
    Published {
        pushed,
        proofs,
        signed_by,
    }: Published,
    status: &mut PaperclipPluginStatus,
) -> Result<(), ReconcileError> {
    let manifest = context
        .plugin_manifest(&pushed.repository, &pushed.digest)
        .await?;
    status.plugin = Some(summary::summarise(&manifest));
    let source = match &plugin.spec.source {
        PluginSource::Npm(_) => format!("npm:{}", packing::package_of(request)),
        PluginSource::Http(source) => format!("http:{}", source.url),
        PluginSource::Oci(source) => format!("oci:{}", source.asked()),
        PluginSource::ConfigMap(key) => format!("configMap:{}/{}", key.name, key.key),
    };
    let packed_for = request.platforms.iter().map(ToString::to_string).collect();
    let signed_by = signed_by.map(|key| key.to_string());
    if let Some(artifact) = &mut status.artifact
        && artifact.source == source
        && artifact.digest == pushed.digest.to_string()
    {
        // Nothing of it is new but what it was asked for and who signed it.
        artifact.request = request.name();
        artifact.signed_by = signed_by;
        artifact.platforms = platforms::names(&pushed.platforms);
        artifact.packed_for = packed_for;
        return verification::accept(context, plugin, asked, &proofs, status);
    }
    let lock_changes = match &status.artifact {
        Some(before) => lock_changes::since(context, before, request, &pushed).await,
        None => None,
    };
    status.artifact = Some(ArtifactStatus {
        request: request.name(),
        source,
        version: request.version.clone(),
        repository: pushed.repository,
        digest: pushed.digest.to_string(),
        marker: pushed.marker,
        signed_by,
        size_bytes: i64::try_from(pushed.size_bytes).unwrap_or(i64::MAX),
        observed_at: rfc3339(Timestamp::now()),
        agrees_with: None,
        lock_changes,
        platforms: platforms::names(&pushed.platforms),
        packed_for,
    });
    verification::accept(context, plugin, asked, &proofs, status)
}

/// Compares the pins with the package. What agreed once does so for ever: neither an artifact
/// nor the pins of a hash change, and a store that is away keeps nobody from going on.
async fn check_pins(
    context: &Context,
    plugin: &Plugin,
    status: &mut PaperclipPluginStatus,
) -> Result<Stage, ReconcileError> {
    let Some(artifact) = &mut status.artifact else {
        let finding = Finding::no(Reason::Pending, "No artifact is recorded yet.".into());
        return Ok(Stage::under_way(finding));
    };
    let hash = plugin.spec.manifest.as_ref().map(pins::hash);
    let refused = match &plugin.spec.manifest {
        None => None,
        Some(_) if artifact.agrees_with == hash => None,
        Some(pinned) => {
            let digest: Digest = artifact
                .digest
                .parse()
                .map_err(|_| ReconcileError::RecordedDigest(artifact.digest.clone()))?;
            let manifest = context
                .plugin_manifest(&artifact.repository, &digest)
                .await?;
            pins::mismatch(pinned, &manifest)
        }
    };
    artifact.agrees_with = hash.filter(|_| refused.is_none());
    let message = format!("The artifact is in the store under {}.", artifact.digest);
    Ok(Stage {
        refused: refused.map(|difference| Finding::no(Reason::ManifestMismatch, difference)),
        ..Stage::under_way(Finding::yes(message))
    })
}
