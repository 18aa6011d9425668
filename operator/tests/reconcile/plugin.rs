//! Single passes over a plugin: what is written, and what its conditions say.

use std::sync::Arc;

use kube::{
    ResourceExt,
    runtime::{controller::Action, watcher::Event},
};
use paperclip_crds::v1alpha1::{ArtifactStatus, PaperclipPlugin, PaperclipPluginStatus};
use paperclip_operator::{
    context::Context,
    plugin::{packing, reconcile},
};
use paperclip_testkit::{ApiServer, fixtures};

use crate::operator;

const PLUGIN: &str =
    "/apis/plugins.paperclip.ing/v1alpha1/namespaces/shop/paperclipplugins/commerce";
const HOST: &str = "/apis/plugins.paperclip.ing/v1alpha1/namespaces/paperclip/papercliphosts/main";

/// A plugin whose artifact was packed before, and a host that lets it in.
async fn packed() -> (ApiServer, Arc<Context>, Arc<PaperclipPlugin>) {
    let server = ApiServer::default();
    let context = operator::context_without_pods(&server).await;
    let mut plugin = fixtures::plugin();
    plugin.metadata.generation = Some(1);
    let request = packing::build_request(&fixtures::npm(), "1.0.0", None, &context.args);
    plugin.status = Some(PaperclipPluginStatus {
        artifact: Some(ArtifactStatus {
            request: request.job_name(),
            ..fixtures::artifact()
        }),
        ..PaperclipPluginStatus::default()
    });
    server.put(PLUGIN, &plugin);
    server.put(HOST, &fixtures::host());
    let digest = fixtures::artifact().digest.parse().unwrap();
    context.remember_manifest(digest, serde_json::json!({"id": "example"}));
    (server, context, Arc::new(plugin))
}

#[tokio::test]
async fn a_second_pass_writes_nothing() {
    let (server, context, plugin) = packed().await;
    reconcile(plugin.clone(), context.clone()).await.unwrap();
    assert!(!server.writes().is_empty());
    reconcile(plugin, context).await.unwrap();
    assert_eq!(server.writes(), Vec::<String>::new());
}

#[tokio::test]
async fn a_pin_that_differs_stops_an_artifact_that_is_there() {
    let (server, context, plugin) = packed().await;
    let mut plugin = (*plugin).clone();
    let pins = serde_json::json!({"id": "other"});
    plugin.spec.manifest = pins.as_object().cloned();
    server.put(PLUGIN, &plugin);
    let digest = fixtures::artifact().digest.parse().unwrap();
    context.remember_manifest(digest, serde_json::json!({"id": "example"}));
    reconcile(Arc::new(plugin), context).await.unwrap();
    assert_eq!(
        words(&server),
        [
            "Ready=False ManifestMismatch",
            "Stalled=True ManifestMismatch",
            "ArtifactReady=True Succeeded",
            "Verified=Unknown Skipped",
            "WorkerAvailable=False Pending",
            "HostAttached=False HostAbsent",
            "EgressEnforced=Unknown Pending",
        ]
    );
    let writes = server.writes();
    assert!(
        writes.iter().all(|write| !write.contains("/api/v1/")),
        "{writes:?}"
    );
}

#[tokio::test]
async fn a_host_that_does_not_let_a_plugin_in_stalls_it_before_anything_is_made() {
    let (server, context, plugin) = packed().await;
    let mut host = fixtures::host();
    host.spec.allowed_namespaces = Default::default();
    server.put(HOST, &host);
    reconcile(plugin, context).await.unwrap();
    assert_eq!(
        words(&server)[..3],
        [
            "Ready=False HostForbidden",
            "Stalled=True HostForbidden",
            "ArtifactReady=True Succeeded",
        ]
    );
    let writes = server.writes();
    assert!(
        writes.iter().all(|write| !write.contains("/api/v1/")),
        "{writes:?}"
    );
}

#[tokio::test]
async fn a_host_that_withdraws_its_leave_stops_the_pods_until_it_gives_it_again() {
    let (server, context, plugin) = packed().await;
    let path = "/apis/apps/v1/namespaces/shop/deployments/pcp-commerce";
    let mut host = fixtures::host();
    let mut closed = host.clone();
    closed.spec.allowed_namespaces = Default::default();
    host.metadata.generation = Some(3);
    let mut replicas = Vec::new();
    for host in [&host, &closed, &host] {
        server.put(HOST, host);
        reconcile(plugin.clone(), context.clone()).await.unwrap();
        replicas.push(server.object(path)["spec"]["replicas"].clone());
    }
    assert_eq!(replicas, [1, 0, 1]);
}

#[tokio::test]
async fn pods_that_serve_another_host_outlive_a_move_that_is_forbidden() {
    let (server, context, plugin) = packed().await;
    reconcile(plugin.clone(), context.clone()).await.unwrap();
    let mut moved: PaperclipPlugin = serde_json::from_value(server.object(PLUGIN)).unwrap();
    moved.spec.host.name = "closed".into();
    server.put(PLUGIN, &moved);
    let mut closed = fixtures::host();
    closed.spec.allowed_namespaces = Default::default();
    server.put(&HOST.replace("main", "closed"), &closed);
    reconcile(plugin, context).await.unwrap();
    assert_eq!(words(&server)[0], "Ready=False HostForbidden");
    let deployment = "/apis/apps/v1/namespaces/shop/deployments/pcp-commerce";
    assert_eq!(server.object(deployment)["spec"]["replicas"], 1);
}

#[tokio::test]
async fn a_package_that_npm_does_not_know_is_told_in_its_words_and_packed_once() {
    let server = ApiServer::default();
    let context = operator::context_without_pods(&server).await;
    let plugin = Arc::new(fixtures::plugin());
    server.put(PLUGIN, &*plugin);
    server.put(HOST, &fixtures::host());
    reconcile(plugin.clone(), context.clone()).await.unwrap();
    let jobs = "/apis/batch/v1/namespaces/paperclip-system/jobs";
    assert!(server.writes().contains(&format!("POST {jobs}")));
    assert_eq!(words(&server)[0], "Ready=False Packing");

    let request = packing::build_request(&fixtures::npm(), "1.0.0", None, &context.args);
    let outcome = r#"{"error":{"reason":"PackageNotFound","message":"E404 example"}}"#;
    let mut pod = fixtures::ended("fetch", 10, outcome);
    pod.metadata.namespace = Some("paperclip-system".into());
    let job_name = "batch.kubernetes.io/job-name".to_owned();
    pod.labels_mut().insert(job_name, request.job_name());
    let (wake, _) = tokio::sync::mpsc::unbounded_channel();
    context.pods.observe(Event::Apply(pod.clone()), &wake);
    reconcile(plugin.clone(), context.clone()).await.unwrap();
    let told = [
        "Ready=False PackageNotFound",
        "Stalled=True PackageNotFound",
        "ArtifactReady=False PackageNotFound",
    ];
    assert_eq!(words(&server)[..3], told);
    let status = server.object(PLUGIN)["status"].clone();
    assert_eq!(status["failedRequest"], request.job_name());
    let message = "E404 example. Correct spec.source to a package that its registry or URL has.";
    assert_eq!(status["conditions"][0]["message"], message);

    server.writes();
    server.remove(&format!("{jobs}/{}", request.job_name()));
    context.pods.observe(Event::Delete(pod), &wake);
    reconcile(plugin, context).await.unwrap();
    assert_eq!(server.writes(), Vec::<String>::new());
}

#[tokio::test]
async fn an_object_of_another_under_our_name_stalls_the_plugin() {
    let (server, context, plugin) = packed().await;
    let path = "/api/v1/namespaces/shop/serviceaccounts/pcp-commerce";
    server.put(
        path,
        &serde_json::json!({"metadata": {"name": "pcp-commerce"}}),
    );
    reconcile(plugin, context).await.unwrap_err();
    let expected = ["Ready=False ApplyFailed", "Stalled=True ApplyFailed"];
    assert_eq!(words(&server), expected);
}

fn words(server: &ApiServer) -> Vec<String> {
    let plugin: PaperclipPlugin = serde_json::from_value(server.object(PLUGIN)).unwrap();
    let conditions = plugin.status.unwrap().conditions;
    conditions
        .iter()
        .map(|found| format!("{}={} {}", found.type_, found.status, found.reason))
        .collect()
}

#[tokio::test]
async fn a_namespace_that_goes_is_no_error_and_nothing_follows_the_refusal() {
    let (server, context, plugin) = packed().await;
    reconcile(plugin.clone(), context.clone()).await.unwrap();
    server.writes();
    server.terminate("shop");
    server.remove("/api/v1/namespaces/shop/secrets/pcp-commerce-tls");
    let action = reconcile(plugin, context).await.unwrap();
    assert_eq!(action, Action::await_change());
    let refused = "PATCH /api/v1/namespaces/shop/secrets/pcp-commerce-tls";
    assert_eq!(server.writes(), [refused]);
}
