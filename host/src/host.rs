//! The host itself: everything its parts share.

use std::sync::Arc;

use paperclip_bridge::trace::Traces;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::warn;

use crate::{
    auth::Authenticator,
    clock::Clock,
    database::{Database, DatabaseError, PluginRow},
    events::{self, Event},
    http,
    log_entries::LogQueue,
    metrics::Metrics,
    plugins::{Plugin, PluginId, Registry, Release},
    services::HttpFetch,
};

/// What the host's parts share.
#[derive(Debug)]
pub struct Host {
    /// Names of this host and process.
    pub name: HostName,
    /// Whether webhooks and jobs run without a company, as on a real host.
    pub strict_scopes: bool,
    /// Calls of one plugin that may wait for a pod that serves.
    pub max_held_calls: usize,
    /// Everything that is kept.
    pub database: Database,
    /// The plugins it has heard of.
    pub plugins: Registry,
    /// Requests workers make through it.
    pub fetch: HttpFetch,
    /// Who may use its API.
    pub auth: Authenticator,
    /// What it counts.
    pub metrics: Metrics,
    /// Log entries on their way to the database.
    pub records: LogQueue,
    /// Where spans go.
    pub traces: Traces,
    /// What time it is; schedules go by it.
    pub clock: Clock,
    /// Everything that runs in the background.
    pub tasks: TaskTracker,
    /// Job runs, which may end before the host does.
    pub runs: TaskTracker,
    /// Cancelled when the host is told to stop: nothing new is begun from then on.
    pub draining: CancellationToken,
    /// Cancelled when the host stops.
    pub stop: CancellationToken,
}

/// Names of a host process.
#[derive(Clone, Debug)]
pub struct HostName {
    /// Namespace of the `PaperclipHost`.
    pub namespace: String,
    /// Name of the `PaperclipHost`.
    pub name: String,
    /// Name of this process among its replicas.
    pub replica: String,
}

/// Why an event is not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// It cannot be written down.
    #[error("write an event as JSON")]
    Json(#[from] serde_json::Error),
    /// It cannot be stored.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

impl Host {
    /// The plugin of this id, which may be new to the host.
    pub fn plugin(&self, id: &PluginId) -> Arc<Plugin> {
        self.plugins
            .get_or_insert(id, || self.make_plugin(id.clone(), None))
    }

    /// Makes known what the database remembers, so that a call right after a restart waits for
    /// its plugin instead of being told that there is none.
    pub async fn restore(&self) -> Result<(), DatabaseError> {
        let mut rows = self.database.plugins().await?;
        rows.sort_by(|one, other| one.installed_at.cmp(&other.installed_at));
        for row in rows {
            let release = release(&row);
            let id = PluginId {
                namespace: row.namespace,
                name: row.name,
                uid: row.id,
            };
            self.plugins
                .get_or_insert(&id, || self.make_plugin(id.clone(), release));
        }
        Ok(())
    }

    /// Queues an event for every plugin that subscribed to it. It is stored when this returns.
    pub async fn publish(&self, event: &Event) -> Result<(), PublishError> {
        let mut subscribers = self.plugins.all();
        subscribers.retain(|plugin| plugin.wants(event));
        if subscribers.is_empty() {
            return Ok(());
        }
        let ids: Vec<_> = subscribers
            .iter()
            .map(|plugin| plugin.id().uid.as_str())
            .collect();
        let json = serde_json::to_string(event)?;
        for full in self
            .database
            .queue_event(&ids, &json, &http::trace_parent(), events::QUEUE)
            .await?
        {
            warn!(
                plugin = full,
                event = event.event_id,
                "event dropped, too many wait for the worker"
            );
        }
        for plugin in &subscribers {
            plugin.notify_event();
        }
        Ok(())
    }

    fn make_plugin(&self, id: PluginId, release: Option<Release>) -> Arc<Plugin> {
        let plugin = Arc::new(Plugin::new(
            id,
            release,
            self.metrics.holds.clone(),
            self.max_held_calls,
        ));
        let stop = self.stop.clone();
        let deliver = events::deliver(
            self.database.clone(),
            self.traces.clone(),
            Arc::clone(&plugin),
        );
        self.tasks.spawn(async move {
            stop.run_until_cancelled(deliver).await;
        });
        plugin
    }
}

/// What a row says, unless it was written by a version that kept something else.
fn release(row: &PluginRow) -> Option<Release> {
    Release::read(
        row.manifest_json.0.as_bytes(),
        row.artifact_digest.clone(),
        u64::try_from(row.activation).ok()?,
    )
    .ok()
}
