//! What comes of asking a worker for its health: its own word is shown, silence has consequences.

use bytes::Bytes;
use paperclip_bridge::v1::{RpcError, WorkerHealth};
use paperclip_protocol::jsonrpc;
use serde::Deserialize;
use serde_json::Value;

/// Answers in a row that may be missed before the worker gets nothing new, and again before it is
/// started anew. Design §7.
const MISSES: u32 = 3;
/// Longest sentence of a worker that is shown, in characters.
const LONGEST: usize = 1024;
const OK: &str = "ok";

/// An answer to `health`, or none in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Any reply shows that the worker lives.
    Came(WorkerHealth),
    /// None came in time.
    Missed,
}

/// The consequence of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It serves, as before or again.
    Serves,
    /// Nothing yet.
    Wait,
    /// It gets nothing new.
    Unresponsive,
    /// It is started anew.
    Restart,
}

/// The answers that one run of a worker missed in a row.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    missed: u32,
}

impl Pulse {
    pub(super) fn take(&mut self, answer: &Answer) -> Verdict {
        match answer {
            Answer::Came(_) => {
                self.missed = 0;
                Verdict::Serves
            }
            Answer::Missed => {
                self.missed += 1;
                match self.missed {
                    missed if missed >= 2 * MISSES => Verdict::Restart,
                    MISSES => Verdict::Unresponsive,
                    _ => Verdict::Wait,
                }
            }
        }
    }
}

#[derive(Deserialize)]
struct HealthResult {
    status: Option<String>,
    message: Option<Value>,
}

/// Reads the outcome of a call of `health`. A worker that has no such method is well, one that
/// answers with an error says so itself.
pub(super) fn read(outcome: Result<Bytes, RpcError>) -> Answer {
    let health = |status: &str, message: String| {
        let status = status.chars().take(LONGEST).collect();
        let message = message.chars().take(LONGEST).collect();
        Answer::Came(WorkerHealth { status, message })
    };
    match outcome {
        Ok(result) => {
            let said = serde_json::from_slice::<HealthResult>(&result).ok();
            let (status, message) = said.map_or((None, None), |said| (said.status, said.message));
            let message = match message {
                Some(Value::String(text)) => text,
                Some(Value::Null) | None => String::new(),
                Some(other) => other.to_string(),
            };
            health(status.as_deref().unwrap_or(OK), message)
        }
        Err(error) => match error.code {
            jsonrpc::TIMEOUT | jsonrpc::WORKER_UNAVAILABLE => Answer::Missed,
            jsonrpc::METHOD_NOT_FOUND | jsonrpc::METHOD_NOT_IMPLEMENTED => {
                health(OK, String::new())
            }
            code => health(
                "error",
                format!("health failed ({code}): {}", error.message),
            ),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn came(status: &str, message: &str) -> Answer {
        let (status, message) = (status.to_owned(), message.to_owned());
        Answer::Came(WorkerHealth { status, message })
    }

    #[test]
    fn a_workers_own_word_is_read() {
        let said = |text: &'static str| read(Ok(Bytes::from_static(text.as_bytes())));
        let degraded = said(r#"{"status":"degraded","message":"the queue is long"}"#);
        assert_eq!(degraded, came("degraded", "the queue is long"));
        assert_eq!(said("null"), came("ok", ""));
        assert_eq!(said(r#"{"status":"ok","message":null}"#), came("ok", ""));
        let failed = read(Err(RpcError::new(jsonrpc::WORKER_ERROR, "no database")));
        let code = jsonrpc::WORKER_ERROR;
        assert_eq!(
            failed,
            came("error", &format!("health failed ({code}): no database"))
        );
        let lacks = read(Err(RpcError::new(jsonrpc::METHOD_NOT_IMPLEMENTED, "no")));
        assert_eq!(lacks, came("ok", ""));
        assert_eq!(
            read(Err(RpcError::new(jsonrpc::TIMEOUT, "late"))),
            Answer::Missed
        );
    }

    #[test]
    fn silence_has_consequences_after_three_and_after_six_and_an_answer_ends_it() {
        let mut pulse = Pulse::default();
        let mut miss = || pulse.take(&Answer::Missed);
        let verdicts = [miss(), miss(), miss(), miss(), miss(), miss()];
        use Verdict::{Restart, Unresponsive, Wait};
        assert_eq!(verdicts, [Wait, Wait, Unresponsive, Wait, Wait, Restart]);
        let mut pulse = Pulse { missed: 5 };
        assert_eq!(pulse.take(&came("error", "")), Verdict::Serves);
        assert_eq!(pulse.take(&Answer::Missed), Wait);
    }
}
