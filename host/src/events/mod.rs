//! Domain events: what a plugin publishes and others subscribe to.

mod delivery;
mod pattern;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

pub use delivery::{QUEUE, deliver};
pub use pattern::Subscription;

use crate::clock;

/// A domain event as a worker receives it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// Unique for each event; a worker gets each once.
    pub event_id: String,
    /// For example `plugin.acme.x.synced`.
    pub event_type: String,
    /// When it happened.
    pub occurred_at: String,
    /// Who caused it: the UID of the plugin.
    pub actor_id: String,
    /// Always `plugin` on this host.
    pub actor_type: ActorType,
    /// The company it happened in.
    pub company_id: String,
    /// What the plugin said about it.
    pub payload: Value,
}

/// Who causes events on this host.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ActorType {
    /// A plugin.
    Plugin,
}

impl Event {
    /// The event `plugin.<key>.<name>`.
    pub fn from_plugin(uid: &str, key: &str, name: &str, company_id: &str, payload: Value) -> Self {
        Self {
            event_id: Uuid::new_v4().to_string(),
            event_type: format!("plugin.{key}.{name}"),
            occurred_at: clock::now(),
            actor_id: uid.to_owned(),
            actor_type: ActorType::Plugin,
            company_id: company_id.to_owned(),
            payload,
        }
    }

    fn payload_text(&self, field: &str) -> Option<&str> {
        self.payload.get(field).and_then(Value::as_str)
    }
}
