//! Passes over a host: its client certificate, and what its conditions say.

use std::sync::Arc;

use kube::runtime::controller::Action;
use paperclip_crds::v1alpha1::{Condition, PaperclipHost};
use paperclip_operator::{context::Context, host::reconcile};
use paperclip_testkit::{ApiServer, fixtures};

use crate::operator;

const HOST: &str = "/apis/plugins.paperclip.ing/v1alpha1/namespaces/paperclip/papercliphosts/main";
const SECRET: &str = "/api/v1/namespaces/paperclip/secrets/main-client-tls";

async fn created() -> (ApiServer, Arc<Context>, PaperclipHost) {
    let server = ApiServer::default();
    let context = operator::context(&server).await;
    server.put(HOST, &fixtures::host());
    (server, context, fixtures::host())
}

fn words(status: &serde_json::Value) -> Vec<String> {
    let conditions: Vec<Condition> = serde_json::from_value(status["conditions"].clone()).unwrap();
    conditions
        .iter()
        .map(|found| format!("{}={} {}", found.type_, found.status, found.reason))
        .collect()
}

#[tokio::test]
async fn ready_is_unknown_before_it_is_true() {
    let (server, context, host) = created().await;
    reconcile(&host, &context).await.unwrap();
    let written: Vec<_> = server.bodies(&format!("{HOST}/status"));
    assert_eq!(
        written
            .iter()
            .map(|body| words(&body["status"]))
            .collect::<Vec<_>>(),
        [
            vec!["Ready=Unknown Pending", "Reconciling=True Pending"],
            vec!["Ready=True Succeeded"],
        ]
    );
    assert!(server.object(HOST)["status"]["certificateExpires"].is_string());
}

#[tokio::test]
async fn a_second_pass_over_a_host_writes_nothing() {
    let (server, context, host) = created().await;
    reconcile(&host, &context).await.unwrap();
    server.writes();
    reconcile(&host, &context).await.unwrap();
    assert_eq!(server.writes(), Vec::<String>::new());
}

#[tokio::test]
async fn a_secret_of_another_stalls_the_host_and_stays_as_it_is() {
    let (server, context, host) = created().await;
    let foreign = serde_json::json!({"metadata": {"name": "main-client-tls"}});
    server.put(SECRET, &foreign);
    reconcile(&host, &context).await.unwrap_err();
    let status = server.object(HOST)["status"].clone();
    let expected = ["Ready=False ApplyFailed", "Stalled=True ApplyFailed"];
    assert_eq!(words(&status), expected);
    assert_eq!(server.object(SECRET), foreign);
}

#[tokio::test]
async fn a_host_in_a_namespace_that_goes_is_no_error() {
    let (server, context, host) = created().await;
    reconcile(&host, &context).await.unwrap();
    server.writes();
    server.terminate("paperclip");
    server.remove(SECRET);
    let action = reconcile(&host, &context).await.unwrap();
    assert_eq!(action, Action::await_change());
    assert_eq!(server.writes(), [format!("PATCH {SECRET}")]);
}
