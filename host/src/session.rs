//! One session with one pod: it is dialled, introduced, listened to, and dialled
//! again when it ends, for as long as the cluster has the pod.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, time::Duration};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use paperclip_bridge::{
    client::{self, ConnectError, Incoming, SessionReceiver},
    tls::ClientTls,
    trace::SpanKind,
    v1::{ConfigChanged, HostHello, Phase, PhaseChanged, PluginHello, Request},
};
use paperclip_error_chain::chain;
use paperclip_protocol::limits::Limits;
use tokio::{
    sync::{Semaphore, mpsc, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::{
    database::{DatabaseError, PluginUpdate},
    events::Subscription,
    host::Host,
    http, jobs,
    plugins::{Config, Plugin, PluginId, Pod, Release, ReleaseError},
    rpc::Fault,
    services,
};

/// First wait before a pod is dialled again.
const FIRST_RETRY: Duration = Duration::from_millis(50);
/// Longest wait, to which jitter adds as much again.
const LAST_RETRY: Duration = Duration::from_millis(2500);
/// A session that lasted this long makes the next wait a first one.
const SETTLED: Duration = Duration::from_secs(10);
/// Requests of one worker to the outside that are under way at once; more wait.
const FETCHES_AT_ONCE: usize = 128;

/// A pod to have a session with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// The plugin it must be of.
    pub plugin: PluginId,
    /// Where it listens.
    pub address: SocketAddr,
    /// Name of the pod, as the cluster knows it. Without it the pod's own word counts.
    pub pod: Option<String>,
}

#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("the pod is of plugin {found}, wanted {wanted}")]
    Stranger {
        found: Box<PluginId>,
        wanted: Box<PluginId>,
    },
    #[error(transparent)]
    Release(#[from] ReleaseError),
    #[error("read the config of the pod's hello")]
    Config(#[source] serde_json::Error),
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// Keeps a session with a pod until it is no longer wanted. A session that stands is then left to
/// end by itself, so that a pod that goes away may finish what it has.
pub async fn keep(
    host: Arc<Host>,
    tls: Arc<ClientTls>,
    target: Target,
    unwanted: CancellationToken,
    readiness: watch::Receiver<bool>,
) {
    let mut waits = Waits::new(readiness);
    let mut said = String::new();
    while !unwanted.is_cancelled() {
        let begun = Instant::now();
        match attach(&host, &tls, &target).await {
            Ok(()) => said.clear(),
            Err(failure) => {
                // A pod that starts refuses many times; the first time is enough to know.
                let text = chain(&failure);
                if text == said {
                    debug!(plugin = %target.plugin, address = %target.address, error = text, "session failed again");
                } else {
                    warn!(plugin = %target.plugin, address = %target.address, error = text, "session failed");
                    said = text;
                }
            }
        }
        if begun.elapsed() > SETTLED {
            waits.begin_again();
        }
        unwanted.run_until_cancelled(waits.next()).await;
    }
}

/// The waits between attempts, ever longer.
struct Waits {
    /// Whether the cluster calls the pod ready. A change of that is a reason to look at once: a
    /// pod is dialled long before it listens, and would then wait the longest.
    readiness: watch::Receiver<bool>,
    left: ExponentialBackoff,
}

impl Waits {
    fn new(readiness: watch::Receiver<bool>) -> Self {
        let left = Self::from_the_first();
        Self { readiness, left }
    }

    fn from_the_first() -> ExponentialBackoff {
        ExponentialBuilder::default()
            .with_min_delay(FIRST_RETRY)
            .with_max_delay(LAST_RETRY)
            .with_jitter()
            .without_max_times()
            .build()
    }

    fn begin_again(&mut self) {
        self.left = Self::from_the_first();
    }

    /// Waits until the next attempt.
    async fn next(&mut self) {
        let wait = self.left.next().unwrap_or(LAST_RETRY);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            Ok(()) = self.readiness.changed() => self.begin_again(),
        }
    }
}

async fn attach(host: &Arc<Host>, tls: &ClientTls, target: &Target) -> Result<(), SessionError> {
    let (hello, sender, receiver) = client::connect(
        target.address,
        tls,
        &target.plugin.identity(),
        HostHello {
            host_namespace: host.name.namespace.clone(),
            host_name: host.name.name.clone(),
            replica: host.name.replica.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..HostHello::default()
        },
    )
    .await?;
    check_plugin(&hello, &target.plugin)?;
    let release = Arc::new(Release::read(
        &hello.manifest_json,
        hello.artifact_digest.clone(),
        hello.activation,
    )?);
    let config = Config::parse(&hello.config_json).map_err(SessionError::Config)?;
    record(host, &target.plugin, &release, &config).await?;
    let plugin = host.plugin(&target.plugin);
    prepare(host, &plugin, &release, hello.phase()).await?;
    let name = target.pod.clone().unwrap_or(hello.pod_name.clone());
    let limits = hello.limits.map(Limits::from).unwrap_or_default();
    let pod = Arc::new(Pod::new(
        name,
        target.address,
        release,
        config,
        subscriptions(&hello),
        sender,
    ));
    pod.set_limits(limits);
    pod.set_phase(hello.phase(), &hello.initialize_result_json);
    let attached = Attached::new(host, plugin, pod);
    // A pod of a later activation may have come meanwhile.
    jobs::follow(host, &attached.plugin, None).await?;
    attached.listen(receiver).await;
    let left = attached.end();
    jobs::follow(host, &left, None).await?;
    Ok(())
}

fn check_plugin(hello: &PluginHello, wanted: &PluginId) -> Result<(), SessionError> {
    let found = PluginId {
        namespace: hello.plugin_namespace.clone(),
        name: hello.plugin_name.clone(),
        uid: hello.plugin_uid.clone(),
    };
    if found == *wanted {
        return Ok(());
    }
    Err(SessionError::Stranger {
        found: Box::new(found),
        wanted: Box::new(wanted.clone()),
    })
}

async fn record(
    host: &Host,
    id: &PluginId,
    release: &Release,
    config: &Config,
) -> Result<(), DatabaseError> {
    host.database
        .record_plugin(PluginUpdate {
            id: &id.uid,
            namespace: &id.namespace,
            name: &id.name,
            plugin_key: &release.manifest.id,
            version: &release.manifest.version,
            api_version: release.manifest.api_version,
            manifest_json: release.manifest_json.get(),
            config_json: config.json().get(),
            artifact_digest: &release.artifact_digest,
            activation: release.activation,
        })
        .await
}

/// LogQueue what has to be known before a pod takes work.
async fn prepare(
    host: &Host,
    plugin: &Plugin,
    release: &Release,
    phase: Phase,
) -> Result<(), DatabaseError> {
    if phase != Phase::Serving {
        return Ok(());
    }
    jobs::follow(host, plugin, Some(release)).await?;
    host.database.record_served(&plugin.id().uid).await
}

fn subscriptions(hello: &PluginHello) -> BTreeSet<Subscription> {
    let read = |params: &[u8]| serde_json::from_slice(params).ok();
    hello
        .subscriptions
        .iter()
        .filter_map(|subscription| read(&subscription.params_json))
        .collect()
}

/// A message of a pod that takes waiting.
enum Change {
    Phase(PhaseChanged),
    Config(Config),
}

/// A session that stands. Dropped, the pod takes no more work.
struct Attached<'a> {
    host: &'a Arc<Host>,
    plugin: Arc<Plugin>,
    pod: Arc<Pod>,
    at_once: Arc<Semaphore>,
}

impl<'a> Attached<'a> {
    fn new(host: &'a Arc<Host>, plugin: Arc<Plugin>, pod: Arc<Pod>) -> Self {
        info!(plugin = %plugin.id(), pod = pod.name(), activation = pod.release().activation, "session begun");
        plugin.attach(Arc::clone(&pod));
        host.metrics.sessions.inc();
        Self {
            host,
            plugin,
            pod,
            at_once: Arc::new(Semaphore::new(FETCHES_AT_ONCE)),
        }
    }

    /// Ends the session and gives its plugin.
    fn end(self) -> Arc<Plugin> {
        Arc::clone(&self.plugin)
    }

    /// Takes the pod's messages in their order. What takes waiting follows in a queue of its own.
    async fn listen(&self, receiver: SessionReceiver) {
        let (changes, mut queue) = mpsc::unbounded_channel();
        let lane = receiver.run(move |message| {
            if let Some(change) = self.take(message) {
                // The other end of the queue outlives this one.
                let _ = changes.send(change);
            }
        });
        let follow = async {
            while let Some(change) = queue.recv().await {
                match change {
                    Change::Phase(changed) => self.enter(&changed).await,
                    Change::Config(config) => self.record_config(&config).await,
                }
            }
        };
        tokio::join!(lane, follow);
    }

    /// Takes a message at its place in the order. Gives what of it takes waiting.
    fn take(&self, message: Incoming) -> Option<Change> {
        match message {
            Incoming::Request(request) => self.answer(request),
            Incoming::Notification(told) => {
                services::notified(services::Request {
                    host: self.host,
                    plugin: &self.plugin,
                    pod: &self.pod,
                    method: &told.method,
                    params: &told.params_json,
                    invocation_id: &told.invocation_id,
                });
            }
            Incoming::Phase(changed) => return Some(Change::Phase(changed)),
            Incoming::Config(changed) => return self.take_config(&changed).map(Change::Config),
            Incoming::Limits(limits) => self.pod.set_limits(limits.into()),
        }
        None
    }

    /// The worker's config is another one from here on, for its own questions.
    fn take_config(&self, changed: &ConfigChanged) -> Option<Config> {
        let (plugin, pod) = (&self.plugin, &self.pod);
        match Config::parse(&changed.config_json) {
            Ok(config) => {
                pod.set_config(config.clone());
                Some(config)
            }
            Err(error) => {
                error!(plugin = %plugin.id(), pod = pod.name(), %error, "the pod's new config is not JSON");
                None
            }
        }
    }

    /// Keeps the worker's config for what the API shows.
    async fn record_config(&self, config: &Config) {
        let (plugin, pod) = (&self.plugin, &self.pod);
        let activation = pod.release().activation;
        let recorded = self
            .host
            .database
            .record_config(&plugin.id().uid, activation, config.json().get())
            .await;
        match recorded {
            Ok(()) => {
                info!(plugin = %plugin.id(), pod = pod.name(), "config changed");
            }
            Err(failure) => {
                error!(plugin = %plugin.id(), pod = pod.name(), error = chain(&failure), "config changed, but could not be stored");
            }
        }
    }

    async fn enter(&self, changed: &PhaseChanged) {
        let phase = changed.phase();
        let plugin = &self.plugin;
        if let Err(failure) = prepare(self.host, plugin, self.pod.release(), phase).await {
            error!(plugin = %plugin.id(), error = chain(&failure), "jobs of the plugin may be out of date");
        }
        self.pod.set_phase(phase, &changed.initialize_result_json);
        if phase == Phase::Starting {
            plugin.streams().close_all_of(self.pod.name());
        }
        info!(plugin = %plugin.id(), pod = self.pod.name(), phase = phase.as_str_name(), why = changed.message,
            "phase changed");
        plugin.phase_changed();
        if let Err(failure) = jobs::follow(self.host, plugin, None).await {
            error!(plugin = %plugin.id(), error = chain(&failure), "jobs of the plugin may be out of date");
        }
    }

    /// Lets a request in where it stands in the order, and answers it in its turn: what is stored
    /// for a plugin goes through one queue, requests to the outside go beside it.
    fn answer(&self, request: Request) {
        let host = Arc::clone(self.host);
        let plugin = Arc::clone(&self.plugin);
        let pod = Arc::clone(&self.pod);
        let admitted = services::admit(services::Request {
            host: &host,
            plugin: &plugin,
            pod: &pod,
            method: &request.method,
            params: &request.params_json,
            invocation_id: &request.invocation_id,
        });
        let is_beside = request.method == services::FETCH;
        let work = async move {
            let name = format!("answer {}", request.method);
            let span = host
                .traces
                .start(name, SpanKind::Server, &request.traceparent);
            let outcome = match admitted {
                Ok(company) => {
                    let request = services::Request {
                        host: &host,
                        plugin: &plugin,
                        pod: &pod,
                        method: &request.method,
                        params: &request.params_json,
                        invocation_id: &request.invocation_id,
                    };
                    let answer = services::answer(request, company);
                    http::below_trace(span.traceparent(), answer).await
                }
                Err(refusal) => Err(refusal),
            };
            count(&host, &plugin, &request.method, &outcome);
            let ended = outcome.as_ref().map_err(|fault| fault.clone().into());
            span.ended(&ended.map(drop));
            pod.respond(request.id, outcome).await;
        };
        if !is_beside {
            return self.plugin.in_turn(&self.host.tasks, work);
        }
        let at_once = Arc::clone(&self.at_once);
        self.host.tasks.spawn(async move {
            if let Ok(_place) = at_once.acquire().await {
                work.await;
            }
        });
    }
}

impl Drop for Attached<'_> {
    fn drop(&mut self) {
        self.plugin.detach(&self.pod);
        self.host.metrics.sessions.dec();
        info!(plugin = %self.plugin.id(), pod = self.pod.name(), "session ended");
    }
}

fn count<T>(host: &Host, plugin: &Plugin, method: &str, outcome: &Result<T, Fault>) {
    let fault = outcome.as_ref().err();
    if let Some(fault) = fault {
        info!(plugin = %plugin.id(), method, code = fault.code, reason = fault.message, "call of a worker refused");
    }
    host.metrics.answered(method, fault.map(|fault| fault.code));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_becomes_ready_is_dialled_at_once_and_then_often_again() {
        let (readiness, told) = watch::channel(false);
        let mut waits = Waits::new(told);
        for _ in 0..20 {
            waits.next().await;
        }
        let begun = Instant::now();
        waits.next().await;
        assert!(begun.elapsed() >= LAST_RETRY, "{:?}", begun.elapsed());
        readiness.send_replace(true);
        let begun = Instant::now();
        waits.next().await;
        assert_eq!(begun.elapsed(), Duration::ZERO);
        waits.next().await;
        assert!(begun.elapsed() <= 2 * FIRST_RETRY, "{:?}", begun.elapsed());
        // A cluster that tells no more makes nobody ask without end.
        drop(readiness);
        let begun = Instant::now();
        waits.next().await;
        assert!(begun.elapsed() >= 2 * FIRST_RETRY, "{:?}", begun.elapsed());
    }
}
