//! Verification: an artifact carries the signatures that the policies of a cluster require.

use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use kube::{ResourceExt, runtime::watcher::Event};
use paperclip_crds::v1alpha1::{PaperclipPluginStatus, Reason};
use paperclip_operator::{
    context::Context,
    plugin::{
        Finding, Plugin, Verdict,
        artifact::Stage,
        verification::{SignatureRequirement, accept, refused, requirement, verify},
    },
};
use paperclip_packing_api::verification::VerifyRequest;
use paperclip_testkit::{ApiServer, assert_restricted, fixtures};
use serde_json::{Value, json};

use crate::operator;

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

fn plugin() -> Plugin {
    Plugin::parse(fixtures::plugin()).unwrap()
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
            context: operator::context_without_pods(&server).await,
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
        operator::list(&self.server, &self.context);
    }

    async fn asked(&self) -> SignatureRequirement {
        requirement(&self.context, &plugin()).await.unwrap()
    }

    async fn verify(&mut self) -> Verdict {
        let stage = Stage::under_way(Finding::yes("packed"));
        self.verify_at(&stage).await
    }

    async fn verify_at(&mut self, stage: &Stage) -> Verdict {
        let (plugin, asked) = (plugin(), self.asked().await);
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

    /// The check once the pod of its newest Job has said this.
    async fn told(&mut self, code: i32, message: Value) -> Verdict {
        let job = self.jobs().pop().unwrap();
        let mut pod = fixtures::ended("verify", code, &message.to_string());
        pod.metadata.namespace = job.namespace();
        pod.metadata.uid = Some("the pod".into());
        let label = "batch.kubernetes.io/job-name".to_owned();
        pod.labels_mut().insert(label, job.name_any());
        let (wake, _) = tokio::sync::mpsc::unbounded_channel();
        self.context.pods.observe(Event::Apply(pod), &wake);
        Box::pin(self.verify()).await
    }
}

/// The request that a verifying Job was made for.
fn request(job: &Job) -> VerifyRequest {
    let spec = job.spec.as_ref().unwrap().template.spec.as_ref().unwrap();
    let request = spec.containers[0].env.as_ref().unwrap()[0].value.as_ref();
    serde_json::from_str(request.unwrap()).unwrap()
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
    operator::list(&cluster.server, &cluster.context);
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
    assert_restricted(spec);
}

#[tokio::test]
async fn what_the_job_found_stands_until_a_policy_changes() {
    let mut cluster = Cluster::new().await;
    cluster.put("signed", json!({"require": signed_by("SHA256:a")}));
    cluster.verify().await;
    let digest = fixtures::artifact().digest;
    let message = json!({"ok": {"digest": digest, "proofs": ["signed: npmSignature by SHA256:a"]}});
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
    let (context, plugin) = (cluster.context.clone(), plugin());
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
    let mut plugin = plugin();
    let oci = json!({"oci": {"repository": "oci.example/plugins/tea", "tag": "v1"}});
    plugin.spec.source = serde_json::from_value(oci).unwrap();
    cluster.put("signed", json!({"require": signed_by("SHA256:a")}));
    let SignatureRequirement::Unsatisfiable(finding) =
        requirement(&cluster.context, &plugin).await.unwrap()
    else {
        panic!("it must be denied");
    };
    assert_eq!(finding.reason, Reason::SignatureMissing);
    cluster.put("signed", json!({"require": [{"cosign": {"key": KEY}}]}));
    let asked = requirement(&cluster.context, &plugin).await.unwrap();
    assert!(
        matches!(asked, SignatureRequirement::Signatures(_)),
        "{asked:?}"
    );
    let mut status = cluster.status.clone();
    let stage = Stage::under_way(Finding::yes("packed"));
    let checked = verify(&cluster.context, &plugin, &asked, &stage, &mut status).await;
    assert_eq!(reason(&checked.unwrap()), Some(Reason::Verifying));
    assert!(request(&cluster.jobs()[0]).copied);
}
