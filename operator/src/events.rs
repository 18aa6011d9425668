//! Events of `events.k8s.io`: one for each transition of `Ready`.

use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use paperclip_crds::{labels, v1alpha1::Condition};

use crate::errors::{chain, is_namespace_terminating};

/// Bytes of a note. The API server refuses one that is longer than 1024.
const MAX_NOTE: usize = 1000;

/// Publishes events under the name of this pod.
pub struct Events {
    client: Client,
    instance: String,
}

impl Events {
    /// Events of this pod.
    #[must_use]
    pub fn new(client: Client, instance: &str) -> Self {
        Self {
            client,
            instance: instance.to_owned(),
        }
    }

    /// Tells of a new `Ready`. An event that is lost is no reason to fail.
    pub async fn ready_changed(&self, object: ObjectReference, ready: &Condition, warning: bool) {
        let namespace = object.namespace.clone().unwrap_or_default();
        let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        let note = cut(&ready.message);
        let event = Event {
            metadata: ObjectMeta {
                generate_name: Some(format!("{}-", object.name.clone().unwrap_or_default())),
                namespace: Some(namespace),
                ..ObjectMeta::default()
            },
            action: Some("Reconcile".into()),
            event_time: Some(MicroTime(Timestamp::now())),
            note: Some(note),
            reason: Some(ready.reason.clone()),
            regarding: Some(object),
            reporting_controller: Some(labels::OPERATOR.into()),
            reporting_instance: Some(self.instance.clone()),
            type_: Some(if warning { "Warning" } else { "Normal" }.into()),
            ..Event::default()
        };
        if let Err(error) = api.create(&PostParams::default(), &event).await
            && !is_namespace_terminating(&error)
        {
            tracing::warn!(error = chain(&error), "publishing an event failed");
        }
    }
}

/// The beginning of a message, as much of it as a note holds.
fn cut(message: &str) -> String {
    if message.len() <= MAX_NOTE {
        return message.to_owned();
    }
    let end = message.floor_char_boundary(MAX_NOTE - '…'.len_utf8());
    format!("{}…", &message[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_never_longer_than_the_api_server_takes() {
        assert_eq!(cut("short"), "short");
        for text in ["x".repeat(5000), "é".repeat(5000), "…".repeat(5000)] {
            let note = cut(&text);
            assert!(note.len() <= MAX_NOTE && note.ends_with('…'), "{note}");
        }
    }
}
