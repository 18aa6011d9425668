//! A value that tasks follow. Those that wait for a change go on in the order in which they began
//! to wait, so that calls that wait for a worker to start reach it in the order in which they came,
//! and a model test repeats its runs. Tokio's own `watch` wakes in an order of chance.

use std::sync::{
    Arc, PoisonError, RwLock, RwLockReadGuard,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::Notify;

/// Nobody changes the value any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("waiting for a change: nobody makes one any more")]
pub struct Closed;

#[derive(Debug)]
struct Shared<T> {
    value: RwLock<T>,
    /// Twice the number of changes, and one more once the sender is gone.
    version: AtomicU64,
    changed: Notify,
}

impl<T> Shared<T> {
    fn read(&self) -> RwLockReadGuard<'_, T> {
        // Nothing that panics half done is written.
        self.value.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Changes the value.
#[derive(Debug)]
pub struct Sender<T>(Arc<Shared<T>>);

/// Follows the value.
#[derive(Debug)]
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    seen: u64,
}

const CLOSED: u64 = 1;

impl<T> Sender<T> {
    /// A value that nobody follows yet.
    #[must_use]
    pub fn new(value: T) -> Self {
        Self(Arc::new(Shared {
            value: RwLock::new(value),
            version: AtomicU64::new(0),
            changed: Notify::new(),
        }))
    }

    /// Follows changes from now on.
    #[must_use]
    pub fn subscribe(&self) -> Receiver<T> {
        Receiver {
            seen: self.0.version.load(Ordering::Acquire),
            shared: self.0.clone(),
        }
    }

    /// The value now. It does not change while it is borrowed.
    pub fn borrow(&self) -> RwLockReadGuard<'_, T> {
        self.0.read()
    }

    /// Changes the value, and wakes followers where `change` says that it did.
    pub fn send_if_modified(&self, change: impl FnOnce(&mut T) -> bool) {
        let is_changed = {
            let mut value = self.0.value.write().unwrap_or_else(PoisonError::into_inner);
            let is_changed = change(&mut value);
            if is_changed {
                self.0.version.fetch_add(2, Ordering::Release);
            }
            is_changed
        };
        if is_changed {
            self.0.changed.notify_waiters();
        }
    }

    /// Changes the value and wakes followers.
    pub fn send_modify(&self, change: impl FnOnce(&mut T)) {
        self.send_if_modified(|value| {
            change(value);
            true
        });
    }

    /// Puts another value in place, wakes followers and gives the value before.
    pub fn send_replace(&self, value: T) -> T {
        let mut before = value;
        self.send_modify(|value| std::mem::swap(value, &mut before));
        before
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.version.fetch_or(CLOSED, Ordering::Release);
        self.0.changed.notify_waiters();
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            seen: self.seen,
        }
    }
}

impl<T> Receiver<T> {
    /// A value that never changes.
    #[must_use]
    pub fn constant(value: T) -> Self {
        Sender::new(value).subscribe()
    }

    /// The value now. It does not change while it is borrowed.
    pub fn borrow(&self) -> RwLockReadGuard<'_, T> {
        self.shared.read()
    }

    /// The value now, which counts as seen.
    pub fn borrow_and_update(&mut self) -> RwLockReadGuard<'_, T> {
        let value = self.shared.read();
        self.seen = self.shared.version.load(Ordering::Acquire) & !CLOSED;
        value
    }

    /// Waits for a change since the value was last seen, which counts as seen then.
    ///
    /// # Errors
    /// When the sender is gone and its last change was seen.
    pub async fn changed(&mut self) -> Result<(), Closed> {
        loop {
            let notified = self.shared.changed.notified();
            tokio::pin!(notified);
            // Before the version is read, so that no change falls between the two.
            notified.as_mut().enable();
            let version = self.shared.version.load(Ordering::Acquire);
            if version & !CLOSED != self.seen & !CLOSED {
                self.seen = version & !CLOSED;
                return Ok(());
            }
            if version & CLOSED != 0 {
                return Err(Closed);
            }
            notified.await;
        }
    }

    /// Waits until the value is as wanted, and gives it as it is then.
    ///
    /// # Errors
    /// When the sender is gone and left it otherwise.
    pub async fn wait_for(
        &mut self,
        mut is_wanted: impl FnMut(&T) -> bool,
    ) -> Result<RwLockReadGuard<'_, T>, Closed> {
        loop {
            if is_wanted(&self.borrow_and_update()) {
                return Ok(self.shared.read());
            }
            self.changed().await?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[tokio::test]
    async fn followers_see_the_last_value_and_then_the_end() {
        let sender = Sender::new(1);
        let mut receiver = sender.subscribe();
        sender.send_modify(|value| *value = 2);
        assert_eq!(sender.send_replace(3), 2);
        receiver.changed().await.unwrap();
        assert_eq!(*receiver.borrow_and_update(), 3);
        sender.send_if_modified(|_| false);
        sender.send_modify(|value| *value = 4);
        drop(sender);
        receiver.changed().await.unwrap();
        assert_eq!(*receiver.borrow_and_update(), 4);
        assert_eq!(receiver.changed().await, Err(Closed));
        assert_eq!(*receiver.wait_for(|value| *value == 4).await.unwrap(), 4);
        assert!(receiver.wait_for(|value| *value == 5).await.is_err());
    }

    #[tokio::test]
    async fn who_waited_first_goes_on_first() {
        let sender = Sender::new(0);
        let order = Arc::new(Mutex::new(Vec::new()));
        let waiting: Vec<_> = (0..100)
            .map(|number| {
                let (mut receiver, order) = (sender.subscribe(), order.clone());
                tokio::spawn(async move {
                    drop(receiver.wait_for(|value| *value == 1).await.unwrap());
                    order.lock().unwrap().push(number);
                })
            })
            .collect();
        // A runtime comes back to this task before it has polled all hundred once.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        sender.send_replace(1);
        for task in waiting {
            task.await.unwrap();
        }
        assert!(order.lock().unwrap().is_sorted());
    }
}
