//! Invocations: for which session, company and trace the worker does what it does.

use serde::Deserialize;
use tokio::time::Instant;

use super::Multiplexer;
use crate::session_id::SessionId;

/// A call or an event that the worker works on, as far as its own requests need it.
#[derive(Clone, Debug)]
pub(super) struct Invocation {
    pub(super) traceparent: String,
    pub(super) session: Option<SessionId>,
    pub(super) company: Option<String>,
    until: Option<Instant>,
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

impl Multiplexer {
    /// Notes which session and company an invocation belongs to. Gives its id.
    pub(super) fn begin(
        &self,
        invocation: &[u8],
        session: Option<SessionId>,
        until: Option<Instant>,
    ) -> Option<String> {
        let (id, noted) = note(invocation, session, until)?;
        let mut inner = self.lock();
        if until.is_some() {
            let now = Instant::now();
            inner
                .invocations
                .retain(|_, known| known.until.is_none_or(|until| until > now));
        }
        inner.invocations.insert(id.clone(), noted);
        Some(id)
    }

    pub(super) fn invocation(&self, id: &str) -> Option<Invocation> {
        let inner = self.lock();
        let known = inner.invocations.get(id)?;
        let is_alive = known.until.is_none_or(|until| until > Instant::now());
        is_alive.then(|| known.clone())
    }
}

/// The facts of an invocation, under its id.
pub(super) fn note(
    invocation: &[u8],
    session: Option<SessionId>,
    until: Option<Instant>,
) -> Option<(String, Invocation)> {
    if invocation.is_empty() {
        return None;
    }
    let object: InvocationObject = serde_json::from_slice(invocation).ok()?;
    let noted = Invocation {
        traceparent: object.traceparent.unwrap_or_default(),
        session,
        company: object.scope.and_then(|scope| scope.company_id),
        until,
    };
    Some((object.id, noted))
}

/// The trace context of an invocation; empty without one.
pub(super) fn traceparent(invocation: &[u8]) -> String {
    let object = serde_json::from_slice::<InvocationObject>(invocation).ok();
    let stated = object.and_then(|object| object.traceparent);
    stated.unwrap_or_default()
}
