//! Tests of whole lives of a plugin: installed, configured, upgraded, taken back. The API
//! server is in memory, and pods say what pods of such a Deployment would.

use std::{cell::Cell, collections::BTreeMap, sync::Arc};

use k8s_openapi::jiff::{Timestamp, ToSpan};
use kube::{ResourceExt, api::ObjectMeta};
use paperclip_bridge::{
    config::{ActivationConfig, DeliveredConfig},
    v1::{ConfigState, Phase, WatchStatusResponse, WorkerReason, WorkerState},
};
use paperclip_crds::{
    labels,
    v1alpha1::{
        ArtifactStatus, ConditionType, FailurePolicy, PaperclipPlugin, PaperclipPluginStatus,
        PluginConfig, PluginLimits, PluginSecret, PluginSource, RevisionState, SecretKey,
        SecretUse, WorkerSpec,
    },
};
use paperclip_oci::Digest;
use paperclip_operator::{
    context::Context,
    plugin::{packing, reconcile, revision, sweep},
    secrets,
};
use paperclip_testkit::{ApiServer, fixtures};
use serde_json::{Value, json};

use crate::operator;

const HOST: &str = "/apis/plugins.paperclip.ing/v1alpha1/namespaces/paperclip/papercliphosts/main";
const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/shop/deployments/pcp-commerce";
const POD: &str = "/api/v1/namespaces/shop/pods/pod";
/// Passes after which nothing may be left to do.
const PASSES: usize = 12;
/// Annotation of a restart whose worker never serves.
const BAD: &str = "bad";
/// A P-256 key that nobody signs with, and the policy that wants it.
const SIGNER: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==";
const SIGNED: &str = "/apis/plugins.paperclip.ing/v1alpha1/papercliptrustpolicies/p";
const YEAR: i64 = 365 * 24 * 3600;

thread_local! {
    /// Seconds since 1970, where every object in memory was made.
    static NOW: Cell<i64> = const { Cell::new(0) };
}

fn now() -> Timestamp {
    Timestamp::from_second(NOW.get()).unwrap()
}

/// A plugin that lives in the cluster.
#[derive(Clone, Copy)]
struct Life {
    namespace: &'static str,
    name: &'static str,
    uid: &'static str,
}

const COMMERCE: Life = Life {
    namespace: "shop",
    name: "commerce",
    uid: "uid-1",
};

/// Another plugin of the same package, attached to the same host.
const RIVAL: Life = Life {
    namespace: "yard",
    name: "rival",
    uid: "uid-9",
};

impl Life {
    fn plugin(self) -> String {
        let Self {
            namespace, name, ..
        } = self;
        format!(
            "/apis/plugins.paperclip.ing/v1alpha1/namespaces/{namespace}/paperclipplugins/{name}"
        )
    }

    fn deployment(self) -> String {
        let Self {
            namespace, name, ..
        } = self;
        format!("/apis/apps/v1/namespaces/{namespace}/deployments/pcp-{name}")
    }

    fn replica_set(self, activation: &str) -> String {
        let Self {
            namespace, name, ..
        } = self;
        format!("/apis/apps/v1/namespaces/{namespace}/replicasets/pcp-{name}-{activation}")
    }

    fn pod(self) -> String {
        format!("/api/v1/namespaces/{}/pods/pod", self.namespace)
    }

    fn config(self) -> String {
        let Self {
            namespace, name, ..
        } = self;
        format!("/api/v1/namespaces/{namespace}/secrets/pcp-{name}-config")
    }
}

/// A cluster in which plugins live.
struct World {
    server: ApiServer,
    context: Arc<Context>,
    /// The plugin that is looked at.
    life: Life,
    /// The activation whose worker never serves.
    bad: Cell<Option<u64>>,
}

impl World {
    /// A plugin whose artifact was packed before.
    async fn new() -> Self {
        NOW.set(0);
        let server = ApiServer::default();
        let context = Self::operator(&server).await;
        server.put(HOST, &fixtures::host());
        let mut world = Self {
            server,
            context,
            life: COMMERCE,
            bad: Cell::new(None),
        };
        world.enter(COMMERCE);
        world
    }

    /// Another plugin comes, whose artifact was packed before, and is looked at from now on.
    fn enter(&mut self, life: Life) {
        self.life = life;
        let mut plugin = fixtures::plugin();
        plugin.metadata.name = Some(life.name.into());
        plugin.metadata.namespace = Some(life.namespace.into());
        plugin.metadata.uid = Some(life.uid.into());
        plugin.metadata.generation = Some(1);
        let context = &self.context;
        let request = packing::build_request(&fixtures::npm(), "1.0.0", None, &context.args);
        plugin.status = Some(PaperclipPluginStatus {
            artifact: Some(ArtifactStatus {
                request: request.job_name(),
                ..fixtures::artifact()
            }),
            plugin: Some(paperclip_crds::v1alpha1::PluginSummary {
                id: "example".into(),
                capabilities: vec!["a".into()],
                ..Default::default()
            }),
            ..PaperclipPluginStatus::default()
        });
        self.server.put(&life.plugin(), &plugin);
    }

    /// An operator that has just started.
    async fn operator(server: &ApiServer) -> Arc<Context> {
        let context = Self::operator_without_manifests(server).await;
        let digest: Digest = fixtures::artifact().digest.parse().unwrap();
        let manifest = json!({"id": "example", "capabilities": ["a"]});
        context.remember_manifest(digest, manifest);
        context
    }

    /// The same that has read nothing from the store, where nobody answers.
    async fn operator_without_manifests(server: &ApiServer) -> Arc<Context> {
        let mut context = operator::context_without_pods(server).await;
        let context_now = Arc::get_mut(&mut context).unwrap();
        context_now.clock = now;
        // As if it had heard all pods already.
        context_now.started = Timestamp::UNIX_EPOCH - 3600.seconds();
        context
    }

    /// The operator is killed and another starts.
    async fn restart(&mut self) {
        self.context = Self::operator(&self.server).await;
        self.pods_speak();
    }

    fn plugin(&self) -> PaperclipPlugin {
        serde_json::from_value(self.server.object(&self.life.plugin())).unwrap()
    }

    /// A person edits the plugin.
    fn edit(&self, change: impl FnOnce(&mut PaperclipPlugin)) {
        let mut plugin = self.plugin();
        change(&mut plugin);
        plugin.metadata.generation = plugin.metadata.generation.map(|generation| generation + 1);
        self.server.put(&self.life.plugin(), &plugin);
    }

    /// What the Deployment controller, the kubelet and the sidecars do: a pod for the
    /// template, a ReplicaSet that remembers it, and a worker that takes its config up
    /// unless it is `invisible`.
    fn pods_speak(&self) {
        let life = self.life;
        let objects = self.server.objects();
        let Some(deployment) = objects.get(&life.deployment()) else {
            return;
        };
        let template = &deployment["spec"]["template"];
        let annotations = &template["metadata"]["annotations"];
        let activation = annotations[labels::ACTIVATION].as_str().unwrap();
        let mut labelled = template["metadata"]["labels"].clone();
        labelled["pod-template-hash"] = json!(activation);
        let remembered = json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {"namespace": life.namespace, "labels": labelled},
            "spec": {"selector": {}, "template": template},
        });
        self.server.put(&life.replica_set(activation), &remembered);
        let number: u64 = activation.parse().unwrap();
        let config = handed_to(life, &objects)
            .activations
            .remove(&number)
            .unwrap_or_default();
        let mut told: BTreeMap<String, String> =
            serde_json::from_value(annotations.clone()).unwrap();
        let before = objects
            .get(&life.pod())
            .map(|pod| &pod["metadata"]["annotations"]);
        for news in [labels::CONFIG_REVISION, labels::LIMITS] {
            let known = before.and_then(|before| before[news].as_str());
            told.extend(known.map(|known| (news.to_owned(), known.to_owned())));
        }
        let pod = k8s_openapi::api::core::v1::Pod {
            metadata: ObjectMeta {
                name: Some("pod".into()),
                namespace: Some(life.namespace.into()),
                uid: Some(format!("pod of {}", life.name)),
                labels: serde_json::from_value(template["metadata"]["labels"].clone()).unwrap(),
                annotations: Some(told),
                ..ObjectMeta::default()
            },
            ..Default::default()
        };
        self.server.put(&life.pod(), &pod);
        let is_bad = self.bad.get() == Some(number);
        self.context
            .pods
            .said(pod, status(number, &config, !is_bad));
    }

    /// Passes, each followed by what the cluster makes of it, until nothing is written.
    async fn settle(&mut self) {
        for _ in 0..PASSES {
            self.server.writes();
            operator::list(&self.server, &self.context);
            // An error is tried again, as the controller does; the operator was killed.
            let failed = reconcile(Arc::new(self.plugin()), self.context.clone())
                .await
                .is_err();
            if failed {
                self.restart().await;
            }
            self.pods_speak();
            if !failed && self.server.writes().is_empty() {
                return;
            }
        }
        panic!("it is not quiet after {PASSES} passes");
    }

    fn ready(&self) -> String {
        let plugin = self.plugin();
        let status = plugin.status.unwrap();
        let of = |type_: &str| status.conditions.iter().find(|found| found.type_ == type_);
        let stalled = of("Stalled").map_or("", |_| " stalled");
        let ready = of("Ready").unwrap();
        format!("{} {}{stalled}", ready.status, ready.reason)
    }

    /// Number, activation and state of each revision.
    fn revisions(&self) -> Vec<(i64, i64, RevisionState)> {
        let objects = self.server.objects();
        let found = objects.iter().filter(|(path, object)| {
            path.contains("/paperclippluginrevisions/")
                && object["spec"]["plugin"] == self.life.name
        });
        let revisions = found.map(|(_, object)| {
            serde_json::from_value::<paperclip_crds::v1alpha1::PaperclipPluginRevision>(
                object.clone(),
            )
            .unwrap()
        });
        let mut all: Vec<_> = revisions
            .map(|found| {
                (
                    found.spec.number,
                    found.spec.activation,
                    revision::state(&found),
                )
            })
            .collect();
        all.sort_by_key(|(number, ..)| *number);
        all
    }

    /// Names of the Jobs there are.
    fn jobs(&self) -> Vec<String> {
        let prefix = "/apis/batch/v1/namespaces/paperclip-system/jobs/";
        let objects = self.server.objects();
        let names = objects.keys().filter_map(|path| path.strip_prefix(prefix));
        names.map(str::to_owned).collect()
    }

    /// Activation and number of the pods that run.
    fn runs(&self) -> (String, i64) {
        let deployment = self.server.object(&self.life.deployment());
        let activation =
            deployment["spec"]["template"]["metadata"]["annotations"][labels::ACTIVATION].as_str();
        (
            activation.unwrap().into(),
            deployment["spec"]["replicas"].as_i64().unwrap(),
        )
    }

    /// Pins of capabilities, as a person sets them or takes them away.
    fn pin(&self, capabilities: Option<&[&str]>) {
        self.edit(|plugin| {
            let pins = capabilities.map(|names| json!({ "capabilities": names }));
            plugin.spec.manifest = pins.and_then(|pins| pins.as_object().cloned());
        });
    }

    /// From now on the package asks for these.
    fn ask_for(&self, capabilities: &[&str]) {
        let digest = fixtures::artifact().digest.parse().unwrap();
        let manifest = json!({ "id": "example", "capabilities": capabilities });
        self.context.remember_manifest(digest, manifest);
        self.edit(|plugin| {
            let status = plugin.status.as_mut().unwrap();
            let summary = status.plugin.as_mut().unwrap();
            summary.capabilities = capabilities.iter().map(|&name| name.into()).collect();
        });
    }

    /// A person deletes every revision.
    fn delete_revisions(&self) {
        for path in self.server.objects().keys() {
            if path.contains("/paperclippluginrevisions/") {
                self.server.remove(path);
            }
        }
    }

    fn set_colour(&self, colour: &str) {
        self.edit(|plugin| {
            let mut config = PluginConfig::default();
            config.default.insert("colour".into(), colour.into());
            plugin.spec.config = Some(config);
        });
    }

    fn ask_restart(&self, what: &str) {
        let highest = self
            .revisions()
            .iter()
            .map(|(_, activation, _)| *activation)
            .max();
        if what == BAD {
            self.bad
                .set(highest.and_then(|highest| u64::try_from(highest + 1).ok()));
        }
        self.edit(|plugin| {
            let annotations = plugin.annotations_mut();
            annotations.insert(labels::RESTARTED_AT.into(), what.into());
        });
    }
}

fn handed(objects: &BTreeMap<String, Value>) -> DeliveredConfig {
    handed_to(COMMERCE, objects)
}

fn handed_to(life: Life, objects: &BTreeMap<String, Value>) -> DeliveredConfig {
    let secret: Option<k8s_openapi::api::core::v1::Secret> = objects
        .get(&life.config())
        .map(|found| serde_json::from_value(found.clone()).unwrap());
    let bytes = secret.and_then(|secret| secret.data?.remove("config.json"));
    bytes
        .map(|bytes| serde_json::from_slice(&bytes.0).unwrap())
        .unwrap_or_default()
}

/// Status of a sidecar to which this config was delivered.
fn status(activation: u64, config: &ActivationConfig, serves: bool) -> WatchStatusResponse {
    let is_refused = |config: &paperclip_bridge::config::ConfigRevision| {
        config.config.get("colour") == Some(&"invisible".into())
    };
    let candidate = config.candidate.as_ref();
    let refused = candidate.filter(|config| is_refused(config));
    let taken = candidate
        .filter(|config| !is_refused(config))
        .or(config.active.as_ref());
    WatchStatusResponse {
        activation,
        phase: if serves {
            Phase::Serving
        } else {
            Phase::Starting
        }
        .into(),
        worker: Some(WorkerState {
            running: serves,
            initialised: serves,
            healthy: serves,
            reason: match serves {
                true => WorkerReason::Unspecified.into(),
                false => WorkerReason::Exited.into(),
            },
            message: if serves {
                String::new()
            } else {
                "the ink has run dry".into()
            },
            ..WorkerState::default()
        }),
        config: Some(ConfigState {
            revision: taken.filter(|_| serves).map_or(0, |config| config.revision),
            refused_revision: refused.map_or(0, |config| config.revision),
            message: refused.map_or(String::new(), |_| "nobody sees it".into()),
        }),
        hosts: vec![paperclip_bridge::v1::AttachedHost {
            host_namespace: "paperclip".into(),
            host_name: "main".into(),
            replica: "0".into(),
        }],
        ..WatchStatusResponse::default()
    }
}

#[tokio::test]
async fn a_first_revision_becomes_active_and_then_nothing_is_written() {
    let mut world = World::new().await;
    world.settle().await;
    assert_eq!(world.ready(), "True Succeeded");
    assert_eq!(world.revisions(), [(1, 1, RevisionState::Active)]);
    assert_eq!(
        handed(&world.server.objects()).activations[&1].candidate,
        None
    );
}

/// A policy that comes later denies what is new, and stops nothing.
#[tokio::test]
async fn what_no_policy_trusts_does_not_roll_out_and_what_runs_goes_on() {
    const POLICY: &str = "/apis/plugins.paperclip.ing/v1alpha1/papercliptrustpolicies/p";
    let policy = |matches: Value| json!({"metadata": {"name": "p"}, "spec": {"match": matches, "require": []}});
    let mut world = World::new().await;
    world.settle().await;
    let before = world.server.object(DEPLOYMENT);
    let others = json!({"packages": ["@others/*"]});
    world.server.put(POLICY, &policy(others));
    world.set_colour("blue");
    world.settle().await;
    assert_eq!(world.ready(), "False NoPolicyMatches stalled");
    assert_eq!(world.server.object(DEPLOYMENT), before);
    assert_eq!(world.revisions(), [(1, 1, RevisionState::Active)]);
    world.server.put(POLICY, &policy(json!({})));
    world.settle().await;
    assert_eq!(world.ready(), "True Succeeded");
    assert_eq!(world.revisions().len(), 2);
}

/// An artifact that serves is not called broken while its signatures are looked at.
#[tokio::test]
async fn what_serves_stays_ready_while_it_is_checked() {
    let mut world = World::new().await;
    world.settle().await;
    let policy = json!({"metadata": {"name": "p"}, "spec": {"require":
        [{"npmSignature": {"keys": [{"keyid": "a", "key": SIGNER}]}}]}});
    world.server.put(SIGNED, &policy);
    world.settle().await;
    assert_eq!(world.ready(), "True Succeeded");
    let status = world.plugin().status.unwrap();
    let verified = status.conditions.iter().find(|one| one.type_ == "Verified");
    assert_eq!(verified.unwrap().reason, "Verifying");
}

/// A new version for the plugin, and a policy that wants a signature.
async fn asked_for_a_signature() -> World {
    let mut world = World::new().await;
    world.settle().await;
    let policy = json!({"metadata": {"name": "p"}, "spec": {"require":
        [{"npmSignature": {"keys": [{"keyid": "a", "key": SIGNER}]}}]}});
    world.server.put(SIGNED, &policy);
    world.edit(|plugin| {
        let mut source = fixtures::npm();
        source.version = Some("2.0.0".into());
        plugin.spec.source = PluginSource::Npm(source);
    });
    world.settle().await;
    world
}

/// The pod of the packing Job ends so.
fn ended_packing(world: &World, code: i32, message: &Value) -> String {
    let jobs: Vec<_> = world.jobs();
    let [job] = &jobs[..] else {
        panic!("{jobs:?}");
    };
    let mut pod = fixtures::ended("push", code, &message.to_string());
    pod.metadata = ObjectMeta {
        name: Some(format!("{job}-1")),
        namespace: Some("paperclip-system".into()),
        uid: Some(format!("pod of {job}")),
        labels: Some(BTreeMap::from([
            ("batch.kubernetes.io/job-name".into(), job.clone()),
            ("job-name".into(), job.clone()),
        ])),
        ..ObjectMeta::default()
    };
    let (wake, _) = tokio::sync::mpsc::unbounded_channel();
    let event = kube::runtime::watcher::Event::Apply(pod);
    world.context.pods.observe(event, &wake);
    job.clone()
}

/// An artifact that no policy trusts is not pushed: the Job says why, and status says it in its words.
#[tokio::test]
async fn refusal_of_the_packing_job_is_the_verdict_until_the_policy_changes() {
    let mut world = asked_for_a_signature().await;
    let before = world.server.object(DEPLOYMENT);
    let message = json!({"error": {"reason": "SignatureMissing", "message": "policy p: none"}});
    let job = ended_packing(&world, 10, &message);
    world.settle().await;
    assert_eq!(world.ready(), "False SignatureMissing stalled");
    let status = world.plugin().status.unwrap();
    let verified = status.conditions.iter().find(|one| one.type_ == "Verified");
    let verified = verified.unwrap();
    assert_eq!(
        [&*verified.status, &*verified.reason, &*verified.message],
        ["False", "SignatureMissing", "policy p: none"]
    );
    assert_eq!(status.artifact.unwrap().version, "1.0.0");
    assert_eq!(world.server.object(DEPLOYMENT), before);
    // It is asked once, also when the Job is gone.
    let path = format!("/apis/batch/v1/namespaces/paperclip-system/jobs/{job}");
    world.server.remove(&path);
    world.settle().await;
    assert_eq!(world.jobs(), [""; 0]);
    assert_eq!(world.ready(), "False SignatureMissing stalled");
    let other = json!({"metadata": {"name": "p"}, "spec": {"require":
        [{"npmSignature": {"keys": [{"keyid": "b", "key": SIGNER}]}}]}});
    world.server.put(SIGNED, &other);
    world.settle().await;
    let jobs = world.jobs();
    assert_eq!(jobs.len(), 1);
    assert_ne!(jobs[0], job);
}

/// A package that no policy is for is not packed at all.
#[tokio::test]
async fn denied_plugin_has_no_packing_job() {
    let mut world = World::new().await;
    let others = json!({"metadata": {"name": "p"}, "spec":
        {"match": {"packages": ["@others/*"]}, "require": []}});
    world.server.put(SIGNED, &others);
    world.edit(|plugin| {
        let mut source = fixtures::npm();
        source.version = Some("2.0.0".into());
        plugin.spec.source = PluginSource::Npm(source);
    });
    world.settle().await;
    assert_eq!(world.jobs(), [""; 0]);
    assert_eq!(world.ready(), "False NoPolicyMatches stalled");
}

/// What a key signed that is no longer accepted is packed again, and what was never signed is
/// left as it is.
#[tokio::test]
async fn artifact_is_packed_again_when_its_key_was_taken_back() {
    let mut world = World::new().await;
    world.settle().await;
    assert_eq!(world.jobs(), [""; 0]);
    let sign = |world: &World, key: String| {
        let mut plugin = world.plugin();
        let status = plugin.status.as_mut().unwrap();
        status.artifact.as_mut().unwrap().signed_by = Some(key);
        world.server.put(&world.life.plugin(), &plugin);
    };
    let current = world.context.signing.keys()[0].id();
    sign(&world, current.to_string());
    world.settle().await;
    assert_eq!(world.jobs(), [""; 0]);
    sign(&world, Digest::of(b"another key").to_string());
    world.settle().await;
    assert_eq!(world.jobs().len(), 1);
    // The same bytes come out, with a signature that counts, and that is the end of it.
    let before = world.plugin().status.unwrap().artifact.unwrap();
    let pushed = json!({"ok": {
        "repository": before.repository, "digest": before.digest, "marker": before.marker,
        "sizeBytes": before.size_bytes, "lockDigest": before.digest, "signedBy": current,
    }});
    let job = ended_packing(&world, 0, &pushed);
    world.settle().await;
    let after = world.plugin().status.unwrap().artifact.unwrap();
    assert_eq!(after.signed_by, Some(current.to_string()));
    assert_eq!(after.observed_at, before.observed_at);
    let path = format!("/apis/batch/v1/namespaces/paperclip-system/jobs/{job}");
    world.server.remove(&path);
    world.settle().await;
    assert_eq!(world.jobs(), [""; 0]);
}

#[tokio::test]
async fn pass_that_changes_nothing_asks_for_no_policy_and_no_namespace() {
    let mut world = World::new().await;
    let open = json!({"metadata": {"name": "p"}, "spec": {"require": []}});
    world.server.put(SIGNED, &open);
    world.settle().await;
    world.server.writes();
    let passed = reconcile(Arc::new(world.plugin()), world.context.clone()).await;
    passed.unwrap();
    let asked = world.server.requests();
    assert!(!asked.is_empty());
    let of_trust = |request: &&String| {
        request.contains("papercliptrustpolicies")
            || request.as_str() == "GET /api/v1/namespaces/shop"
    };
    assert_eq!(asked.iter().find(of_trust), None);
}

#[tokio::test]
async fn a_config_is_taken_up_without_a_touch_of_the_deployment() {
    let mut world = World::new().await;
    world.settle().await;
    let before = world.server.object(DEPLOYMENT);
    world.set_colour("blue");
    world.settle().await;
    assert_eq!(world.ready(), "True Succeeded");
    assert_eq!(world.server.object(DEPLOYMENT), before);
    assert_eq!(
        world.revisions(),
        [
            (1, 1, RevisionState::Superseded),
            (2, 1, RevisionState::Active)
        ]
    );
    let told = &world.server.object(POD)["metadata"]["annotations"];
    assert_eq!(told[labels::CONFIG_REVISION], "2", "the kubelet is woken");
}

/// The template of the Deployment's pods.
fn template(world: &World) -> Value {
    world.server.object(DEPLOYMENT)["spec"]["template"].clone()
}

#[tokio::test]
async fn more_pods_are_no_new_revision_and_leave_the_template_as_it_was() {
    let mut world = World::new().await;
    world.settle().await;
    let before = template(&world);
    for replicas in [3, 1] {
        world.edit(|plugin| {
            plugin.spec.worker = Some(WorkerSpec {
                replicas,
                ..WorkerSpec::default()
            });
        });
        world.settle().await;
        assert_eq!(world.runs(), ("1".into(), i64::from(replicas)));
        assert_eq!(template(&world), before);
        assert_eq!(world.revisions(), [(1, 1, RevisionState::Active)]);
    }
}

#[tokio::test]
async fn limits_reach_the_pods_without_a_revision_and_wake_the_kubelet() {
    let mut world = World::new().await;
    world.settle().await;
    let before = template(&world);
    world.edit(|plugin| {
        plugin.spec.limits = Some(PluginLimits {
            concurrency: Some(2),
            ..PluginLimits::default()
        });
    });
    world.settle().await;
    let handed_over = handed(&world.server.objects());
    assert_eq!(handed_over.limits.concurrency, Some(2));
    assert_eq!(template(&world), before);
    assert_eq!(world.revisions(), [(1, 1, RevisionState::Active)]);
    let told = |world: &World| world.server.object(POD)["metadata"]["annotations"].clone();
    assert!(told(&world)[labels::LIMITS].is_string());
    world.edit(|plugin| plugin.spec.limits = None);
    world.settle().await;
    assert_eq!(handed(&world.server.objects()).limits, Default::default());
    assert!(told(&world)[labels::LIMITS].is_null());
}

#[tokio::test]
async fn other_resources_are_a_revision_and_go_back_with_it() {
    let mut world = World::new().await;
    world.settle().await;
    let memory = |world: &World| {
        let worker = template(world)["spec"]["containers"][0]["resources"].clone();
        worker["limits"]["memory"].as_str().unwrap().to_owned()
    };
    assert_eq!(memory(&world), "512Mi");
    world.edit(|plugin| {
        let mut worker = WorkerSpec::default();
        worker.resources.limits.memory = Some("1Gi".into());
        plugin.spec.worker = Some(worker);
    });
    world.settle().await;
    assert_eq!(memory(&world), "1Gi");
    let arguments = template(&world)["spec"]["initContainers"][1]["args"].to_string();
    assert!(
        arguments.contains(r#""--worker-memory-bytes","1073741824""#),
        "{arguments}"
    );
    assert_eq!(world.revisions()[1], (2, 2, RevisionState::Active));
    // Another spec fails, and nothing but the revision says what the pods before it had.
    world.ask_restart(BAD);
    world.edit(|plugin| plugin.spec.worker = None);
    world.settle().await;
    assert_eq!(memory(&world), "512Mi");
    world.server.remove(&world.life.replica_set("2"));
    NOW.set(301);
    world.settle().await;
    assert_eq!(world.runs(), ("2".into(), 1));
    assert_eq!(memory(&world), "1Gi");
}

#[tokio::test]
async fn a_refused_config_fails_at_once_and_leaves_what_was_accepted() {
    let mut world = World::new().await;
    world.set_colour("red");
    world.settle().await;
    world.set_colour("invisible");
    world.settle().await;
    assert_eq!(world.ready(), "False ConfigRejected stalled");
    assert_eq!(world.revisions()[1], (2, 1, RevisionState::Failed));
    let config = handed(&world.server.objects())
        .activations
        .remove(&1)
        .unwrap();
    assert_eq!(config.candidate, None);
    assert_eq!(config.active.unwrap().config["colour"], "red");
    world.set_colour("red");
    world.settle().await;
    assert_eq!(world.ready(), "True Succeeded");
    assert_eq!(
        world.revisions().len(),
        2,
        "the active revision is asked for again"
    );
}

#[tokio::test]
async fn a_first_config_that_is_refused_stalls_until_another_is_asked_for() {
    let mut world = World::new().await;
    world.set_colour("invisible");
    world.settle().await;
    assert_eq!(world.ready(), "False ConfigRejected stalled");
    world.set_colour("red");
    world.settle().await;
    assert_eq!(world.ready(), "True Succeeded");
}

#[tokio::test]
async fn a_revision_that_does_not_serve_in_time_is_taken_back_and_not_tried_again() {
    let mut world = World::new().await;
    world.settle().await;
    let template = world.server.object(DEPLOYMENT)["spec"]["template"].clone();
    world.ask_restart(BAD);
    world.settle().await;
    assert_eq!(world.ready(), "False WorkerExited");
    assert_eq!(world.runs(), ("2".into(), 1));

    NOW.set(301);
    world.settle().await;
    assert_eq!(world.ready(), "False RolledBack stalled");
    let plugin = world.plugin();
    let ready = plugin.condition(ConditionType::Ready).unwrap();
    assert!(
        ready.message.contains("the ink has run dry"),
        "{}",
        ready.message
    );
    assert_eq!(world.runs(), ("1".into(), 1));
    assert_eq!(
        world.server.object(DEPLOYMENT)["spec"]["template"],
        template
    );
    assert_eq!(world.revisions()[1], (2, 2, RevisionState::Failed));

    world.restart().await;
    world.settle().await;
    assert_eq!(world.revisions().len(), 2);
    // Objects in memory are all made at 0, and so is the deadline counted from there.
    NOW.set(0);
    world.ask_restart("good");
    world.settle().await;
    assert_eq!(world.ready(), "True Succeeded");
    assert_eq!(world.revisions()[2], (3, 3, RevisionState::Active));
}

#[tokio::test]
async fn a_suspended_plugin_has_no_pods_and_wakes_as_it_was() {
    let mut world = World::new().await;
    world.settle().await;
    world.edit(|plugin| plugin.spec.suspend = true);
    world.settle().await;
    assert_eq!(world.ready(), "False Suspended");
    assert_eq!(world.runs(), ("1".into(), 0));
    world.edit(|plugin| plugin.spec.suspend = false);
    world.settle().await;
    assert_eq!(
        (world.ready(), world.runs().1),
        ("True Succeeded".into(), 1)
    );
    assert_eq!(world.revisions().len(), 1);
}

#[tokio::test]
async fn a_revision_made_while_suspended_has_its_whole_time_afterwards() {
    let mut world = World::new().await;
    world.settle().await;
    world.edit(|plugin| plugin.spec.suspend = true);
    world.ask_restart("good");
    world.settle().await;
    NOW.set(1000);
    world.edit(|plugin| plugin.spec.suspend = false);
    world.settle().await;
    assert_eq!(world.ready(), "True Succeeded");
    assert_eq!(world.runs(), ("2".into(), 1));
}

#[tokio::test]
async fn an_operator_that_was_away_hears_the_pods_before_it_judges() {
    let mut world = World::new().await;
    world.settle().await;
    world.ask_restart(BAD);
    world.settle().await;
    NOW.set(1000);
    world.restart().await;
    Arc::get_mut(&mut world.context).unwrap().started = now();
    world.settle().await;
    assert_eq!(world.ready(), "False WorkerExited");
    NOW.set(1030);
    world.settle().await;
    assert_eq!(world.ready(), "False RolledBack stalled");
}

#[tokio::test]
async fn capabilities_beyond_the_first_revisions_wait_for_a_person() {
    let mut world = World::new().await;
    world.settle().await;
    world.edit(|plugin| {
        let summary = plugin.status.as_mut().unwrap().plugin.as_mut().unwrap();
        summary.capabilities.push("z".into());
    });
    world.ask_restart("now");
    world.settle().await;
    assert_eq!(world.ready(), "False CapabilitiesAdded stalled");
    let status = world.plugin().status.unwrap();
    assert_eq!(status.lifecycle.as_deref(), Some("upgrade_pending"));
    assert_eq!(status.pending_revision.unwrap().added_capabilities, ["z"]);
    assert_eq!(world.runs(), ("1".into(), 1));
}

#[tokio::test]
async fn what_was_granted_and_counted_outlives_the_revisions() {
    let mut world = World::new().await;
    world.settle().await;
    world.set_colour("blue");
    world.settle().await;
    world.delete_revisions();
    world.ask_for(&["a", "z"]);
    world.ask_restart("now");
    world.settle().await;
    assert_eq!(world.ready(), "False CapabilitiesAdded stalled");
    assert_eq!(world.revisions(), []);
    assert_eq!(world.runs(), ("1".into(), 1), "the pods go on");
    let pending = world.plugin().status.unwrap().pending_revision.unwrap();
    assert_eq!(pending.name, "commerce-3");

    world.ask_for(&["a"]);
    world.settle().await;
    assert_eq!(world.ready(), "True Succeeded");
    assert_eq!(world.revisions(), [(3, 2, RevisionState::Active)]);
}

#[tokio::test]
async fn what_the_first_revision_was_granted_holds_again_without_pins_when_it_was_pruned() {
    let mut world = World::new().await;
    world.edit(|plugin| plugin.spec.revision_history_limit = 0);
    world.settle().await;
    world.ask_for(&["a", "z"]);
    world.pin(Some(&["a", "z"]));
    world.settle().await;
    assert_eq!(world.ready(), "True Succeeded");
    assert_eq!(world.revisions(), [(2, 2, RevisionState::Active)]);
    world.pin(None);
    world.settle().await;
    assert_eq!(world.ready(), "False CapabilitiesAdded stalled");
    assert_eq!(world.runs(), ("2".into(), 1));
}

#[tokio::test]
async fn history_keeps_as_many_as_the_spec_says_and_no_number_comes_again() {
    let mut world = World::new().await;
    world.edit(|plugin| plugin.spec.revision_history_limit = 1);
    for colour in ["red", "green", "blue"] {
        world.set_colour(colour);
        world.settle().await;
    }
    let kept = [
        (2, 1, RevisionState::Superseded),
        (3, 1, RevisionState::Active),
    ];
    assert_eq!(world.revisions(), kept);

    world.edit(|plugin| plugin.spec.revision_history_limit = 0);
    world.set_colour("invisible");
    world.settle().await;
    assert_eq!(world.ready(), "False ConfigRejected stalled");
    let both = [(3, 1, RevisionState::Active), (4, 1, RevisionState::Failed)];
    assert_eq!(world.revisions(), both, "the spec asks for the failed one");
    world.set_colour("blue");
    world.settle().await;
    assert_eq!(world.revisions(), [(3, 1, RevisionState::Active)]);
    world.set_colour("red");
    world.settle().await;
    assert_eq!(world.revisions(), [(5, 1, RevisionState::Active)]);
}

/// A plugin whose move to another host was taken back.
async fn moved_and_taken_back() -> World {
    let mut world = World::new().await;
    world.settle().await;
    let mut other = fixtures::host();
    other.metadata.name = Some("other".into());
    world.server.put(&other_host(), &other);
    world.edit(|plugin| plugin.spec.host.name = "other".into());
    world.bad.set(Some(2));
    world.settle().await;
    NOW.set(301);
    world
}

fn other_host() -> String {
    HOST.replace("main", "other")
}

const SERVICE: &str = "/api/v1/namespaces/shop/services/pcp-commerce";

/// Hosts that the Service, the Deployment and its pods are for.
fn hosts(world: &World) -> [Value; 3] {
    let deployment = world.server.object(DEPLOYMENT);
    let template = &deployment["spec"]["template"];
    let service = world.server.object(SERVICE);
    [&service, &deployment, template]
        .map(|object| object["metadata"]["labels"][labels::HOST].clone())
}

#[tokio::test]
async fn a_plugin_whose_move_was_taken_back_is_shown_to_the_host_it_serves() {
    let mut world = moved_and_taken_back().await;
    assert_eq!(hosts(&world), ["other", "other", "other"]);
    world.settle().await;
    assert_eq!(world.ready(), "False RolledBack stalled");
    assert_eq!(hosts(&world), ["main", "main", "main"]);
}

#[tokio::test]
async fn a_host_that_a_plugin_did_not_come_to_does_not_stop_its_pods() {
    let mut world = moved_and_taken_back().await;
    world.settle().await;
    let mut closed = fixtures::host();
    closed.metadata.name = Some("other".into());
    closed.spec.allowed_namespaces = Default::default();
    world.server.put(&other_host(), &closed);
    world.settle().await;
    assert_eq!(world.ready(), "False HostForbidden stalled");
    assert_eq!(world.runs(), ("1".into(), 1));
}

#[tokio::test]
async fn a_template_that_is_rendered_again_is_for_the_host_of_its_revision() {
    let mut world = moved_and_taken_back().await;
    world.server.remove(&COMMERCE.replica_set("1"));
    world.settle().await;
    assert_eq!(world.ready(), "False RolledBack stalled");
    assert_eq!(hosts(&world), ["main", "main", "main"]);
    let deployment = world.server.object(DEPLOYMENT);
    let facts = &deployment["spec"]["template"]["metadata"]["annotations"][labels::FACTS];
    assert!(
        facts.as_str().unwrap().contains(r#""name":"main""#),
        "{facts}"
    );
}

#[tokio::test]
async fn a_revision_is_taken_back_while_the_store_is_away_and_nothing_is_remembered() {
    let mut world = World::new().await;
    world.pin(Some(&["a"]));
    world.settle().await;
    world.ask_restart(BAD);
    world.settle().await;
    NOW.set(301);
    world.context = World::operator_without_manifests(&world.server).await;
    world.pods_speak();
    reconcile(Arc::new(world.plugin()), world.context.clone())
        .await
        .unwrap();
    assert_eq!(world.ready(), "False RolledBack stalled");
    assert_eq!(world.runs(), ("1".into(), 1));
}

#[tokio::test]
async fn a_template_that_another_release_rendered_is_put_back_as_it_was() {
    let mut world = World::new().await;
    world.settle().await;
    let template = world.server.object(DEPLOYMENT)["spec"]["template"].clone();
    let context = Arc::get_mut(&mut world.context).unwrap();
    context.args.sidecar_image = "sidecar:2".into();
    world.ask_restart(BAD);
    world.settle().await;
    let sidecar = |world: &World| {
        let pod = &world.server.object(DEPLOYMENT)["spec"]["template"]["spec"];
        pod["initContainers"][0]["image"].clone()
    };
    assert_eq!(sidecar(&world), "sidecar:2");
    NOW.set(301);
    world.settle().await;
    assert_eq!(world.ready(), "False RolledBack stalled");
    let deployment = world.server.object(DEPLOYMENT);
    assert_eq!(deployment["spec"]["template"], template);
    let by = |metadata: &Value| metadata["annotations"][labels::RENDERED_BY].clone();
    assert_eq!(by(&deployment["metadata"]), by(&template["metadata"]));

    NOW.set(0);
    world.ask_restart("good");
    world.settle().await;
    assert_eq!(world.ready(), "True Succeeded");
    assert_eq!(sidecar(&world), "sidecar:2");
}

#[tokio::test]
async fn a_clock_that_jumps_renews_certificate_and_token_each_time_and_writes_nothing_else() {
    let mut world = World::new().await;
    world.settle().await;
    let mut writes = Vec::new();
    for jump in [YEAR, -YEAR, 0] {
        NOW.set(jump);
        world.server.writes();
        for _ in 0..3 {
            reconcile(Arc::new(world.plugin()), world.context.clone())
                .await
                .unwrap();
            world.pods_speak();
        }
        writes.push(world.server.writes());
    }
    // A leaf or a token of another time, past or to come, is of no use.
    let renewed = ["tls", "store"]
        .map(|what| format!("PATCH /api/v1/namespaces/shop/secrets/pcp-commerce-{what}"));
    assert_eq!(writes, [&renewed, &renewed, &renewed]);
}

#[tokio::test]
async fn a_clock_that_jumps_fails_nothing_and_is_followed_by_silence() {
    let mut world = World::new().await;
    world.settle().await;
    for jump in [YEAR, -YEAR, 0] {
        NOW.set(jump);
        world.settle().await;
        assert_eq!(world.ready(), "True Succeeded", "at {jump}");
        assert_eq!(world.revisions(), [(1, 1, RevisionState::Active)]);
    }
}

/// `ConfigValid`, as status and reason.
fn config_valid(world: &World) -> String {
    let plugin = world.plugin();
    let found = plugin.condition(ConditionType::ConfigValid).unwrap();
    format!("{} {}", found.status, found.reason)
}

#[tokio::test]
async fn a_config_that_new_pods_refuse_stays_for_a_person_to_look_at_when_the_spec_says_so() {
    let mut world = World::new().await;
    world.edit(|plugin| plugin.spec.upgrade.on_failure = FailurePolicy::Freeze);
    world.settle().await;
    world.set_colour("invisible");
    world.ask_restart("now");
    world.settle().await;
    assert_eq!(world.ready(), "False ConfigRejected stalled");
    assert_eq!(world.runs(), ("2".into(), 1), "the pods that refused it");
    let offered = handed(&world.server.objects()).activations.remove(&2);
    assert!(offered.unwrap().candidate.is_some());
    let plugin = world.plugin();
    let ready = plugin.condition(ConditionType::Ready).unwrap();
    let told = "Revision 2 stays, since spec.upgrade.onFailure is Freeze.";
    assert!(ready.message.contains(told), "{}", ready.message);

    world.restart().await;
    world.settle().await;
    assert_eq!(world.runs(), ("2".into(), 1));
    world.edit(|plugin| plugin.spec.upgrade.on_failure = FailurePolicy::RollBack);
    world.settle().await;
    assert_eq!(world.ready(), "False ConfigRejected stalled");
    assert_eq!(world.runs(), ("1".into(), 1));
}

#[tokio::test]
async fn a_config_that_frozen_pods_refused_is_followed_by_one_that_they_accept() {
    let mut world = World::new().await;
    world.edit(|plugin| plugin.spec.upgrade.on_failure = FailurePolicy::Freeze);
    world.settle().await;
    world.set_colour("invisible");
    world.ask_restart("now");
    world.settle().await;
    world.set_colour("red");
    world.settle().await;
    assert_eq!(world.ready(), "True Succeeded");
    assert_eq!(world.revisions()[2], (3, 3, RevisionState::Active));
}

#[tokio::test]
async fn a_config_that_only_new_pods_were_to_have_is_not_called_refused_when_they_fail() {
    let mut world = World::new().await;
    world.settle().await;
    world.ask_restart(BAD);
    world.settle().await;
    NOW.set(301);
    world.settle().await;
    assert_eq!(world.ready(), "False RolledBack stalled");
    assert_eq!(
        config_valid(&world),
        "True Succeeded",
        "it is the config that runs"
    );

    NOW.set(0);
    world.set_colour("blue");
    world.ask_restart(BAD);
    world.settle().await;
    NOW.set(301);
    world.settle().await;
    assert_eq!(world.ready(), "False RolledBack stalled");
    assert_eq!(config_valid(&world), "False Pending", "nobody was asked");
}

const ACCESS: &str = "/api/v1/namespaces/shop/secrets/access";

/// A Secret that is open to plugins, as it is after its `version`-th write.
fn put_secret(world: &World, version: u64, value: &str) {
    let texts = [("token", value)];
    let mut secret = secrets::build_secret(
        ObjectMeta {
            name: Some("access".into()),
            uid: Some("uid-of-access".into()),
            resource_version: Some(version.to_string()),
            ..ObjectMeta::default()
        },
        secrets::OPAQUE,
        texts,
    );
    let labels = secret.labels_mut();
    labels.insert(labels::ALLOW_PLUGINS.into(), "true".into());
    world.server.put(ACCESS, &secret);
}

#[tokio::test]
async fn a_secret_makes_a_revision_when_its_value_changes_and_not_when_its_labels_do() {
    let mut world = World::new().await;
    put_secret(&world, 1, "one");
    world.edit(|plugin| {
        plugin.spec.secrets = vec![PluginSecret {
            name: "token".into(),
            secret_ref: SecretKey {
                name: "access".into(),
                key: "token".into(),
            },
            config_path: None,
            r#use: SecretUse::Reference,
        }];
    });
    world.settle().await;
    put_secret(&world, 2, "one");
    world.settle().await;
    assert_eq!(world.revisions(), [(1, 1, RevisionState::Active)]);
    put_secret(&world, 3, "two");
    world.settle().await;
    let two = [
        (1, 1, RevisionState::Superseded),
        (2, 1, RevisionState::Active),
    ];
    assert_eq!(world.revisions(), two);
}

/// Claims, by what they are for, with who has them.
fn claims(world: &World) -> Vec<(String, String)> {
    let objects = world.server.objects();
    let claims = objects
        .iter()
        .filter(|(path, _)| path.contains("/configmaps/claim-"));
    let text = |data: &Value, keys: [&str; 2]| {
        keys.map(|key| data[key].as_str().unwrap().to_owned())
            .join(" ")
    };
    let told = claims.map(|(_, claim)| {
        let data = &claim["data"];
        (
            text(data, ["host", "pluginId"]),
            text(data, ["namespace", "name"]),
        )
    });
    let mut told: Vec<_> = told.collect();
    told.sort();
    told
}

fn claimed(what: &str, by: &str) -> (String, String) {
    (what.into(), by.into())
}

const EXAMPLE: &str = "paperclip/main example";

/// A plugin serves, and its rival, which came later, does not.
async fn rivals() -> World {
    let mut world = World::new().await;
    world.settle().await;
    world.enter(RIVAL);
    world.settle().await;
    world
}

/// The first plugin is deleted, and the cluster removes its pods.
async fn leave(world: &mut World) {
    world.server.remove(&COMMERCE.plugin());
    world.settle().await;
    assert_eq!(
        world.ready(),
        "False PluginIdTaken stalled",
        "pods still run"
    );
    let pod = serde_json::from_value(world.server.object(POD)).unwrap();
    let (wake, _) = tokio::sync::mpsc::unbounded_channel();
    let gone = kube::runtime::watcher::Event::Delete(pod);
    world.context.pods.observe(gone, &wake);
}

#[tokio::test]
async fn a_second_plugin_of_one_id_stalls_without_an_object_that_its_host_sees() {
    let world = rivals().await;
    assert_eq!(world.ready(), "False PluginIdTaken stalled");
    assert_eq!(claims(&world), [claimed(EXAMPLE, "shop commerce")]);
    let plugin = world.plugin();
    let ready = plugin.condition(ConditionType::Ready);
    let expected = "Plugin id example is taken on PaperclipHost paperclip/main by PaperclipPlugin shop/commerce; a host serves an id once. Delete one of the two, or attach one to another host; this one then starts by itself.";
    assert_eq!(ready.unwrap().message, expected);
    let objects = world.server.objects();
    let own = objects.keys().filter(|path| path.contains("/yard/"));
    let kinds: Vec<_> = own.filter(|path| !path.contains("/events/")).collect();
    assert_eq!(kinds, [&RIVAL.plugin()]);
}

#[tokio::test]
async fn the_second_plugin_serves_when_the_first_is_deleted_and_its_pods_are_gone() {
    let mut world = rivals().await;
    leave(&mut world).await;
    world.settle().await;
    assert_eq!(world.ready(), "True Succeeded");
    assert_eq!(claims(&world), [claimed(EXAMPLE, "yard rival")]);
    assert_eq!(world.runs(), ("1".into(), 1));
}

#[tokio::test]
async fn a_plugin_made_anew_under_the_name_of_one_that_is_gone_serves() {
    let mut world = World::new().await;
    world.settle().await;
    world.edit(|plugin| plugin.metadata.uid = Some("uid-7".into()));
    let pod = serde_json::from_value(world.server.object(POD)).unwrap();
    let (wake, _) = tokio::sync::mpsc::unbounded_channel();
    world
        .context
        .pods
        .observe(kube::runtime::watcher::Event::Delete(pod), &wake);
    world.server.objects().keys().for_each(|path| {
        if path.contains("/shop/") && *path != COMMERCE.plugin() {
            world.server.remove(path);
        }
    });
    world.life.uid = "uid-7";
    world.settle().await;
    assert_eq!(world.ready(), "True Succeeded");
}

#[tokio::test]
async fn a_plugin_that_goes_to_another_host_gives_its_id_back_once_it_serves_there() {
    let mut world = World::new().await;
    world.settle().await;
    let mut other = fixtures::host();
    other.metadata.name = Some("other".into());
    world.server.put(&HOST.replace("main", "other"), &other);
    world.edit(|plugin| plugin.spec.host.name = "other".into());
    world.settle().await;
    assert_eq!(world.runs(), ("2".into(), 1));
    let there = "paperclip/other example";
    assert_eq!(claims(&world), [claimed(there, "shop commerce")]);
}

#[tokio::test]
async fn a_plugin_that_moves_to_a_host_where_its_id_is_taken_goes_on_where_it_was() {
    let mut world = World::new().await;
    world.settle().await;
    let there = "paperclip/other example";
    world.enter(RIVAL);
    world.edit(|plugin| plugin.spec.host.name = "other".into());
    world.settle().await;
    let both = [
        claimed(EXAMPLE, "shop commerce"),
        claimed(there, "yard rival"),
    ];
    assert_eq!(claims(&world), both);
    let before = world.server.object(DEPLOYMENT);
    world.life = COMMERCE;
    world.edit(|plugin| plugin.spec.host.name = "other".into());
    world.settle().await;
    assert_eq!(world.ready(), "False PluginIdTaken stalled");
    assert_eq!(world.server.object(DEPLOYMENT), before);
    assert_eq!(claims(&world), both);
}

#[tokio::test]
async fn a_version_with_an_id_that_is_taken_is_not_begun_and_the_one_before_goes_on() {
    let mut world = World::new().await;
    let rename = |world: &World, id: &str| {
        world.edit(|plugin| {
            let status = plugin.status.as_mut().unwrap();
            status.plugin.as_mut().unwrap().id = id.into();
        });
    };
    world.settle().await;
    world.enter(RIVAL);
    rename(&world, "another");
    world.settle().await;
    assert_eq!(world.ready(), "True Succeeded", "they are two ids");
    rename(&world, "example");
    world.ask_restart("now");
    world.settle().await;
    assert_eq!(world.ready(), "False PluginIdTaken stalled");
    assert_eq!(world.runs(), ("1".into(), 1));
    let another = "paperclip/main another";
    let both = [
        claimed(another, "yard rival"),
        claimed(EXAMPLE, "shop commerce"),
    ];
    assert_eq!(claims(&world), both);
}

#[tokio::test]
async fn two_plugins_that_served_one_id_before_claims_were_made_come_to_one() {
    let mut world = World::new().await;
    world.settle().await;
    let path = claim_path(&world);
    world.server.remove(&path);
    world.enter(RIVAL);
    world.settle().await;
    let theirs = world.server.object(&path);
    world.life = COMMERCE;
    world.settle().await;
    assert_eq!(world.ready(), "False PluginIdTaken stalled");
    assert_eq!(world.runs(), ("1".into(), 0));
    assert_eq!(world.server.object(&path), theirs);
}

fn claim_path(world: &World) -> String {
    let objects = world.server.objects();
    let mut paths = objects.keys();
    let found = paths.find(|path| path.contains("/configmaps/claim-"));
    found.unwrap().clone()
}

#[tokio::test]
async fn an_operator_killed_at_any_write_of_a_take_over_leaves_one_claim() {
    let mut kills = 0;
    for n in 1.. {
        let mut reached = true;
        for takes_effect in [false, true] {
            let mut world = rivals().await;
            leave(&mut world).await;
            world.server.fail_write(n, takes_effect);
            world.settle().await;
            reached &= world.server.has_failed();
            let at = format!("write {n}, effect {takes_effect}");
            assert_eq!(world.ready(), "True Succeeded", "{at}");
            assert_eq!(claims(&world), [claimed(EXAMPLE, "yard rival")], "{at}");
            kills += 1;
        }
        if !reached {
            break;
        }
    }
    assert!(kills > 10, "{kills} kills");
}

#[tokio::test]
async fn a_sweep_removes_claims_of_deleted_plugins_and_no_others() {
    let mut world = rivals().await;
    let untouched = claims(&world);
    sweep(&world.context).await.unwrap();
    assert_eq!(claims(&world), untouched);
    leave(&mut world).await;
    sweep(&world.context).await.unwrap();
    assert_eq!(claims(&world), []);
    world.settle().await;
    assert_eq!(world.ready(), "True Succeeded");
}

/// The whole life: installed, configured, refused, upgraded, taken back.
async fn live(world: &mut World) {
    world.settle().await;
    world.set_colour("blue");
    world.settle().await;
    world.set_colour("invisible");
    world.settle().await;
    world.set_colour("blue");
    world.ask_restart("good");
    world.settle().await;
    world.ask_restart(BAD);
    world.settle().await;
    NOW.set(301);
    world.settle().await;
}

/// Everything at the end, without what differs from run to run.
fn end(world: &World) -> BTreeMap<String, Value> {
    let mut objects = world.server.objects();
    objects.retain(|path, _| {
        let is_ours = path.contains("/configmaps/claim-") || !path.contains("paperclip-system");
        // Each world has keys of its own.
        let has_keys = path.ends_with("-tls") || path.ends_with("-store");
        !path.contains("/events/") && !has_keys && is_ours
    });
    for object in objects.values_mut() {
        strip(object);
    }
    objects
}

fn strip(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|key, _| {
                ![
                    "resourceVersion",
                    "uid",
                    "creationTimestamp",
                    "lastTransitionTime",
                    "servedAt",
                    "rolledOutAt",
                    "managedFields",
                    // Hashes of what names the keys, too.
                    labels::RENDERED_BY,
                    labels::APPLIED,
                ]
                .contains(&key.as_str())
            });
            fields.values_mut().for_each(strip);
        }
        Value::Array(all) => all.iter_mut().for_each(strip),
        _ => {}
    }
}

#[tokio::test]
async fn an_operator_killed_before_any_write_comes_to_the_same_end() {
    kill_at_every_write(false).await;
}

#[tokio::test]
async fn an_operator_killed_after_any_write_comes_to_the_same_end() {
    kill_at_every_write(true).await;
}

/// Lives through the same with a kill at the first write, at the second and so on; `takes_effect`
/// tells whether the write did before the operator died.
async fn kill_at_every_write(takes_effect: bool) {
    let mut undisturbed = World::new().await;
    live(&mut undisturbed).await;
    assert_eq!(undisturbed.ready(), "False RolledBack stalled");
    let wanted = end(&undisturbed);
    let mut kills = 0;
    for n in 1.. {
        let mut world = World::new().await;
        world.server.fail_write(n, takes_effect);
        live(&mut world).await;
        let found = end(&world);
        for (path, object) in &wanted {
            assert_eq!(found.get(path), Some(object), "{path} after write {n}");
        }
        assert_eq!(found.len(), wanted.len(), "write {n}");
        if !world.server.has_failed() {
            break;
        }
        kills += 1;
    }
    assert!(kills > 30, "{kills} kills");
}
