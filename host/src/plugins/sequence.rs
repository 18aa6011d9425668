//! Work that is done one piece after the other, in the order in which it was given.

use std::{
    collections::VecDeque,
    fmt,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::{FutureExt as _, future::BoxFuture};
use tokio_util::task::TaskTracker;
use tracing::error;

/// A sequence. Clones are the same one.
#[derive(Clone, Default)]
pub struct Sequence(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    waiting: VecDeque<BoxFuture<'static, ()>>,
    /// A task does what waits.
    is_running: bool,
}

impl fmt::Debug for Sequence {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self.lock().waiting.len();
        formatter
            .debug_struct("Sequence")
            .field("waiting", &waiting)
            .finish()
    }
}

impl Sequence {
    /// Does this once all that was given before is done, in a task among `tasks`.
    pub fn push(&self, tasks: &TaskTracker, work: impl Future<Output = ()> + Send + 'static) {
        let mut state = self.lock();
        state.waiting.push_back(work.boxed());
        if !std::mem::replace(&mut state.is_running, true) {
            tasks.spawn(self.clone().run());
        }
    }

    async fn run(self) {
        while let Some(work) = self.next() {
            // One piece that panics takes no other with it.
            if AssertUnwindSafe(work).catch_unwind().await.is_err() {
                error!("a piece of work panicked");
            }
        }
    }

    fn next(&self) -> Option<BoxFuture<'static, ()>> {
        let mut state = self.lock();
        let next = state.waiting.pop_front();
        state.is_running = next.is_some();
        next
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_is_done_in_its_order_though_a_piece_waits_and_one_panics() {
        let (sequence, tasks) = (Sequence::default(), TaskTracker::new());
        let done = Arc::new(Mutex::new(Vec::new()));
        for number in 0..5 {
            let done = done.clone();
            sequence.push(&tasks, async move {
                for _ in number..5 {
                    tokio::task::yield_now().await;
                }
                assert_ne!(number, 2, "as one piece may");
                done.lock().unwrap().push(number);
            });
        }
        tasks.close();
        tasks.wait().await;
        assert_eq!(*done.lock().unwrap(), [0, 1, 3, 4]);
        assert!(!sequence.lock().is_running);
    }
}
