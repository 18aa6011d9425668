//! The invocations the host has under way: which company each is for, and how long it counts.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use serde_json::json;
use tokio::time::{Duration, Instant};
use uuid::Uuid;

/// How long a worker may act on behalf of a notification.
const NOTIFICATION_LIFETIME: Duration = Duration::from_secs(15 * 60);

/// Invocations of one plugin. Only what is recorded here counts; a worker sends ids, never scopes.
#[derive(Clone, Debug, Default)]
pub struct Invocations(Arc<Mutex<HashMap<String, Invocation>>>);

#[derive(Debug)]
struct Invocation {
    company: String,
    pod: String,
    expires: Option<Instant>,
}

/// An invocation that ends when this is dropped.
#[derive(Debug)]
pub struct Open {
    id: String,
    envelope: Bytes,
    invocations: Invocations,
}

impl Open {
    /// The `paperclipInvocation` object as JSON.
    pub fn envelope(&self) -> Bytes {
        self.envelope.clone()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.invocations.lock().remove(&self.id);
    }
}

impl Invocations {
    /// Begins an invocation that lasts until the call is settled.
    pub fn begin_call(&self, pod: &str, company: &str, traceparent: &str) -> Open {
        let (id, envelope) = self.record(pod, company, traceparent, None);
        Open {
            id,
            envelope,
            invocations: self.clone(),
        }
    }

    /// Begins an invocation for a notification and returns its envelope.
    pub fn begin_notification(&self, pod: &str, company: &str, traceparent: &str) -> Bytes {
        let expires = Some(Instant::now() + NOTIFICATION_LIFETIME);
        self.record(pod, company, traceparent, expires).1
    }

    /// The company of an invocation that still counts.
    pub fn company(&self, id: &str) -> Option<String> {
        self.lock().get(id).map(|record| record.company.clone())
    }

    /// Whether any invocation of the worker in this pod still counts.
    pub fn is_active(&self, pod: &str) -> bool {
        self.lock().values().any(|record| record.pod == pod)
    }

    fn record(
        &self,
        pod: &str,
        company: &str,
        traceparent: &str,
        expires: Option<Instant>,
    ) -> (String, Bytes) {
        let id = Uuid::new_v4().to_string();
        let mut envelope = json!({"id": id, "scope": {"companyId": company}});
        if !traceparent.is_empty() {
            envelope["traceparent"] = traceparent.into();
        }
        let envelope = envelope.to_string();
        let record = Invocation {
            company: company.to_owned(),
            pod: pod.to_owned(),
            expires,
        };
        self.lock().insert(id.clone(), record);
        (id, envelope.into())
    }

    /// The records, without those that no longer count.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Invocation>> {
        self.lock_at(Instant::now())
    }

    fn lock_at(&self, now: Instant) -> MutexGuard<'_, HashMap<String, Invocation>> {
        let mut records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        records.retain(|_, record| record.expires.is_none_or(|expires| expires > now));
        records
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id_of(envelope: &Bytes) -> String {
        let envelope: serde_json::Value = serde_json::from_slice(envelope).unwrap();
        envelope["id"].as_str().unwrap().to_owned()
    }

    #[test]
    fn a_call_counts_until_it_is_settled() {
        let invocations = Invocations::default();
        let open = invocations.begin_call("pod", "company", "");
        let id = id_of(&open.envelope());
        assert_eq!(invocations.company(&id).as_deref(), Some("company"));
        assert!(invocations.is_active("pod"));
        assert!(!invocations.is_active("another"));
        drop(open);
        assert_eq!(invocations.company(&id), None);
        assert!(!invocations.is_active("pod"));
    }

    #[test]
    fn a_notification_counts_for_fifteen_minutes() {
        let begun = Instant::now();
        let invocations = Invocations::default();
        let id = id_of(&invocations.begin_notification("pod", "company", ""));
        let almost = begun + NOTIFICATION_LIFETIME - Duration::from_secs(1);
        assert!(invocations.lock_at(almost).contains_key(&id));
        let ended = begun + NOTIFICATION_LIFETIME + Duration::from_secs(1);
        assert!(!invocations.lock_at(ended).contains_key(&id));
    }
}
