//! Fuzz targets that run side by side, however many tests the harness runs at once.
//!
//! A target is busy for its whole time, and there may be more of them than processors: one after
//! the other they would take as many times that time. The first test that asks for its target
//! starts all of them; each test fails with its own.

use std::{
    any::Any,
    collections::HashMap,
    panic,
    sync::{LazyLock, Mutex, PoisonError},
    thread::{self, JoinHandle},
};

/// A target under the name of its test.
pub type Target = (&'static str, fn());

type Started = Mutex<HashMap<&'static str, JoinHandle<()>>>;

static STARTED: LazyLock<Started> = LazyLock::new(|| {
    let start = |(name, run): Target| {
        let thread = thread::Builder::new().name(name.to_owned()).spawn(run);
        (name, thread.expect("a thread"))
    };
    Mutex::new(super::TARGETS.into_iter().map(start).collect())
});

/// Runs all targets, and gives the end of this one.
pub fn end_of(name: &str) {
    let target = {
        let mut started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
        started.remove(name).expect("a target, once")
    };
    let ended: Result<(), Box<dyn Any + Send>> = target.join();
    if let Err(panicked) = ended {
        panic::resume_unwind(panicked);
    }
}
