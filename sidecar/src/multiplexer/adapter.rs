//! Adapters: translate between the version of the protocol that hosts and sidecars speak and that
//! of the worker, as lines go through the worker's pipes.
//!
//! Nothing behind the pipes knows of versions. A worker of the spoken version has no adapter.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use paperclip_proto::{
    limits::CONCURRENCY,
    methods::{Change, Part, Version},
    v1::RpcError,
};
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};

use super::MAX_ASKED;
use crate::envelope::{self, FromWorker, Message};

/// Translates for one worker.
#[derive(Debug)]
pub(super) struct Adapter {
    version: &'static Version,
    open: Mutex<Open>,
}

/// Methods of the calls whose answers are still to come: answers do not say them.
#[derive(Debug, Default)]
struct Open {
    /// Of calls to the worker.
    asked: BTreeMap<u64, String>,
    /// Of calls of the worker, by their ids as it wrote them.
    asking: HashMap<Bytes, String>,
}

/// A line to the worker.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(default)]
    method: Option<String>,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "paperclipInvocation")]
    invocation: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

/// The result of an answer, told from no result though it be null.
#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    result: &'a RawValue,
}

/// Which way a line goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    ToWorker,
    FromWorker,
}

impl Adapter {
    /// The adapter that a worker of `version` needs, if any.
    pub(super) fn of(version: &'static Version) -> Option<Self> {
        let open = Mutex::default();
        (!version.changes.is_empty()).then_some(Self { version, open })
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A line to the worker, in its version.
    pub(super) fn outgoing(&self, line: Bytes) -> Bytes {
        let Ok(parsed) = serde_json::from_slice::<Line<'_>>(&line) else {
            return line;
        };
        let share = |raw: Option<&RawValue>| {
            raw.map_or_else(Bytes::new, |raw| line.slice_ref(raw.get().as_bytes()))
        };
        if let Some(method) = &parsed.method {
            let params = self.moved(method, Part::Params, Way::ToWorker, share(parsed.params));
            let name = self.version.renamed(method).unwrap_or(method);
            let id = parsed.id.and_then(|id| id.get().parse().ok());
            if let Some(id) = id {
                self.lock().ask(id, method.clone());
            }
            return envelope::call(id, name, &params, &share(parsed.invocation));
        }
        let id = share(parsed.id);
        let method = self.lock().asking.remove(&id).unwrap_or_default();
        let outcome = match parsed.error {
            Some(error) => Err(envelope::rpc_error(error)),
            None => {
                let answer = serde_json::from_slice::<Answer<'_>>(&line).ok();
                Ok(share(answer.map(|answer| answer.result)))
            }
        };
        let outcome = self.outcome(&method, Way::ToWorker, outcome);
        envelope::answer(&id, &outcome)
    }

    /// What the worker wrote, as it is spoken.
    pub(super) fn incoming(&self, said: FromWorker) -> FromWorker {
        match said {
            FromWorker::Response { id, outcome } => {
                let method = id.and_then(|id| self.lock().asked.remove(&id));
                let method = method.unwrap_or_default();
                let outcome = self.outcome(&method, Way::FromWorker, outcome);
                FromWorker::Response { id, outcome }
            }
            FromWorker::Request { id, message } => {
                let message = self.message(message);
                // Copies: the line should not live as long as the call.
                let asking = (Bytes::copy_from_slice(&id), message.method.clone());
                let mut open = self.lock();
                if open.asking.len() < 2 * MAX_ASKED {
                    open.asking.extend([asking]);
                }
                FromWorker::Request { id, message }
            }
            FromWorker::Notification(message) => FromWorker::Notification(self.message(message)),
        }
    }

    fn message(&self, message: Message) -> Message {
        let method = match self.version.spoken_name(&message.method) {
            Some(spoken) => spoken.to_owned(),
            None => message.method,
        };
        Message {
            params: self.moved(&method, Part::Params, Way::FromWorker, message.params),
            method,
            ..message
        }
    }

    fn outcome(
        &self,
        method: &str,
        way: Way,
        outcome: Result<Bytes, RpcError>,
    ) -> Result<Bytes, RpcError> {
        match outcome {
            Ok(result) => Ok(self.moved(method, Part::Result, way, result)),
            Err(error) => Err(RpcError {
                code: self.code(error.code, way),
                ..error
            }),
        }
    }

    fn code(&self, code: i32, way: Way) -> i32 {
        let changed = self.version.changes.iter().find_map(|change| match change {
            Change::Code { from, to } if way == Way::ToWorker && *from == code => Some(*to),
            Change::Code { from, to } if way == Way::FromWorker && *to == code => Some(*from),
            _ => None,
        });
        changed.unwrap_or(code)
    }

    /// Moves what stands elsewhere in a part of a call; every other member stays as it was written.
    fn moved(&self, method: &str, part: Part, way: Way, json: Bytes) -> Bytes {
        let moves = self
            .version
            .changes
            .iter()
            .filter_map(|change| match change {
                Change::Moved {
                    method: of,
                    part: which,
                    from,
                    to,
                } if *of == method && *which == part => Some(match way {
                    Way::ToWorker => (*from, *to),
                    Way::FromWorker => (*to, *from),
                }),
                _ => None,
            });
        moves.fold(json, |json, (from, to)| {
            move_member(&json, from, to).unwrap_or(json)
        })
    }
}

impl Open {
    /// Notes a call to the worker. One that it never answers is forgotten in time.
    fn ask(&mut self, id: u64, method: String) {
        self.asked.insert(id, method);
        if self.asked.len() > 2 * CONCURRENCY {
            self.asked.pop_first();
        }
    }
}

/// An object whose members are as they were written.
type Object = BTreeMap<String, Box<RawValue>>;

/// Moves a member. None where there is nothing to move, or no object to move it in.
fn move_member(json: &[u8], from: &str, to: &str) -> Option<Bytes> {
    let mut object: Object = serde_json::from_slice(json).ok()?;
    let member = take(&mut object, from)?;
    put(&mut object, to, member)?;
    serde_json::to_vec(&object).ok().map(Bytes::from)
}

fn take(object: &mut Object, path: &str) -> Option<Box<RawValue>> {
    let Some((first, rest)) = path.split_once('.') else {
        return object.remove(path);
    };
    let mut inner: Object = serde_json::from_str(object.get(first)?.get()).ok()?;
    let taken = take(&mut inner, rest)?;
    object.insert(first.to_owned(), to_raw_value(&inner).ok()?);
    Some(taken)
}

fn put(object: &mut Object, path: &str, member: Box<RawValue>) -> Option<()> {
    let Some((first, rest)) = path.split_once('.') else {
        object.insert(path.to_owned(), member);
        return Some(());
    };
    let mut inner = match object.get(first) {
        Some(inner) => serde_json::from_str(inner.get()).ok()?,
        None => Object::new(),
    };
    put(&mut inner, rest, member)?;
    object.insert(first.to_owned(), to_raw_value(&inner).ok()?);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(json: &str, from: &str, to: &str) -> Option<String> {
        let moved = move_member(json.as_bytes(), from, to)?;
        Some(String::from_utf8(moved.to_vec()).unwrap())
    }

    #[test]
    fn a_member_moves_and_the_others_stay_as_written() {
        assert_eq!(
            moved(r#"{"b":1.0,"a":{"x":1e400,"y":[ ]}}"#, "a.x", "c.d").unwrap(),
            r#"{"a":{"y":[ ]},"b":1.0,"c":{"d":1e400}}"#
        );
    }

    #[test]
    fn what_is_not_there_does_not_move() {
        assert_eq!(moved(r#"{"a":1}"#, "b", "c"), None);
        assert_eq!(moved(r#"{"a":1}"#, "a.b", "c"), None);
        assert_eq!(moved("[1]", "a", "b"), None);
        assert_eq!(moved(r#"{"a":1,"c":2}"#, "a", "c.d"), None);
    }

    #[test]
    fn the_spoken_version_needs_no_adapter() {
        assert!(Adapter::of(paperclip_proto::methods::spoken()).is_none());
    }
}
