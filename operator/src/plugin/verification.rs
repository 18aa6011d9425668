//! Verification: an artifact carries the signatures that the cluster's trust policies require.
//!
//! The operator reads no signature: the packing Job does before it pushes, and a Job of its
//! own for what is in the store already. What they said stands in status under the name of the
//! check, which is made from the artifact and all that the policies ask, keys included: a
//! policy that changes is another check.

use std::sync::Arc;

use kube::ResourceExt;
use paperclip_artifact::trust::Policy;
use paperclip_crds::v1alpha1::{
    ArtifactStatus, PaperclipPluginStatus, PaperclipTrustPolicy, PluginSource, PolicySubject,
    Reason, VerificationStatus,
};
use paperclip_packing_api::{
    policies::Policies,
    request::StoreEndpoints,
    verification::{VerificationReport, VerifyRequest},
};

use super::{
    Plugin,
    artifact::{self, Stage},
    conditions::{Finding, Verdict, rfc3339},
    error::ReconcileError,
    packing::{self, Progress},
    unfinished::Unfinished,
};
use crate::{
    context::Context,
    trust_policy::{self, PolicyError},
};

/// Signatures that the policies require of a plugin's artifact, whatever artifact that is.
#[derive(Clone, Debug, PartialEq)]
pub enum SignatureRequirement {
    /// None, and why.
    None(String),
    /// No signature would satisfy them.
    Unsatisfiable(Finding),
    /// These signatures.
    Signatures(Policies),
}

impl SignatureRequirement {
    /// The requirements that the packing Job checks.
    #[must_use]
    pub fn demand(&self) -> &Policies {
        static NOTHING: Policies = Policies::nothing();
        match self {
            Self::None(_) | Self::Unsatisfiable(_) => &NOTHING,
            Self::Signatures(demand) => demand,
        }
    }
}

/// The signatures that are required of the plugin's artifact.
pub async fn requirement(
    context: &Context,
    plugin: &Plugin,
) -> Result<SignatureRequirement, ReconcileError> {
    let policies = context.reflectors.policies().await?;
    if policies.is_empty() {
        return Ok(SignatureRequirement::None(
            "No policy requires signatures.".into(),
        ));
    }
    let policies = matching(context, plugin, policies).await?;
    if policies.is_empty() {
        return Ok(SignatureRequirement::Unsatisfiable(unmatched(
            context, plugin,
        )));
    }
    let mut resolved = Vec::new();
    for policy in &policies {
        match trust_policy::resolve(context, policy).await {
            Ok(policy) => resolved.push(policy),
            Err(PolicyError::Unusable(finding)) => {
                let message = format!("Policy {}: {}", policy.name_any(), finding.message);
                return Ok(SignatureRequirement::Unsatisfiable(Finding::no(
                    finding.reason,
                    message,
                )));
            }
            Err(PolicyError::Watch(error)) => return Err(error.into()),
            Err(PolicyError::Request(source)) => {
                let doing = "reading a ConfigMap that a trust policy names";
                return Err(ReconcileError::request(doing)(source));
            }
        }
    }
    if let Some(finding) = unprovable(plugin, &resolved) {
        return Ok(SignatureRequirement::Unsatisfiable(finding));
    }
    let names = names(&resolved);
    let demand = Policies::new(resolved);
    if demand.is_empty() {
        return Ok(SignatureRequirement::None(format!(
            "{names} requires no signature."
        )));
    }
    Ok(match demand.validate() {
        Ok(()) => SignatureRequirement::Signatures(demand),
        Err(error) => SignatureRequirement::Unsatisfiable(Finding::no(
            Reason::PolicyInvalid,
            format!("{error}."),
        )),
    })
}

/// Judges the artifact in `status`, and records what came of it there. What the packing Job
/// judged is not judged again.
pub async fn verify(
    context: &Context,
    plugin: &Plugin,
    asked: &SignatureRequirement,
    stage: &Stage,
    status: &mut PaperclipPluginStatus,
) -> Result<Verdict, ReconcileError> {
    let demand = match asked {
        SignatureRequirement::None(message) => {
            status.verification = None;
            return Ok(Verdict::Skipped(message.clone()));
        }
        SignatureRequirement::Unsatisfiable(finding) => {
            status.verification = None;
            return Ok(Verdict::Refused(finding.clone()));
        }
        SignatureRequirement::Signatures(demand) => demand,
    };
    let Some(artifact) = status.artifact.as_ref().filter(|_| stage.finding.holds) else {
        return Ok(unpacked(status));
    };
    let request = match build_request(context, plugin, artifact, demand) {
        Ok(request) => request,
        Err(Unfinished::Blocked(finding)) => return Ok(Verdict::Refused(finding)),
        Err(Unfinished::Failed(error)) => return Err(error),
    };
    let name = request.job_name();
    if let Some(done) = status.verification.as_ref().filter(|it| it.request == name) {
        return Ok(recorded(done));
    }
    let package = format!("{}@{}", request.package, artifact.version);
    let progress = job(context, plugin, &request, &package).await?;
    Ok(conclude(progress, &request, &package, context, status))
}

/// Writes down that the packing Job found every policy met, as the check of its own would.
pub fn accept(
    context: &Context,
    plugin: &Plugin,
    asked: &SignatureRequirement,
    proofs: &[String],
    status: &mut PaperclipPluginStatus,
) -> Result<(), ReconcileError> {
    let (SignatureRequirement::Signatures(demand), Some(artifact), false) =
        (asked, &status.artifact, proofs.is_empty())
    else {
        return Ok(());
    };
    let request = match build_request(context, plugin, artifact, demand) {
        Ok(request) => request,
        Err(Unfinished::Blocked(_)) => return Ok(()),
        Err(Unfinished::Failed(error)) => return Err(error),
    };
    status.verification = Some(VerificationStatus {
        request: request.job_name(),
        refused: None,
        message: told(proofs),
        checked_at: rfc3339(context.now()),
    });
    Ok(())
}

/// The refusal of a packing Job by the policies, under the Job's name.
#[must_use]
pub fn refused(context: &Context, job: &str, finding: &Finding) -> VerificationStatus {
    VerificationStatus {
        request: job.to_owned(),
        refused: Some(finding.reason.to_string()),
        message: finding.message.clone(),
        checked_at: rfc3339(context.now()),
    }
}

fn told(proofs: &[String]) -> String {
    format!("{}.", proofs.join("; "))
}

/// While the artifact that is wanted is not there, nothing is known of it; unless that is why
/// it is not there.
fn unpacked(status: &PaperclipPluginStatus) -> Verdict {
    let refused = status.verification.as_ref();
    let refused = refused.filter(|done| status.failed_request.as_ref() == Some(&done.request));
    match refused {
        Some(done) => recorded(done),
        None => {
            let message = "Signatures are checked before the artifact is pushed to the store.";
            Verdict::Pending(Finding::no(Reason::Pending, message.into()))
        }
    }
}

/// Those that are for the plugin, by name, so that equal sets are equal requests.
async fn matching(
    context: &Context,
    plugin: &Plugin,
    mut policies: Vec<Arc<PaperclipTrustPolicy>>,
) -> Result<Vec<Arc<PaperclipTrustPolicy>>, ReconcileError> {
    let namespace = &plugin.key.namespace;
    let labels = context.reflectors.labels_of(namespace).await?;
    let (package, registry) = trust_policy::origin(context, plugin);
    let subject = PolicySubject {
        namespace,
        labels: &labels,
        package: &package,
        registry: &registry,
    };
    policies.retain(|policy| policy.spec.matches.includes(&subject));
    policies.sort_by_key(|policy| policy.name_any());
    Ok(policies)
}

fn unmatched(context: &Context, plugin: &Plugin) -> Finding {
    let (package, registry) = trust_policy::origin(context, plugin);
    let namespace = &plugin.key.namespace;
    let message = format!(
        "No PaperclipTrustPolicy is for {package} of {registry} in namespace {namespace}, and there are others."
    );
    Finding::no(Reason::NoPolicyMatches, message)
}

/// An artifact that was packed elsewhere. What the registry of npm said of a package proves
/// nothing here, since nobody saw this tree come from that package; who signed the image does.
fn unprovable(plugin: &Plugin, policies: &[Policy]) -> Option<Finding> {
    let PluginSource::Oci(source) = &plugin.spec.source else {
        return None;
    };
    let asks_npm = |policy: &&Policy| policy.require.iter().any(|one| one.is_of_npm());
    let asking: Vec<_> = policies.iter().filter(asks_npm).cloned().collect();
    let message = format!(
        "{} requires what the registry of a package signed, and {} was packed elsewhere: nobody here saw it come from that package.",
        names(&asking),
        source.repository
    );
    (!asking.is_empty()).then(|| Finding::no(Reason::SignatureMissing, message))
}

fn names(policies: &[Policy]) -> String {
    let names: Vec<_> = policies.iter().map(|policy| policy.name.as_str()).collect();
    format!("PaperclipTrustPolicy {}", names.join(", "))
}

fn build_request(
    context: &Context,
    plugin: &Plugin,
    artifact: &ArtifactStatus,
    demand: &Policies,
) -> Result<VerifyRequest, Unfinished<Finding>> {
    let digest = artifact.digest.parse();
    let request = VerifyRequest {
        store: StoreEndpoints {
            read: context.args.store_read.clone(),
            push: context.args.store_push.clone(),
            plain_http: false,
        },
        repository: artifact.repository.clone(),
        digest: digest.map_err(|_| ReconcileError::RecordedDigest(artifact.digest.clone()))?,
        package: trust_policy::origin(context, plugin).0,
        copied: matches!(plugin.spec.source, PluginSource::Oci(_)),
        policies: demand.policies().to_vec(),
    };
    match request.validate() {
        Ok(()) => Ok(request),
        Err(error) => {
            let finding = Finding::no(Reason::PolicyInvalid, format!("{error}."));
            Err(Unfinished::Blocked(finding))
        }
    }
}

/// The verdict of an earlier Job.
fn recorded(done: &VerificationStatus) -> Verdict {
    let message = done.message.clone();
    match done.refused.as_deref() {
        None => Verdict::Holds(Finding::yes(message)),
        Some(reason) => {
            let reason = Reason::from_name(reason).unwrap_or(Reason::SignatureInvalid);
            Verdict::Refused(Finding::no(reason, message))
        }
    }
}

async fn job(
    context: &Context,
    plugin: &Plugin,
    request: &VerifyRequest,
    package: &str,
) -> Result<Progress<VerificationReport>, ReconcileError> {
    let name = request.job_name();
    if let Some(job) = artifact::job(context, &name, None).await? {
        let pods = context.pods.of_job(&context.args.namespace, &name);
        return Ok(packing::verify_progress(&job, package, &pods));
    }
    let job = packing::build_verify_job(request, package, &context.args);
    let job = job.map_err(ReconcileError::Encode)?;
    artifact::create(context, plugin, &job, package, None).await
}

/// From what the Job came to so far to a verdict, which is written down once it is final.
fn conclude(
    progress: Progress<VerificationReport>,
    request: &VerifyRequest,
    package: &str,
    context: &Context,
    status: &mut PaperclipPluginStatus,
) -> Verdict {
    let done = |refused: Option<Reason>, message: String| VerificationStatus {
        request: request.job_name(),
        refused: refused.map(|reason| reason.to_string()),
        message,
        checked_at: rfc3339(context.now()),
    };
    let done = match progress {
        // A Job that speaks of another artifact is none of ours.
        Progress::Done(judged) if judged.digest == request.digest => {
            done(None, told(&judged.proofs))
        }
        Progress::Failed(finding, true) => done(Some(finding.reason), finding.message),
        Progress::Under(finding) | Progress::Failed(finding, false) => {
            return Verdict::Pending(match finding.reason {
                Reason::Packing => {
                    let message = format!("The signatures of {package} are being checked.");
                    Finding::no(Reason::Verifying, message)
                }
                Reason::PackingFailed => Finding::no(Reason::VerificationFailed, finding.message),
                _ => finding,
            });
        }
        Progress::Done(judged) => {
            let message = format!(
                "The Job {} spoke of {}, wanted {}.",
                request.job_name(),
                judged.digest,
                request.digest
            );
            return Verdict::Pending(Finding::no(Reason::VerificationFailed, message));
        }
    };
    let verdict = recorded(&done);
    status.verification = Some(done);
    verdict
}
