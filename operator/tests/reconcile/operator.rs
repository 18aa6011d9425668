//! An operator over the API server in memory.

use std::{fmt::Debug, sync::Arc};

use axum::http::StatusCode;
use clap::Parser;
use kube::{Resource, runtime::watcher::Event};
use paperclip_oci::client::{StoreClient, StoreOptions};
use paperclip_operator::{
    args::Args, context::Context, metrics::Metrics, reflectors::Reflector, secrets,
};
use paperclip_testkit::{ApiServer, fixtures};
use serde::de::DeserializeOwned;
use tokio::net::TcpListener;

fn args() -> Args {
    Args::parse_from(fixtures::OPERATOR_FLAGS)
}

/// A store that answers and holds nothing, so that nobody tries again and again to reach the
/// one that there is not.
async fn empty_store() -> StoreClient {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let nothing = axum::Router::new().fallback(|| async { StatusCode::NOT_FOUND });
    tokio::spawn(async move { axum::serve(listener, nothing).await });
    let options = StoreOptions {
        address,
        plain_http: true,
        ..StoreOptions::default()
    };
    StoreClient::new(options).unwrap()
}

/// The context of an operator whose platform has no pods, over a store that holds nothing.
pub async fn context_without_pods(server: &ApiServer) -> Arc<Context> {
    let context = context(server).await;
    let (wake, _) = tokio::sync::mpsc::unbounded_channel();
    context.pods.observe(Event::InitDone, &wake);
    context
}

/// The same before pods were listed.
pub async fn context(server: &ApiServer) -> Arc<Context> {
    let texts = [("username", "read"), ("password", "secret")];
    let secret = secrets::build_secret(Default::default(), secrets::OPAQUE, texts);
    server.put(
        "/api/v1/namespaces/paperclip-system/secrets/paperclip-store-read",
        &secret,
    );
    let metrics = Arc::new(Metrics::default());
    let context = Context::prepare(server.client(), args(), metrics).await;
    server.writes();
    let mut context = context.unwrap();
    context.store = empty_store().await;
    let context = Arc::new(context);
    list(server, &context);
    context
}

/// Lists to an operator what it keeps: every trust policy and every namespace.
pub fn list(server: &ApiServer, context: &Context) {
    let reflector = &context.reflectors;
    list_kind(
        server,
        "/apis/plugins.paperclip.ing/v1alpha1/papercliptrustpolicies/",
        &reflector.policies,
    );
    list_kind(server, "/api/v1/namespaces/", &reflector.namespaces);
}

fn list_kind<K>(server: &ApiServer, prefix: &str, reflector: &Reflector<K>)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    reflector.observe(&Event::Init);
    for (path, object) in server.objects() {
        let name = path.strip_prefix(prefix);
        if name.is_some_and(|name| !name.contains('/')) {
            reflector.observe(&Event::InitApply(serde_json::from_value(object).unwrap()));
        }
    }
    reflector.observe(&Event::InitDone);
}
