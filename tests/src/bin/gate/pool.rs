//! Checks and test binaries side by side, the longest first.

use std::{
    collections::VecDeque,
    path::Path,
    sync::{Mutex, PoisonError},
    thread,
};

use crate::{limited::was_interrupted, part::Part, report::Report, seconds::Seconds};

/// Runs parts, so many at once. What fails is counted.
pub fn run(mut parts: Vec<Part>, at_once: usize, logs: &Path, seconds: &Seconds, report: &Report) {
    parts.sort_by_key(|part| std::cmp::Reverse(seconds.of(&part.name)));
    let queue = Mutex::new(VecDeque::from(parts));
    let next = || {
        queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop_front()
    };
    let work = || {
        while let Some(part) = next().filter(|_| !was_interrupted()) {
            let outcome = part.run(logs);
            seconds.measured(&outcome.name, outcome.took);
            report.add(&outcome);
        }
    };
    thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(work);
        }
    });
}
