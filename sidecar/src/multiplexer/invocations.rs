//! Invocations: for which session, company and trace the worker does what it does.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use serde::Deserialize;
use tokio::time::Instant;

use super::Multiplexer;
use crate::session_id::SessionId;

/// How long the scope of a notification lives, as in the original host.
const NOTIFICATION_LIFE: Duration = Duration::from_secs(15 * 60);
/// Scopes of notifications that live at once; the oldest goes first. A hundred events a second
/// for as long as they live.
const MAX_TOLD: usize = 90_000;

/// A call or an event that the worker works on, as far as its own requests need it.
#[derive(Clone, Debug)]
pub(super) struct Invocation {
    pub(super) traceparent: String,
    pub(super) session: Option<SessionId>,
    pub(super) company: Option<String>,
}

/// Invocations by id: of calls until they end, of notifications for a time.
#[derive(Debug, Default)]
pub(super) struct Invocations {
    calls: HashMap<String, Invocation>,
    told: HashMap<String, Invocation>,
    /// Those of notifications, in the order in which they end.
    ends: VecDeque<(Instant, String)>,
}

#[derive(Deserialize)]
struct InvocationObject {
    #[serde(default)]
    traceparent: Option<String>,
    id: String,
    #[serde(default)]
    scope: Option<Scope>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Scope {
    #[serde(default)]
    company_id: Option<String>,
}

impl Invocations {
    /// Notes the invocation of a call.
    pub(super) fn note_call(&mut self, (id, noted): (String, Invocation)) {
        self.calls.insert(id, noted);
    }

    /// Notes the invocation of a notification, which ends by itself.
    pub(super) fn note_told(&mut self, invocation: &[u8], session: SessionId) {
        let Some((id, noted)) = note(invocation, Some(session)) else {
            return;
        };
        let now = Instant::now();
        let is_over = |(until, _): &(Instant, String)| *until <= now;
        while self.ends.front().is_some_and(is_over) || self.ends.len() >= MAX_TOLD {
            let Some((_, ended)) = self.ends.pop_front() else {
                break;
            };
            self.told.remove(&ended);
        }
        if self.told.insert(id.clone(), noted).is_none() {
            self.ends.push_back((now + NOTIFICATION_LIFE, id));
        }
    }

    /// Ends the invocation of a call.
    pub(super) fn end(&mut self, id: &str) {
        self.calls.remove(id);
    }

    /// Ends those of all calls.
    pub(super) fn end_calls(&mut self) {
        self.calls.clear();
    }

    fn get(&self, id: &str) -> Option<&Invocation> {
        self.calls.get(id).or_else(|| self.told.get(id))
    }
}

impl Multiplexer {
    /// The invocation of this id, while it lasts.
    pub(super) fn invocation(&self, id: &str) -> Option<Invocation> {
        match id {
            "" => None,
            id => self.lock().invocations.get(id).cloned(),
        }
    }
}

/// The facts of an invocation, under its id.
pub(super) fn note(invocation: &[u8], session: Option<SessionId>) -> Option<(String, Invocation)> {
    if invocation.is_empty() {
        return None;
    }
    let object: InvocationObject = serde_json::from_slice(invocation).ok()?;
    let noted = Invocation {
        traceparent: object.traceparent.unwrap_or_default(),
        session,
        company: object.scope.and_then(|scope| scope.company_id),
    };
    Some((object.id, noted))
}

/// The trace context of an invocation; empty without one.
pub(super) fn traceparent(invocation: &[u8]) -> String {
    let object = serde_json::from_slice::<InvocationObject>(invocation).ok();
    let stated = object.and_then(|object| object.traceparent);
    stated.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(invocations: &mut Invocations, number: usize) {
        let object = format!(r#"{{"id":"{number}","scope":{{"companyId":"c"}}}}"#);
        invocations.note_told(object.as_bytes(), SessionId::numbered(1));
    }

    #[tokio::test(start_paused = true)]
    async fn scopes_of_notifications_end_in_their_order_and_are_bounded() {
        let mut invocations = Invocations::default();
        for number in 0..=MAX_TOLD {
            told(&mut invocations, number);
        }
        assert_eq!(invocations.told.len(), MAX_TOLD);
        assert!(invocations.get("0").is_none() && invocations.get("1").is_some());
        tokio::time::advance(NOTIFICATION_LIFE).await;
        told(&mut invocations, 0);
        assert_eq!((invocations.told.len(), invocations.ends.len()), (1, 1));
    }

    #[test]
    fn the_scope_of_a_call_ends_with_it() {
        let mut invocations = Invocations::default();
        invocations.note_call(note(br#"{"id":"a"}"#, None).unwrap());
        assert!(invocations.get("a").is_some());
        invocations.end("a");
        assert!(invocations.get("a").is_none());
    }
}
