//! The running host: its parts put together, and taken down in order.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use chrono::{TimeDelta, Utc};
use paperclip_bridge::{
    tls::{ClientTls, TlsError},
    trace::{Traces, TracesError},
};
use paperclip_error_chain::chain;
use tokio::{net::TcpListener, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info, warn};

use crate::{
    args::{AuthMode, ServeArgs},
    auth::{Authenticator, TokenFileError},
    clock::{self, Clock},
    database::{Database, DatabaseError},
    discovery::{Sessions, Synced},
    host::{Host, HostName},
    http, jobs,
    log_entries::LogQueue,
    metrics::Metrics,
    plugins::Registry,
    services::HttpFetch,
};

/// How long requests and jobs under way may take to end.
const GRACE: Duration = Duration::from_secs(25);
/// How long tasks may take to notice that the host stops.
const CLOSING: Duration = Duration::from_secs(5);
/// How often old rows are dropped.
const PRUNE_INTERVAL: Duration = Duration::from_secs(60 * 60);
/// How long log entries, deliveries and runs are kept.
const KEPT: TimeDelta = TimeDelta::days(30);

/// Why the host does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The database cannot be used.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The certificate cannot be used.
    #[error("read the host's certificate")]
    Tls(#[from] TlsError),
    /// The tokens cannot be used.
    #[error(transparent)]
    Tokens(#[from] TokenFileError),
    /// The token file is not named.
    #[error("authentication by tokens from a file needs --token-file")]
    NoTokenFile,
    /// There is no cluster to ask.
    #[error("find the Kubernetes API server")]
    Cluster(#[source] kube::config::InferConfigError),
    /// No client for the cluster.
    #[error("create a client of the Kubernetes API server")]
    Client(#[source] kube::Error),
    /// No client for `http.fetch`.
    #[error("create the client of http.fetch")]
    Fetch(#[source] reqwest::Error),
    /// Traces cannot be exported.
    #[error(transparent)]
    Traces(#[from] TracesError),
    /// A port is taken.
    #[error("listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A listener broke.
    #[error("serve HTTP")]
    Serve(#[source] io::Error),
}

/// A host that is ready to run, with its ports bound.
pub struct Server {
    host: Arc<Host>,
    sessions: Sessions,
    client: Option<kube::Client>,
    args: ServeArgs,
    api: TcpListener,
    health: TcpListener,
}

impl Server {
    /// Opens the database and the ports, and reads every file that is needed.
    pub async fn bind(args: ServeArgs) -> Result<Self, ServeError> {
        Self::bind_with(args, Clock::default()).await
    }

    /// The same with schedules that go by this clock.
    pub async fn bind_with(args: ServeArgs, clock: Clock) -> Result<Self, ServeError> {
        let tls = ClientTls::from_dir(&args.tls_dir)?;
        let client = cluster(&args).await?;
        let database = Database::open(&args.database).await?;
        database.close_abandoned().await?;
        let host = Arc::new(Host {
            name: HostName {
                namespace: args.host_namespace.clone(),
                name: args.host_name.clone(),
                replica: args.replica.clone(),
            },
            strict_scopes: args.strict_scopes,
            max_held_calls: args.max_held_calls,
            database,
            plugins: Registry::default(),
            fetch: HttpFetch::new(&args.http_fetch_allow_cidr).map_err(ServeError::Fetch)?,
            auth: authenticator(&args, client.as_ref())?,
            metrics: Metrics::default(),
            records: LogQueue::default(),
            traces: Traces::from_env("paperclip-host")?,
            clock,
            tasks: TaskTracker::new(),
            runs: TaskTracker::new(),
            draining: CancellationToken::new(),
            stop: CancellationToken::new(),
        });
        host.restore().await?;
        Ok(Self {
            sessions: Sessions::new(Arc::clone(&host), tls),
            client,
            api: listen(args.listen).await?,
            health: listen(args.health_listen).await?,
            host,
            args,
        })
    }

    /// Address of the API.
    pub fn api_address(&self) -> io::Result<SocketAddr> {
        self.api.local_addr()
    }

    /// Address of the health port.
    pub fn health_address(&self) -> io::Result<SocketAddr> {
        self.health.local_addr()
    }

    /// Runs until `stop`. Then it is not ready, takes no new requests and begins no jobs, gives what
    /// is under way [`GRACE`] to end, ends the sessions, and closes the database.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> Result<(), ServeError> {
        let host = self.host;
        let synced = Synced::default();
        if self.args.plugin_address.is_empty()
            && let Some(client) = self.client
        {
            let follow = self
                .sessions
                .follow(client, self.args.watch_namespace, synced.clone());
            spawn(&host, follow);
        } else {
            let targets: Vec<_> = self
                .args
                .plugin_address
                .iter()
                .map(|pod| pod.0.clone())
                .collect();
            self.sessions.keep_fixed(&targets, &synced);
        }
        spawn(&host, jobs::schedule(Arc::clone(&host)));
        spawn(&host, prune(Arc::clone(&host)));
        spawn(&host, host.records.clone().write(host.database.clone()));
        let addresses = (self.api.local_addr(), self.health.local_addr());
        let api = axum::serve(self.api, http::router(Arc::clone(&host)))
            .with_graceful_shutdown(host.draining.clone().cancelled_owned());
        let health = axum::serve(self.health, http::health_router(Arc::clone(&host), synced))
            .with_graceful_shutdown(host.stop.clone().cancelled_owned());
        let health = tokio::spawn(health.into_future());
        let mut api = tokio::spawn(api.into_future());
        if let (Ok(api), Ok(health)) = addresses {
            info!(namespace = host.name.namespace, name = host.name.name, %api, %health, "host runs");
        }
        let ended = tokio::select! {
            () = stop => None,
            ended = &mut api => Some(ended),
        };
        info!("host stops");
        host.draining.cancel();
        let served = match ended {
            Some(ended) => flatten(ended),
            None => drain(&host, api).await,
        };
        host.stop.cancel();
        for tasks in [&host.runs, &host.tasks] {
            tasks.close();
            if tokio::time::timeout(CLOSING, tasks.wait()).await.is_err() {
                error!("some tasks did not end in time");
            }
        }
        health.abort();
        host.database.close().await;
        let traces = host.traces.clone();
        if let Err(failed) = tokio::task::spawn_blocking(move || traces.shut_down()).await {
            error!(error = %failed, "the last traces were not sent");
        }
        served
    }
}

async fn cluster(args: &ServeArgs) -> Result<Option<kube::Client>, ServeError> {
    if args.auth == AuthMode::StaticTokenFile && !args.plugin_address.is_empty() {
        return Ok(None);
    }
    let config = kube::Config::infer().await.map_err(ServeError::Cluster)?;
    kube::Client::try_from(config)
        .map(Some)
        .map_err(ServeError::Client)
}

fn authenticator(
    args: &ServeArgs,
    client: Option<&kube::Client>,
) -> Result<Authenticator, ServeError> {
    match (args.auth, client, &args.token_file) {
        (AuthMode::TokenReview, Some(client), _) => Ok(Authenticator::reviews(client.clone())),
        (_, _, Some(file)) => Ok(Authenticator::token_file(file)?),
        (_, _, None) => Err(ServeError::NoTokenFile),
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| ServeError::Listen { address, source })
}

fn spawn(host: &Host, work: impl Future<Output = ()> + Send + 'static) {
    let stop = host.stop.clone();
    host.tasks.spawn(async move {
        stop.run_until_cancelled(work).await;
    });
}

fn flatten(ended: Result<io::Result<()>, tokio::task::JoinError>) -> Result<(), ServeError> {
    ended
        .unwrap_or_else(|panicked| Err(io::Error::other(panicked)))
        .map_err(ServeError::Serve)
}

/// Lets requests and job runs end.
async fn drain(
    host: &Host,
    api: tokio::task::JoinHandle<io::Result<()>>,
) -> Result<(), ServeError> {
    let until = Instant::now() + GRACE;
    let served = tokio::time::timeout_at(until, api).await;
    host.runs.close();
    let ran = tokio::time::timeout_at(until, host.runs.wait()).await;
    if served.is_err() || ran.is_err() {
        warn!("requests or jobs are cut off, they did not end in time");
    }
    served.map_or(Ok(()), flatten)
}

async fn prune(host: Arc<Host>) {
    let mut ticks = tokio::time::interval(PRUNE_INTERVAL);
    loop {
        ticks.tick().await;
        match host.database.prune(&clock::text(Utc::now() - KEPT)).await {
            Ok(0) => {}
            Ok(rows) => info!(rows, "old rows dropped"),
            Err(failure) => error!(error = chain(&failure), "old rows could not be dropped"),
        }
    }
}
