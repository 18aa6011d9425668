//! Watches that wake the plugin reconciler.

use std::{sync::Arc, time::Instant};

use futures::{Stream, StreamExt, TryStreamExt as _, future::ready, stream};
use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::Job,
    core::v1::{Namespace, Pod},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::ClusterResourceScope,
    runtime::{
        Controller, WatchStreamExt,
        controller::{Action, Config},
        reflector::{ObjectRef, Store},
        watcher,
    },
};
use paperclip_crds::{
    labels,
    v1alpha1::{PaperclipHost, PaperclipPlugin},
};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;

use super::{error::ReconcileError, queue, reconcile::reconcile};
use crate::{
    backoff::{self, Backoff},
    context::Context,
    errors::chain,
    pods::Wakes,
    reflectors::{Reflector, Reflectors, none_of_an_unknown_kind},
};

const NAME: &str = "paperclipplugin";

/// Reconciles plugins until told to stop.
pub async fn run(context: Arc<Context>, stop: CancellationToken) {
    let client = context.client.clone();
    let (wake, woken) = mpsc::unbounded_channel();
    let backoff = Arc::new(Backoff::default());
    let controller = Controller::new(Api::all(client.clone()), watcher::Config::default());
    let store = controller.store();
    let hosts_store = store.clone();
    let (policies_store, namespaces_store) = (store.clone(), store.clone());
    let controller = controller
        .with_config(Config::default().concurrency(context.args.concurrency))
        .owns_stream(touched::<Deployment>(Api::all(client.clone())))
        .watches_stream(
            watcher(
                Api::<PaperclipHost>::all(client.clone()),
                watcher::Config::default(),
            )
            .default_backoff()
            .touched_objects(),
            move |host| plugins_of_host(&hosts_store, &host),
        )
        .watches_stream(
            kept(client.clone(), context.clone(), |kept| &kept.policies),
            // A policy that comes or goes also concerns those that it is not for.
            move |_| select(&policies_store, |_| true),
        )
        .watches_stream(
            kept(client.clone(), context.clone(), |kept| &kept.namespaces),
            // Its labels may be another policy's.
            move |namespace: Namespace| {
                let wanted = namespace.metadata.name;
                select(&namespaces_store, |plugin| plugin.namespace() == wanted)
            },
        )
        .reconcile_on(expand(woken, store))
        .graceful_shutdown_on(stop.clone().cancelled_owned());

    let watching = tokio::spawn(watch(context.clone(), wake, stop));
    let (failures, passes) = (backoff.clone(), backoff.clone());
    controller
        .run(
            move |plugin, context| measured(plugin, context, backoff.clone()),
            move |plugin, error, _| after_failure(&plugin, error, &failures),
            context,
        )
        .for_each(|pass| {
            passes.ended(&pass);
            ready(())
        })
        .await;
    watching.abort();
}

async fn measured(
    plugin: Arc<PaperclipPlugin>,
    context: Arc<Context>,
    backoff: Arc<Backoff>,
) -> Result<Action, ReconcileError> {
    let started = Instant::now();
    let key = backoff::key(&*plugin);
    let metrics = context.metrics.clone();
    let result = reconcile(plugin, context).await;
    metrics.reconciled(NAME, started.elapsed(), result.is_err());
    tracing::debug!(plugin = key, took = ?started.elapsed(), "reconcile of a plugin");
    if result.is_ok() {
        backoff.succeeded(&key);
    }
    result
}

fn after_failure(plugin: &PaperclipPlugin, error: &ReconcileError, backoff: &Backoff) -> Action {
    let key = backoff::key(plugin);
    let wait = backoff.failed(&key);
    tracing::warn!(
        plugin = key,
        error = chain(error),
        ?wait,
        "reconcile of a plugin failed"
    );
    Action::requeue(wait)
}

/// Changes of objects that carry our label.
fn touched<K>(api: Api<K>) -> impl Stream<Item = Result<K, watcher::Error>>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    watcher(api, ours()).default_backoff().touched_objects()
}

/// Changes of all objects of a kind that is kept: each is kept before anybody is woken.
fn kept<K>(
    client: Client,
    context: Arc<Context>,
    of: fn(&Reflectors) -> &Reflector<K>,
) -> impl Stream<Item = Result<K, watcher::Error>>
where
    K: Resource<DynamicType = (), Scope = ClusterResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug
        + Send
        + Sync
        + 'static,
{
    watcher(Api::<K>::all(client), watcher::Config::default())
        .modify(|object| object.managed_fields_mut().clear())
        .default_backoff()
        .flat_map(|event| stream::iter(none_of_an_unknown_kind(event)))
        .inspect_ok(move |event| of(&context.reflectors).observe(event))
        .touched_objects()
}

fn ours() -> watcher::Config {
    watcher::Config::default().labels(&format!("{}={}", labels::MANAGED_BY, labels::OPERATOR))
}

/// Follows pods everywhere and packing Jobs in our namespace.
async fn watch(context: Arc<Context>, wake: mpsc::UnboundedSender<Wakes>, stop: CancellationToken) {
    let client = context.client.clone();
    let pods = watcher(Api::<Pod>::all(client.clone()), ours())
        .modify(|pod| pod.metadata.managed_fields = None)
        .default_backoff()
        .for_each(|event| {
            match event {
                Ok(event) => context.pods.observe(event, &wake),
                Err(error) => tracing::warn!(%error, "watching pods failed"),
            }
            ready(())
        });
    let jobs = watcher(
        Api::<Job>::namespaced(client, &context.args.namespace),
        ours(),
    )
    .default_backoff()
    .touched_objects()
    .for_each(|job| {
        let (context, wake) = (context.clone(), wake.clone());
        async move {
            match job {
                Ok(job) => tell(&context, &job, &wake).await,
                Err(error) => tracing::warn!(%error, "watching packing Jobs failed"),
            }
        }
    });
    let watching = Box::pin(async { tokio::join!(pods, jobs) });
    stop.run_until_cancelled(watching).await;
}

/// Wakes the plugins of a Job, and when it no longer runs those that are next.
async fn tell(context: &Context, job: &Job, wake: &mpsc::UnboundedSender<Wakes>) {
    // The receiver is gone only while the operator stops.
    if let Some(package) = job.annotations().get(labels::PACKAGE) {
        let _ = wake.send(Wakes::Package(package.clone()));
    }
    if !queue::runs(job) {
        let limit = usize::from(context.args.max_packing_jobs);
        for plugin in context.queue.lock().await.first(limit) {
            let _ = wake.send(Wakes::Plugin(plugin.clone()));
        }
    }
}

/// The plugins that a wake-up concerns.
fn expand(
    woken: mpsc::UnboundedReceiver<Wakes>,
    plugins: Store<PaperclipPlugin>,
) -> impl Stream<Item = ObjectRef<PaperclipPlugin>> {
    UnboundedReceiverStream::new(woken).flat_map(move |wakes| {
        stream::iter(match wakes {
            Wakes::Plugin(plugin) => vec![plugin],
            Wakes::Package(package) => {
                select(&plugins, |plugin| plugin.packages().contains(&package))
            }
        })
    })
}

fn plugins_of_host(
    plugins: &Store<PaperclipPlugin>,
    host: &PaperclipHost,
) -> Vec<ObjectRef<PaperclipPlugin>> {
    let host = (host.namespace(), host.name_any());
    select(plugins, |plugin| {
        let (namespace, name) = plugin.host_reference();
        (Some(namespace), name) == host
    })
}

fn select(
    plugins: &Store<PaperclipPlugin>,
    wanted: impl Fn(&PaperclipPlugin) -> bool,
) -> Vec<ObjectRef<PaperclipPlugin>> {
    let state = plugins.state();
    state
        .iter()
        .filter(|plugin| wanted(plugin))
        .map(|plugin| ObjectRef::from_obj(&**plugin))
        .collect()
}
