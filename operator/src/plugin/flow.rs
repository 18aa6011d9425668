//! Tests of whole lives of a plugin: installed, configured, upgraded, taken back. The API
//! server is in memory, and pods say what pods of such a Deployment would.

use std::{cell::Cell, collections::BTreeMap, sync::Arc};

use k8s_openapi::jiff::{Timestamp, ToSpan};
use kube::{ResourceExt, api::ObjectMeta};
use paperclip_artifact::Digest;
use paperclip_crds::{
    labels,
    v1alpha1::{
        ArtifactStatus, PaperclipPlugin, PaperclipPluginStatus, PluginConfig, RevisionState,
    },
};
use paperclip_proto::{
    config::{ActivationConfig, DeliveredConfig},
    v1::{ConfigState, Phase, WatchStatusResponse, WorkerState},
};
use serde_json::{Value, json};

use super::{fixtures, packing, reconcile::reconcile};
use crate::{api_server::ApiServer, context::Context};

const PLUGIN: &str =
    "/apis/plugins.paperclip.ing/v1alpha1/namespaces/shop/paperclipplugins/commerce";
const HOST: &str = "/apis/plugins.paperclip.ing/v1alpha1/namespaces/paperclip/papercliphosts/main";
const REVISIONS: &str =
    "/apis/plugins.paperclip.ing/v1alpha1/namespaces/shop/paperclippluginrevisions";
const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/shop/deployments/pcp-commerce";
const REPLICA_SETS: &str = "/apis/apps/v1/namespaces/shop/replicasets";
const POD: &str = "/api/v1/namespaces/shop/pods/pod";
const CONFIG: &str = "/api/v1/namespaces/shop/secrets/pcp-commerce-config";
/// Passes after which nothing may be left to do.
const PASSES: usize = 12;
/// What a worker that never serves is restarted with.
const BAD: &str = "bad";
const YEAR: i64 = 365 * 24 * 3600;

thread_local! {
    /// Seconds since 1970, where every object in memory was made.
    static NOW: Cell<i64> = const { Cell::new(0) };
}

fn now() -> Timestamp {
    Timestamp::from_second(NOW.get()).unwrap()
}

/// A cluster in which one plugin lives.
struct World {
    server: ApiServer,
    context: Arc<Context>,
    /// The activation whose worker never serves.
    bad: Cell<Option<u64>>,
}

impl World {
    /// A plugin whose artifact was packed before.
    async fn new() -> Self {
        NOW.set(0);
        let server = ApiServer::default();
        let mut plugin = fixtures::plugin();
        plugin.metadata.generation = Some(1);
        let context = Self::operator(&server).await;
        let request = packing::build_request(&fixtures::npm(), "1.0.0", None, &context.args);
        plugin.status = Some(PaperclipPluginStatus {
            artifact: Some(ArtifactStatus {
                request: request.job_name(),
                ..fixtures::artifact()
            }),
            plugin: Some(paperclip_crds::v1alpha1::PluginSummary {
                capabilities: vec!["a".into()],
                ..Default::default()
            }),
            ..PaperclipPluginStatus::default()
        });
        server.put(PLUGIN, &plugin);
        server.put(HOST, &fixtures::host());
        let bad = Cell::new(None);
        Self {
            server,
            context,
            bad,
        }
    }

    /// An operator that has just started.
    async fn operator(server: &ApiServer) -> Arc<Context> {
        let mut context = server.context_without_pods().await;
        let digest: Digest = fixtures::artifact().digest.parse().unwrap();
        context.remember_manifest(digest, json!({"id": "example"}));
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
        serde_json::from_value(self.server.object(PLUGIN)).unwrap()
    }

    /// A person edits the plugin.
    fn edit(&self, change: impl FnOnce(&mut PaperclipPlugin)) {
        let mut plugin = self.plugin();
        change(&mut plugin);
        plugin.metadata.generation = plugin.metadata.generation.map(|generation| generation + 1);
        self.server.put(PLUGIN, &plugin);
    }

    /// What the Deployment controller, the kubelet and the sidecars do: a pod for the
    /// template, a ReplicaSet that remembers it, and a worker that takes its config up
    /// unless it is `invisible`.
    fn pods_speak(&self) {
        let objects = self.server.objects();
        let Some(deployment) = objects.get(DEPLOYMENT) else {
            return;
        };
        let template = &deployment["spec"]["template"];
        let annotations = &template["metadata"]["annotations"];
        let activation = annotations[labels::ACTIVATION].as_str().unwrap();
        let set = format!("pcp-commerce-{activation}");
        let mut labelled = template["metadata"]["labels"].clone();
        labelled["pod-template-hash"] = json!(activation);
        let remembered = json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {"name": set, "namespace": "shop", "labels": labelled},
            "spec": {"selector": {}, "template": template},
        });
        self.server
            .put(&format!("{REPLICA_SETS}/{set}"), &remembered);
        let number: u64 = activation.parse().unwrap();
        let config = handed(&objects)
            .activations
            .remove(&number)
            .unwrap_or_default();
        let mut told: BTreeMap<String, String> =
            serde_json::from_value(annotations.clone()).unwrap();
        let before = objects.get(POD).map(|pod| &pod["metadata"]["annotations"]);
        let revision = before.and_then(|before| before[labels::CONFIG_REVISION].as_str());
        told.extend(revision.map(|revision| (labels::CONFIG_REVISION.into(), revision.to_owned())));
        let pod = k8s_openapi::api::core::v1::Pod {
            metadata: ObjectMeta {
                name: Some("pod".into()),
                namespace: Some("shop".into()),
                uid: Some("pod".into()),
                labels: Some(BTreeMap::from([(
                    labels::PLUGIN_UID.into(),
                    "uid-1".into(),
                )])),
                annotations: Some(told),
                ..ObjectMeta::default()
            },
            ..Default::default()
        };
        self.server.put(POD, &pod);
        let is_bad = self.bad.get() == Some(number);
        self.context
            .pods
            .said(pod, status(number, &config, !is_bad));
    }

    /// Passes, each followed by what the cluster makes of it, until nothing is written.
    async fn settle(&mut self) {
        for _ in 0..PASSES {
            self.server.writes();
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
        let found = objects
            .iter()
            .filter(|(path, _)| path.starts_with(REVISIONS));
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
                    super::revision::state(&found),
                )
            })
            .collect();
        all.sort_by_key(|(number, ..)| *number);
        all
    }

    /// What runs: activation and number of pods.
    fn runs(&self) -> (String, i64) {
        let deployment = self.server.object(DEPLOYMENT);
        let activation =
            deployment["spec"]["template"]["metadata"]["annotations"][labels::ACTIVATION].as_str();
        (
            activation.unwrap().into(),
            deployment["spec"]["replicas"].as_i64().unwrap(),
        )
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
    let secret: Option<k8s_openapi::api::core::v1::Secret> = objects
        .get(CONFIG)
        .map(|found| serde_json::from_value(found.clone()).unwrap());
    let bytes = secret.and_then(|secret| secret.data?.remove("config.json"));
    bytes
        .map(|bytes| serde_json::from_slice(&bytes.0).unwrap())
        .unwrap_or_default()
}

/// What a sidecar says that was handed this.
fn status(activation: u64, config: &ActivationConfig, serves: bool) -> WatchStatusResponse {
    let is_refused = |config: &paperclip_proto::config::ConfigRevision| {
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
            reason: if serves {
                String::new()
            } else {
                "WorkerExited".into()
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
        hosts: vec![paperclip_proto::v1::AttachedHost {
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
    let ready = plugin
        .condition(paperclip_crds::v1alpha1::ConditionType::Ready)
        .unwrap();
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
        !path.contains("/events/") && !path.contains("-tls") && !path.contains("paperclip-system")
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
async fn an_operator_killed_at_any_write_comes_to_the_same_end() {
    let mut undisturbed = World::new().await;
    live(&mut undisturbed).await;
    assert_eq!(undisturbed.ready(), "False RolledBack stalled");
    let wanted = end(&undisturbed);
    let mut kills = 0;
    for n in 1.. {
        let mut reached = true;
        for takes_effect in [false, true] {
            let mut world = World::new().await;
            world.server.fail_write(n, takes_effect);
            live(&mut world).await;
            reached &= world.server.has_failed();
            let found = end(&world);
            for (path, object) in &wanted {
                assert_eq!(
                    found.get(path),
                    Some(object),
                    "{path} after write {n} failed, effect {takes_effect}"
                );
            }
            assert_eq!(
                found.len(),
                wanted.len(),
                "write {n}, effect {takes_effect}"
            );
            kills += 1;
        }
        if !reached {
            break;
        }
    }
    assert!(kills > 60, "{kills} kills");
}
