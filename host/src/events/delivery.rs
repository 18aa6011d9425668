//! Delivery: the events of one plugin, in their order, from the database to the worker that serves.
//!
//! An event leaves the database once it was handed to a session. A host that is killed in between
//! hands it over again, with the same id, by which the pod knows it.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use paperclip_bridge::{
    trace::{SpanKind, Traces},
    v1::Notification,
};
use paperclip_error_chain::chain;
use serde_json::value::RawValue;
use tracing::{debug, error, warn};

use super::Event;
use crate::{
    database::{Database, DatabaseError, QueuedEvent},
    plugins::Plugin,
};

/// How many events wait for one plugin at most.
pub const QUEUE: u32 = 1024;
/// How long an event waits for a worker that serves.
const KEPT: TimeDelta = TimeDelta::hours(1);
/// Wait after the database failed.
const RETRY: Duration = Duration::from_secs(1);

/// What became of an event.
enum Handed {
    /// A worker has it, or nobody wants it: it leaves the queue.
    Done,
    /// The session ended meanwhile: it is tried again.
    NotYet,
}

/// Delivers the events of a plugin, for ever.
pub async fn deliver(database: Database, traces: Traces, plugin: Arc<Plugin>) {
    loop {
        match deliver_next(&database, &traces, &plugin).await {
            Ok(true) => {}
            Ok(false) => plugin.event_queued().await,
            Err(failure) => {
                error!(plugin = %plugin.id(), error = chain(&failure), "events wait for the database");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// Delivers one event; false when none waits.
async fn deliver_next(
    database: &Database,
    traces: &Traces,
    plugin: &Plugin,
) -> Result<bool, DatabaseError> {
    let Some(queued) = database.next_event(&plugin.id().uid).await? else {
        return Ok(false);
    };
    if let Handed::Done = hand_over(traces, plugin, &queued).await {
        database.remove_event(queued.number).await?;
    }
    Ok(true)
}

async fn hand_over(traces: &Traces, plugin: &Plugin, queued: &QueuedEvent) -> Handed {
    let id = plugin.id();
    let (event, raw) = match read(&queued.event) {
        Ok(read) => read,
        Err(error) => {
            warn!(plugin = %id, number = queued.number, %error, "event dropped, it cannot be read");
            return Handed::Done;
        }
    };
    let left = time_left(&queued.created_at, Utc::now());
    let Some(pod) = plugin.first_serving(left).await else {
        warn!(plugin = %id, event = event.event_id, "event dropped, no worker served for too long");
        return Handed::Done;
    };
    if !pod.wants(&event) {
        debug!(plugin = %id, event = event.event_id, "event passed over, the version that serves did not subscribe");
        return Handed::Done;
    }
    let span = traces.start("tell onEvent", SpanKind::Producer, &queued.traceparent);
    let traceparent = span.traceparent();
    let invocation_json =
        plugin
            .invocations()
            .begin_notification(pod.name(), &event.company_id, &traceparent);
    let told = Notification {
        method: "onEvent".into(),
        params_json: format!(r#"{{"event":{raw}}}"#).into(),
        invocation_json,
        traceparent,
        ..Notification::default()
    };
    if !pod.tell(told).await {
        return Handed::NotYet;
    }
    debug!(plugin = %id, event = event.event_id, "event delivered");
    Handed::Done
}

fn read(json: &str) -> Result<(Event, &RawValue), serde_json::Error> {
    Ok((serde_json::from_str(json)?, serde_json::from_str(json)?))
}

fn time_left(queued_at: &str, now: DateTime<Utc>) -> Duration {
    let queued_at = queued_at.parse::<DateTime<Utc>>().unwrap_or(now);
    (queued_at + KEPT - now).to_std().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_waits_for_an_hour_in_all() {
        let now = "2026-01-01T01:00:00Z".parse().unwrap();
        let left = |queued_at| time_left(queued_at, now).as_secs();
        assert_eq!(left("2026-01-01T01:00:00.000Z"), 3600);
        assert_eq!(left("2026-01-01T00:01:00.000Z"), 60);
        assert_eq!(left("2025-12-31T00:00:00.000Z"), 0);
    }
}
