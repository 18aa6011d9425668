//! Tests of what comes of a plugin's artifact when nodes come and go. The API server is in
//! memory, and packing Jobs say what they would.

use std::sync::Arc;

use k8s_openapi::{api::batch::v1::Job, jiff::Timestamp};
use kube::{ResourceExt, runtime::watcher::Event};
use paperclip_crds::v1alpha1::{ArtifactStatus, PaperclipPlugin, PaperclipPluginStatus};
use paperclip_oci::Digest;
use paperclip_operator::{
    context::Context,
    nodes::{ARCHITECTURE, OS},
    plugin::{packing, reconcile},
};
use paperclip_packing_api::request::PackRequest;
use paperclip_testkit::{ApiServer, fixtures};
use serde_json::{Value, json};

use crate::operator;

const PLUGIN: &str =
    "/apis/plugins.paperclip.ing/v1alpha1/namespaces/shop/paperclipplugins/commerce";
const HOST: &str = "/apis/plugins.paperclip.ing/v1alpha1/namespaces/paperclip/papercliphosts/main";
const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/shop/deployments/pcp-commerce";
const JOBS: &str = "/apis/batch/v1/namespaces/paperclip-system/jobs/";
const X64: &str = "linux/amd64";
const ARM64: &str = "linux/arm64";
const OLD: &str = "2025-12-31T00:00:00Z";
const YOUNG: &str = "2026-01-01T00:00:00Z";

fn now() -> Timestamp {
    "2026-01-01T00:00:01Z".parse().unwrap()
}

/// A cluster with nodes of these CPUs, each as old as it says.
struct World {
    server: ApiServer,
    context: Arc<Context>,
}

impl World {
    async fn new(nodes: &[(&str, &str)]) -> Self {
        let server = ApiServer::default();
        for (cpu, since) in nodes {
            let node = node(cpu, since);
            server.put(&format!("/api/v1/nodes/{cpu}"), &node);
        }
        server.put(HOST, &fixtures::host());
        server.put(PLUGIN, &fixtures::plugin());
        let mut context = operator::context_without_pods(&server).await;
        Arc::get_mut(&mut context).unwrap().clock = now;
        let world = Self { server, context };
        world.knows(&fixtures::artifact().digest);
        world
    }

    /// The manifest of an artifact was read from the store.
    fn knows(&self, digest: &str) {
        let digest: Digest = digest.parse().unwrap();
        self.context
            .remember_manifest(digest, json!({"id": "example", "capabilities": ["a"]}));
    }

    /// A plugin that was packed for some platforms, and is for some.
    fn packed(&self, packed_for: &[&str], platforms: &[&str]) {
        let request = packing::build_request(&fixtures::npm(), "1.0.0", None, &self.context.args);
        let request = PackRequest {
            platforms: packed_for
                .iter()
                .map(|name| name.parse().unwrap())
                .collect(),
            ..request
        };
        let texts = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let mut plugin = fixtures::plugin();
        plugin.status = Some(PaperclipPluginStatus {
            artifact: Some(ArtifactStatus {
                request: request.name(),
                packed_for: texts(packed_for),
                platforms: texts(platforms),
                ..fixtures::artifact()
            }),
            ..PaperclipPluginStatus::default()
        });
        self.server.put(PLUGIN, &plugin);
    }

    fn plugin(&self) -> PaperclipPlugin {
        serde_json::from_value(self.server.object(PLUGIN)).unwrap()
    }

    fn artifact(&self) -> ArtifactStatus {
        self.plugin().status.unwrap().artifact.unwrap()
    }

    /// Reason of `ArtifactReady` after a pass.
    async fn pass(&self) -> String {
        let plugin = Arc::new(self.plugin());
        reconcile(plugin, self.context.clone()).await.unwrap();
        let conditions = self.plugin().status.unwrap().conditions;
        let found = conditions.iter().find(|one| one.type_ == "ArtifactReady");
        found.unwrap().reason.clone()
    }

    fn jobs(&self) -> Vec<Job> {
        let objects = self.server.objects();
        let jobs = objects.iter().filter(|(path, _)| path.starts_with(JOBS));
        jobs.map(|(_, job)| serde_json::from_value(job.clone()).unwrap())
            .collect()
    }

    /// Platforms that the only Job packs for.
    fn asked(&self) -> String {
        let jobs = self.jobs();
        let [job] = &jobs[..] else {
            panic!("{} Jobs", jobs.len());
        };
        let spec = job.spec.as_ref().unwrap().template.spec.as_ref().unwrap();
        let request = spec.containers[0].env.as_ref().unwrap()[0].value.clone();
        let request: PackRequest = serde_json::from_str(&request.unwrap()).unwrap();
        request.platforms.to_string()
    }

    /// A step of the only Job says this.
    fn says(&self, step: &str, exit_code: i32, message: &Value) {
        let job = self.jobs().remove(0);
        let mut pod = fixtures::ended(step, exit_code, &message.to_string());
        pod.metadata.namespace = Some("paperclip-system".into());
        let name = "batch.kubernetes.io/job-name".to_owned();
        pod.labels_mut().insert(name, job.name_any());
        let (wake, _) = tokio::sync::mpsc::unbounded_channel();
        self.context.pods.observe(Event::Apply(pod), &wake);
    }

    /// The only Job packed this.
    fn pushes(&self, digest: &str, platforms: &[&str]) {
        self.knows(digest);
        let of = |name: &&str| {
            let cpu = if *name == X64 { "x64" } else { "arm64" };
            json!({"os": "linux", "cpu": cpu, "libc": "glibc"})
        };
        let platforms: Vec<_> = platforms.iter().map(of).collect();
        let pushed = json!({"ok": {
            "repository": "plugins/example", "digest": digest, "marker": "m", "sizeBytes": 1,
            "lockDigest": digest, "platforms": platforms,
        }});
        self.says("push", 0, &pushed);
    }

    /// CPUs that the pods are kept to.
    fn placed(&self) -> Value {
        let spec = &self.server.object(DEPLOYMENT)["spec"]["template"]["spec"];
        let required =
            &spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
        required["nodeSelectorTerms"][0]["matchExpressions"][1]["values"].clone()
    }
}

fn node(cpu: &str, since: &str) -> Value {
    json!({"metadata": {
        "name": cpu, "creationTimestamp": since, "labels": {OS: "linux", ARCHITECTURE: cpu},
    }})
}

fn digest(letter: char) -> String {
    format!("sha256:{}", letter.to_string().repeat(64))
}

#[tokio::test]
async fn something_new_is_packed_for_what_the_nodes_are_and_its_pods_go_where_it_fits() {
    let world = World::new(&[("amd64", OLD), ("arm64", YOUNG), ("s390x", OLD)]).await;
    assert_eq!(world.pass().await, "Packing");
    assert_eq!(world.asked(), "linux/amd64, linux/arm64");
    world.pushes(&digest('b'), &[X64]);
    assert_eq!(world.pass().await, "Succeeded");
    let artifact = world.artifact();
    assert_eq!(artifact.platforms, [X64]);
    assert_eq!(artifact.packed_for, [X64, ARM64]);
    assert_eq!(world.placed(), json!(["amd64"]));
    world.pass().await;
    assert_eq!(
        world.jobs().len(),
        1,
        "what the package lacks is asked for once"
    );
}

#[tokio::test]
async fn an_artifact_without_native_code_runs_anywhere_and_is_packed_once() {
    let world = World::new(&[("amd64", OLD)]).await;
    world.pass().await;
    assert_eq!(world.asked(), X64);
    world.pushes(&digest('b'), &[]);
    assert_eq!(world.pass().await, "Succeeded");
    assert_eq!(world.artifact().platforms, ["any"]);
    assert_eq!(world.placed(), Value::Null);
    let arm64 = serde_json::from_value(node("arm64", OLD)).unwrap();
    world.context.nodes.observe(Event::Apply(arm64));
    assert_eq!(world.pass().await, "Succeeded");
    assert_eq!(world.jobs().len(), 1);
}

#[tokio::test]
async fn a_cpu_that_came_to_stay_is_packed_for_while_what_is_there_goes_on() {
    let world = World::new(&[("amd64", OLD), ("arm64", OLD)]).await;
    world.packed(&[X64], &[X64]);
    assert_eq!(world.pass().await, "Succeeded");
    assert_eq!(world.asked(), "linux/amd64, linux/arm64");
    assert_eq!(world.placed(), json!(["amd64"]));

    let away = json!({"error": {"reason": "RegistryUnavailable", "message": "timed out"}});
    world.says("fetch", 1, &away);
    assert_eq!(world.pass().await, "Succeeded");
    assert_eq!(world.artifact().digest, fixtures::artifact().digest);

    world.pushes(&digest('b'), &[X64, ARM64]);
    assert_eq!(world.pass().await, "Succeeded");
    assert_eq!(world.artifact().digest, digest('b'));
    world.pass().await;
    assert_eq!(world.placed(), json!(["amd64", "arm64"]));
}

#[tokio::test]
async fn a_package_that_has_nothing_for_a_new_cpu_is_tried_once_and_keeps_what_is_known_of_it() {
    let world = World::new(&[("amd64", OLD), ("arm64", OLD)]).await;
    world.packed(&[X64], &[X64]);
    world.pass().await;
    let before = world.artifact();
    world.pushes(&before.digest, &[X64]);
    assert_eq!(world.pass().await, "Succeeded");
    let after = world.artifact();
    assert_eq!(after.packed_for, [X64, ARM64]);
    assert_eq!(after.observed_at, before.observed_at);
    assert_ne!(after.request, before.request);
    world.pass().await;
    assert_eq!(world.jobs().len(), 1);
}

#[tokio::test]
async fn a_refusal_for_a_new_cpu_breaks_nothing_and_is_not_asked_for_again() {
    let world = World::new(&[("amd64", OLD), ("arm64", OLD)]).await;
    world.packed(&[X64], &[X64]);
    world.pass().await;
    let refused = json!({"error": {"reason": "PackageRefused", "message": "layer-size"}});
    world.says("fetch", 10, &refused);
    assert_eq!(world.pass().await, "Succeeded");
    for job in world.jobs() {
        world.server.remove(&format!("{JOBS}{}", job.name_any()));
    }
    assert_eq!(world.pass().await, "Succeeded");
    assert_eq!(world.jobs(), []);
}

#[tokio::test]
async fn nodes_that_come_for_a_moment_or_go_have_nothing_packed_again() {
    let world = World::new(&[("amd64", OLD), ("arm64", YOUNG)]).await;
    world.packed(&[X64], &[X64]);
    assert_eq!(world.pass().await, "Succeeded");
    assert_eq!(world.jobs(), []);
    let amd64 = serde_json::from_value(node("amd64", OLD)).unwrap();
    world.context.nodes.observe(Event::Delete(amd64));
    assert_eq!(world.pass().await, "Succeeded");
    assert_eq!(world.jobs(), []);
}
