//! A part of the gate: a check that holds or does not, or a binary whose tests are counted.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use crate::{
    libtest::{self, Counts},
    limited::{self, Ended},
    report::{self, Outcome},
};

/// How a part is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One check, by its exit code.
    Check,
    /// By what libtest prints.
    Tests,
}

/// A command, how it is counted and how long it may take.
pub struct Part {
    /// Its name, also of its log.
    pub name: String,
    /// How it is counted.
    pub kind: Kind,
    /// The command.
    pub command: Command,
    /// After this time it is killed, and has failed.
    pub limit: Duration,
}

impl Part {
    /// A check by a command.
    pub fn check(name: &str, command: Command, limit: Duration) -> Self {
        Self {
            name: name.to_owned(),
            kind: Kind::Check,
            command,
            limit,
        }
    }

    /// A binary of libtest.
    pub fn tests(name: &str, command: Command, limit: Duration) -> Self {
        Self {
            name: name.to_owned(),
            kind: Kind::Tests,
            command,
            limit,
        }
    }

    /// Runs it, with its log in this folder.
    pub fn run(mut self, logs: &Path) -> Outcome {
        let log = logs.join(log_name(&self.name));
        let started = Instant::now();
        let ended = limited::run(&mut self.command, &log, self.limit);
        let output = report::read(&log);
        let trouble = match &ended {
            Ok(Ended::Exited(status)) if status.success() => None,
            Ok(Ended::Exited(status)) => Some(format!("ended with {status}")),
            Ok(Ended::OverLimit) => Some(format!("killed after {} s", self.limit.as_secs())),
            Err(error) => Some(format!("{error:#}")),
        };
        let (counts, failures) = judged(self.kind, &self.name, &output, trouble);
        Outcome {
            name: self.name,
            counts,
            failures,
            skips: libtest::ignored(&output),
            output,
            took: started.elapsed(),
        }
    }
}

fn log_name(part: &str) -> PathBuf {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let name: String = part
        .chars()
        .map(|c| if is_plain(c) { c } else { '_' })
        .collect();
    PathBuf::from(format!("{name}.log"))
}

/// Counts and failures of a part that ended in this way. A binary that dies, or ends without
/// its result, counts as a failure of its own beside the tests that it named as failed.
fn judged(kind: Kind, name: &str, output: &str, trouble: Option<String>) -> (Counts, Vec<String>) {
    let counted = match kind {
        Kind::Check => Some(Counts {
            passed: usize::from(trouble.is_none()),
            ..Counts::default()
        }),
        Kind::Tests => libtest::counts(output),
    };
    let mut failures: Vec<String> = match kind {
        Kind::Check => Vec::new(),
        Kind::Tests => libtest::failed(output)
            .iter()
            .map(|test| format!("{name}: {test}"))
            .collect(),
    };
    let mut counts = counted.unwrap_or_default();
    let unexplained = match (&trouble, counted) {
        (Some(trouble), _) if counts.failed == 0 => Some(trouble.clone()),
        (None, None) => Some("ended without a result".to_owned()),
        _ => None,
    };
    if let Some(unexplained) = unexplained {
        counts.failed += 1;
        failures.push(format!("{name}: {unexplained}"));
    }
    (counts, failures)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured";
    const BAD: &str = "test a ... FAILED\ntest result: FAILED. 2 passed; 1 failed; 0 ignored";

    fn counted(output: &str, trouble: Option<&str>) -> (usize, usize, Vec<String>) {
        let (counts, failures) = judged(Kind::Tests, "x", output, trouble.map(str::to_owned));
        (counts.passed, counts.failed, failures)
    }

    #[test]
    fn failed_tests_are_counted_once_and_named() {
        assert_eq!(counted(GOOD, None), (2, 0, vec![]));
        assert_eq!(
            counted(BAD, Some("ended with 101")),
            (2, 1, vec!["x: a".to_owned()])
        );
    }

    #[test]
    fn a_binary_that_dies_or_ends_without_a_result_has_failed() {
        assert_eq!(
            counted("", Some("killed")),
            (0, 1, vec!["x: killed".to_owned()])
        );
        assert_eq!(
            counted("", None),
            (0, 1, vec!["x: ended without a result".to_owned()])
        );
        assert_eq!(
            counted(GOOD, Some("a signal")),
            (2, 1, vec!["x: a signal".to_owned()])
        );
    }

    #[test]
    fn a_check_is_its_exit_code() {
        let (counts, failures) = judged(Kind::Check, "x", "", None);
        assert_eq!((counts.passed, counts.failed, failures.len()), (1, 0, 0));
        let (counts, failures) = judged(Kind::Check, "x", "", Some("ended".into()));
        assert_eq!((counts.passed, counts.failed, failures.len()), (0, 1, 1));
    }
}
