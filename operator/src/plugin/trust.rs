//! Whether an artifact carries the signatures that the cluster's trust policies ask for.
//!
//! The operator reads no signature: the packing Job does before it pushes, and a Job of its
//! own for what is in the store already. What they said stands in status under the name of the
//! check, which is made from the artifact and all that the policies ask, keys included: a
//! policy that changes is another check.

use std::sync::Arc;

use kube::ResourceExt;
use paperclip_artifact::trust::Policy;
use paperclip_crds::v1alpha1::{
    ArtifactStatus, PaperclipPlugin, PaperclipPluginStatus, PaperclipTrustPolicy, PluginSource,
    PolicySubject, Reason, VerificationStatus,
};
use paperclip_packing_api::{
    policies::Policies,
    request::StoreEndpoints,
    verification::{VerificationReport, VerifyRequest},
};

use super::{
    artifact::{self, Stage},
    conditions::{Finding, Verdict, rfc3339},
    packing::{self, Progress},
    reconcile::ReconcileError,
};
use crate::{
    context::Context,
    trust::{self, PolicyError},
};

/// What the policies ask of a plugin's artifact, whatever artifact that is.
#[derive(Clone, Debug, PartialEq)]
pub enum Asked {
    /// Nothing, and why.
    Nothing(String),
    /// Nothing that it could carry would do.
    Denied(Finding),
    /// These signatures.
    Signatures(Policies),
}

impl Asked {
    /// What the packing Job is to ask for.
    #[must_use]
    pub fn demand(&self) -> &Policies {
        static NOTHING: Policies = Policies::nothing();
        match self {
            Self::Nothing(_) | Self::Denied(_) => &NOTHING,
            Self::Signatures(demand) => demand,
        }
    }
}

/// Finds out what is asked of the plugin's artifact.
pub async fn ask(context: &Context, plugin: &PaperclipPlugin) -> Result<Asked, ReconcileError> {
    let policies = context.watched.policies().await?;
    if policies.is_empty() {
        return Ok(Asked::Nothing("No policy asks for signatures.".into()));
    }
    let policies = matching(context, plugin, policies).await?;
    if policies.is_empty() {
        return Ok(Asked::Denied(unmatched(context, plugin)));
    }
    let mut resolved = Vec::new();
    for policy in &policies {
        match trust::resolve(context, policy).await {
            Ok(policy) => resolved.push(policy),
            Err(PolicyError::Unusable(finding)) => {
                let message = format!("Policy {}: {}", policy.name_any(), finding.message);
                return Ok(Asked::Denied(Finding::no(finding.reason, message)));
            }
            Err(PolicyError::Watch(error)) => return Err(error.into()),
            Err(PolicyError::Request(source)) => {
                let doing = "reading a ConfigMap that a trust policy names";
                return Err(ReconcileError::request(doing)(source));
            }
        }
    }
    if let Some(finding) = unprovable(plugin, &resolved) {
        return Ok(Asked::Denied(finding));
    }
    let names = names(&resolved);
    let demand = Policies::new(resolved);
    if demand.is_empty() {
        return Ok(Asked::Nothing(format!("{names} asks for no signature.")));
    }
    Ok(match demand.validate() {
        Ok(()) => Asked::Signatures(demand),
        Err(error) => Asked::Denied(Finding::no(Reason::PolicyInvalid, format!("{error}."))),
    })
}

/// Judges the artifact in `status`, and records what came of it there. What the packing Job
/// judged is not judged again.
pub async fn verify(
    context: &Context,
    plugin: &PaperclipPlugin,
    asked: &Asked,
    stage: &Stage,
    status: &mut PaperclipPluginStatus,
) -> Result<Verdict, ReconcileError> {
    let demand = match asked {
        Asked::Nothing(message) => {
            status.verification = None;
            return Ok(Verdict::Skipped(message.clone()));
        }
        Asked::Denied(finding) => {
            status.verification = None;
            return Ok(Verdict::Refused(finding.clone()));
        }
        Asked::Signatures(demand) => demand,
    };
    let Some(artifact) = status.artifact.as_ref().filter(|_| stage.finding.holds) else {
        return Ok(unpacked(status));
    };
    let request = match build_request(context, plugin, artifact, demand)? {
        Ok(request) => request,
        Err(finding) => return Ok(Verdict::Refused(finding)),
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
    plugin: &PaperclipPlugin,
    asked: &Asked,
    proofs: &[String],
    status: &mut PaperclipPluginStatus,
) -> Result<(), ReconcileError> {
    let (Asked::Signatures(demand), Some(artifact), false) =
        (asked, &status.artifact, proofs.is_empty())
    else {
        return Ok(());
    };
    if let Ok(request) = build_request(context, plugin, artifact, demand)? {
        status.verification = Some(VerificationStatus {
            request: request.job_name(),
            refused: None,
            message: told(proofs),
            checked_at: rfc3339(context.now()),
        });
    }
    Ok(())
}

/// What the packing Job found that does not meet the policies, under the Job's name.
#[must_use]
pub fn refused(context: &Context, job: &str, finding: &Finding) -> VerificationStatus {
    VerificationStatus {
        request: job.to_owned(),
        refused: Some(finding.reason.to_string()),
        message: finding.message.clone(),
        checked_at: rfc3339(context.now()),
    }
}

/// Whether a Job gives this reason where a policy is not met, or is none.
#[must_use]
pub fn judges_by(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::SignatureMissing
            | Reason::SignatureInvalid
            | Reason::IdentityMismatch
            | Reason::KeyExpired
            | Reason::PolicyInvalid
    )
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
    plugin: &PaperclipPlugin,
    mut policies: Vec<Arc<PaperclipTrustPolicy>>,
) -> Result<Vec<Arc<PaperclipTrustPolicy>>, ReconcileError> {
    let namespace = plugin.namespace().unwrap_or_default();
    let labels = context.watched.labels_of(&namespace).await?;
    let (package, registry) = trust::origin(context, plugin);
    let subject = PolicySubject {
        namespace: &namespace,
        labels: &labels,
        package: &package,
        registry: &registry,
    };
    policies.retain(|policy| policy.spec.matches.includes(&subject));
    policies.sort_by_key(|policy| policy.name_any());
    Ok(policies)
}

fn unmatched(context: &Context, plugin: &PaperclipPlugin) -> Finding {
    let (package, registry) = trust::origin(context, plugin);
    let namespace = plugin.namespace().unwrap_or_default();
    let message = format!(
        "No PaperclipTrustPolicy is for {package} of {registry} in namespace {namespace}, and there are others."
    );
    Finding::no(Reason::NoPolicyMatches, message)
}

/// An artifact that was packed elsewhere. What the registry of npm said of a package proves
/// nothing here, since nobody saw this tree come from that package; who signed the image does.
fn unprovable(plugin: &PaperclipPlugin, policies: &[Policy]) -> Option<Finding> {
    let PluginSource::Oci(source) = &plugin.spec.source else {
        return None;
    };
    let asks_npm = |policy: &&Policy| policy.require.iter().any(|one| one.is_of_npm());
    let asking: Vec<_> = policies.iter().filter(asks_npm).cloned().collect();
    let message = format!(
        "{} asks what the registry of a package signed, and {} was packed elsewhere: nobody here saw it come from that package.",
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
    plugin: &PaperclipPlugin,
    artifact: &ArtifactStatus,
    demand: &Policies,
) -> Result<Result<VerifyRequest, Finding>, ReconcileError> {
    let digest = artifact.digest.parse();
    let request = VerifyRequest {
        store: StoreEndpoints {
            read: context.args.store_read.clone(),
            push: context.args.store_push.clone(),
            plain_http: false,
        },
        repository: artifact.repository.clone(),
        digest: digest.map_err(|_| ReconcileError::RecordedDigest(artifact.digest.clone()))?,
        package: trust::origin(context, plugin).0,
        copied: matches!(plugin.spec.source, PluginSource::Oci(_)),
        policies: demand.policies().to_vec(),
    };
    Ok(match request.validate() {
        Ok(()) => Ok(request),
        Err(error) => Err(Finding::no(Reason::PolicyInvalid, format!("{error}."))),
    })
}

/// What an earlier Job said.
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
    plugin: &PaperclipPlugin,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api_server::ApiServer, plugin::fixtures};
    use k8s_openapi::api::batch::v1::Job;
    use serde_json::{Value, json};
    use std::sync::Arc;

    const POLICIES: &str = "/apis/plugins.paperclip.ing/v1alpha1/papercliptrustpolicies";
    const JOBS: &str = "/apis/batch/v1/namespaces/paperclip-system/jobs";
    /// A P-256 key that nobody signs with.
    const KEY: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==";

    fn policy(name: &str, spec: Value) -> Value {
        json!({
            "apiVersion": "plugins.paperclip.ing/v1alpha1", "kind": "PaperclipTrustPolicy",
            "metadata": {"name": name}, "spec": spec,
        })
    }

    fn signed_by(keyid: &str) -> Value {
        json!([{"npmSignature": {"keys": [{"keyid": keyid, "key": KEY}]}}])
    }

    struct Cluster {
        server: ApiServer,
        context: Arc<Context>,
        status: PaperclipPluginStatus,
    }

    impl Cluster {
        async fn new() -> Self {
            let server = ApiServer::default();
            Self {
                context: server.context_without_pods().await,
                server,
                status: PaperclipPluginStatus {
                    artifact: Some(fixtures::artifact()),
                    ..PaperclipPluginStatus::default()
                },
            }
        }

        fn put(&self, name: &str, spec: Value) {
            let path = format!("{POLICIES}/{name}");
            self.server.put(&path, &policy(name, spec));
            self.server.watched_by(&self.context);
        }

        async fn asked(&self) -> Asked {
            ask(&self.context, &fixtures::plugin()).await.unwrap()
        }

        async fn verify(&mut self) -> Verdict {
            let stage = Stage::under_way(Finding::yes("packed"));
            self.verify_at(&stage).await
        }

        async fn verify_at(&mut self, stage: &Stage) -> Verdict {
            let (plugin, asked) = (fixtures::plugin(), self.asked().await);
            let verdict = verify(&self.context, &plugin, &asked, stage, &mut self.status);
            verdict.await.unwrap()
        }

        /// The verifying Jobs that were made.
        fn jobs(&self) -> Vec<Job> {
            let objects = self.server.objects();
            let jobs = objects.iter().filter(|(path, _)| path.starts_with(JOBS));
            jobs.map(|(_, job)| serde_json::from_value(job.clone()).unwrap())
                .collect()
        }

        /// The check that waits for its Job, and what that Job's pod says.
        async fn told(&mut self, code: i32, message: Value) -> Verdict {
            let job = self.jobs().pop().unwrap();
            let request = job.spec.unwrap().template.spec.unwrap().containers[0]
                .env
                .clone();
            let request = request.unwrap()[0].value.clone().unwrap();
            let request: VerifyRequest = serde_json::from_str(&request).unwrap();
            let pod = fixtures::ended("verify", code, &message.to_string());
            let seen = [fixtures::seen(pod)];
            let progress = packing::verify_progress(&Job::default(), "p", &seen);
            conclude(progress, &request, "p", &self.context, &mut self.status)
        }
    }

    fn reason(verdict: &Verdict) -> Option<Reason> {
        verdict.obstacle().map(|finding| finding.reason)
    }

    #[tokio::test]
    async fn without_policies_nothing_is_asked_for() {
        let mut cluster = Cluster::new().await;
        assert_eq!(cluster.verify().await, Verdict::default());
        assert_eq!(cluster.server.writes(), Vec::<String>::new());
    }

    #[tokio::test]
    async fn with_policies_for_others_alone_an_artifact_is_denied() {
        let mut cluster = Cluster::new().await;
        let elsewhere = json!({"namespaces": {"names": ["elsewhere"]}});
        cluster.put("a", json!({"match": elsewhere, "require": []}));
        let verdict = cluster.verify().await;
        assert!(matches!(verdict, Verdict::Refused(_)), "{verdict:?}");
        assert_eq!(reason(&verdict), Some(Reason::NoPolicyMatches));
    }

    #[tokio::test]
    async fn policy_that_asks_for_nothing_lets_through_and_is_named() {
        let mut cluster = Cluster::new().await;
        cluster.put("open", json!({"require": []}));
        let Verdict::Skipped(message) = cluster.verify().await else {
            panic!("it must be skipped");
        };
        assert!(message.contains("open"), "{message}");
    }

    #[tokio::test]
    async fn namespace_is_chosen_by_its_labels() {
        let mut cluster = Cluster::new().await;
        let labelled = json!({"namespaces": {"labels": {"trust": "none"}}});
        cluster.put("open", json!({"match": labelled, "require": []}));
        assert_eq!(
            reason(&cluster.verify().await),
            Some(Reason::NoPolicyMatches)
        );
        let namespace = json!({"metadata": {"name": "shop", "labels": {"trust": "none"}}});
        cluster.server.put("/api/v1/namespaces/shop", &namespace);
        cluster.server.watched_by(&cluster.context);
        assert_eq!(reason(&cluster.verify().await), None);
    }

    #[tokio::test]
    async fn check_is_a_job_that_has_one_step_and_the_stores_credential_alone() {
        let mut cluster = Cluster::new().await;
        cluster.put("signed", json!({"require": signed_by("SHA256:a")}));
        assert_eq!(reason(&cluster.verify().await), Some(Reason::Verifying));
        let jobs = cluster.jobs();
        let spec = jobs[0]
            .spec
            .as_ref()
            .unwrap()
            .template
            .spec
            .as_ref()
            .unwrap();
        assert!(spec.init_containers.is_none());
        let secrets = spec.volumes.iter().flatten();
        let secrets: Vec<_> = secrets
            .filter(|volume| volume.secret.is_some())
            .map(|volume| volume.name.as_str())
            .collect();
        assert_eq!(secrets, ["store-push"]);
        fixtures::assert_restricted(spec);
    }

    #[tokio::test]
    async fn what_the_job_found_stands_until_a_policy_changes() {
        let mut cluster = Cluster::new().await;
        cluster.put("signed", json!({"require": signed_by("SHA256:a")}));
        cluster.verify().await;
        let digest = fixtures::artifact().digest;
        let message =
            json!({"ok": {"digest": digest, "proofs": ["signed: npmSignature by SHA256:a"]}});
        let held = cluster.told(0, message).await;
        let wanted = Finding::yes("signed: npmSignature by SHA256:a.");
        assert_eq!(held, Verdict::Holds(wanted));
        assert_eq!(cluster.verify().await, held);
        assert_eq!(cluster.jobs().len(), 1);
        cluster.put("signed", json!({"require": signed_by("SHA256:b")}));
        assert_eq!(reason(&cluster.verify().await), Some(Reason::Verifying));
        assert_eq!(cluster.jobs().len(), 2);
    }

    #[tokio::test]
    async fn refusal_of_the_job_is_final_and_a_fault_of_the_store_is_not() {
        let mut cluster = Cluster::new().await;
        cluster.put("signed", json!({"require": signed_by("SHA256:a")}));
        cluster.verify().await;
        let away = json!({"error": {"reason": "StoreUnavailable", "message": "timed out"}});
        let verdict = cluster.told(1, away).await;
        assert!(matches!(verdict, Verdict::Pending(_)), "{verdict:?}");
        assert_eq!(reason(&verdict), Some(Reason::StoreUnavailable));
        assert_eq!(cluster.status.verification, None);
        let refused = json!({"error": {"reason": "SignatureMissing", "message": "none"}});
        let verdict = cluster.told(10, refused).await;
        let wanted = Finding::no(Reason::SignatureMissing, "none".into());
        assert_eq!(verdict, Verdict::Refused(wanted));
        assert_eq!(cluster.verify().await, verdict);
    }

    #[tokio::test]
    async fn job_that_speaks_of_another_artifact_is_not_believed() {
        let mut cluster = Cluster::new().await;
        cluster.put("signed", json!({"require": signed_by("SHA256:a")}));
        cluster.verify().await;
        let other = format!("sha256:{}", "9".repeat(64));
        let message = json!({"ok": {"digest": other, "proofs": []}});
        let verdict = cluster.told(0, message).await;
        assert_eq!(reason(&verdict), Some(Reason::VerificationFailed));
        assert_eq!(cluster.status.verification, None);
    }

    #[tokio::test]
    async fn policy_that_cannot_be_read_denies_and_names_itself() {
        let mut cluster = Cluster::new().await;
        let from = json!([{"npmSignature": {"keysFrom": {"name": "keys", "key": "k"}}}]);
        cluster.put("broken", json!({"require": from}));
        let verdict = cluster.verify().await;
        assert_eq!(reason(&verdict), Some(Reason::ReferenceMissing));
        let message = &verdict.obstacle().unwrap().message;
        assert!(message.contains("broken"), "{message}");
    }

    #[tokio::test]
    async fn what_the_packing_job_found_needs_no_job_of_its_own() {
        let mut cluster = Cluster::new().await;
        cluster.put("signed", json!({"require": signed_by("SHA256:a")}));
        let asked = cluster.asked().await;
        let proofs = ["signed: npmSignature by SHA256:a".to_owned()];
        let (context, plugin) = (cluster.context.clone(), fixtures::plugin());
        accept(&context, &plugin, &asked, &proofs, &mut cluster.status).unwrap();
        let wanted = Finding::yes("signed: npmSignature by SHA256:a.");
        assert_eq!(cluster.verify().await, Verdict::Holds(wanted));
        assert_eq!(cluster.jobs().len(), 0);
        // Another policy is another question.
        cluster.put("signed", json!({"require": signed_by("SHA256:b")}));
        assert_eq!(reason(&cluster.verify().await), Some(Reason::Verifying));
    }

    #[tokio::test]
    async fn what_the_packing_job_refused_is_told_in_its_words_until_a_policy_changes() {
        let mut cluster = Cluster::new().await;
        cluster.put("signed", json!({"require": signed_by("SHA256:a")}));
        let finding = Finding::no(Reason::SignatureMissing, "none".into());
        cluster.status.failed_request = Some("pack-example-1".into());
        cluster.status.verification = Some(refused(&cluster.context, "pack-example-1", &finding));
        let stage = Stage::stalled(finding.clone());
        let verdict = cluster.verify_at(&stage).await;
        assert_eq!(verdict, Verdict::Refused(finding));
        cluster.status.failed_request = None;
        let stage = Stage::under_way(Finding::no(Reason::Packing, "it runs".into()));
        let verdict = cluster.verify_at(&stage).await;
        assert_eq!(reason(&verdict), Some(Reason::Pending));
        assert_eq!(cluster.jobs().len(), 0);
    }

    #[tokio::test]
    async fn npms_word_does_not_count_for_a_copy_and_who_signed_the_image_does() {
        let cluster = Cluster::new().await;
        let mut plugin = fixtures::plugin();
        let oci = json!({"oci": {"repository": "oci.example/plugins/tea", "tag": "v1"}});
        plugin.spec.source = serde_json::from_value(oci).unwrap();
        cluster.put("signed", json!({"require": signed_by("SHA256:a")}));
        let Asked::Denied(finding) = ask(&cluster.context, &plugin).await.unwrap() else {
            panic!("it must be denied");
        };
        assert_eq!(finding.reason, Reason::SignatureMissing);
        cluster.put("signed", json!({"require": [{"cosign": {"key": KEY}}]}));
        let asked = ask(&cluster.context, &plugin).await.unwrap();
        assert!(matches!(asked, Asked::Signatures(_)), "{asked:?}");
        let request = build_request(
            &cluster.context,
            &plugin,
            &fixtures::artifact(),
            asked.demand(),
        );
        assert!(request.unwrap().unwrap().copied);
    }
}
