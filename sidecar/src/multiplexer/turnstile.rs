//! A turnstile: those who took a turn go on one after the other, in the order in which they took
//! it, however their tasks are scheduled. Who leaves makes way.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

/// The turns that were taken and not given back.
#[derive(Debug, Default)]
pub(super) struct Turnstile(Mutex<Turns>);

#[derive(Debug, Default)]
struct Turns {
    next: u64,
    /// Whoever is first has been told, so its sender is gone.
    waiting: BTreeMap<u64, Option<oneshot::Sender<()>>>,
}

/// A turn. Dropped, the next one comes.
#[derive(Debug)]
pub(super) struct Turn {
    turnstile: Arc<Turnstile>,
    number: u64,
    told: oneshot::Receiver<()>,
    has_come: bool,
}

impl Turnstile {
    /// True when nobody has a turn: who comes may go on without one.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().waiting.is_empty()
    }

    /// Takes the next turn.
    pub(super) fn join(self: &Arc<Self>) -> Turn {
        let (tell, told) = oneshot::channel();
        let mut turns = self.lock();
        let number = turns.next;
        turns.next += 1;
        turns.waiting.insert(number, Some(tell));
        turns.tell_first();
        drop(turns);
        Turn {
            turnstile: self.clone(),
            number,
            told,
            has_come: false,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Turns> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turns {
    fn tell_first(&mut self) {
        if let Some(mut first) = self.waiting.first_entry()
            && let Some(tell) = first.get_mut().take()
        {
            // Who left meanwhile gives its turn back by dropping it.
            let _ = tell.send(());
        }
    }
}

impl Turn {
    /// Waits until every turn before this one was given back.
    pub(super) async fn come(&mut self) {
        if !self.has_come {
            // The sender stays with the turnstile for as long as this is here.
            let _ = (&mut self.told).await;
            self.has_come = true;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut turns = self.turnstile.lock();
        turns.waiting.remove(&self.number);
        turns.tell_first();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        task::{Context, Waker},
    };

    use super::*;

    fn has_come(turn: &mut Turn) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        let come = pin!(turn.come());
        come.poll(&mut context).is_ready()
    }

    #[test]
    fn turns_come_in_the_order_in_which_they_were_taken() {
        let turnstile = Arc::new(Turnstile::default());
        assert!(turnstile.is_empty());
        let mut first = turnstile.join();
        let (mut second, mut third) = (turnstile.join(), turnstile.join());
        assert!(!has_come(&mut third) && !has_come(&mut second) && has_come(&mut first));
        drop(first);
        assert!(!has_come(&mut third) && has_come(&mut second));
        assert!(has_come(&mut second), "it stays");
        drop(second);
        assert!(has_come(&mut third) && !turnstile.is_empty());
        drop(third);
        assert!(turnstile.is_empty());
    }

    #[test]
    fn who_leaves_before_its_turn_holds_up_nobody() {
        let turnstile = Arc::new(Turnstile::default());
        let (first, second, mut third) = (turnstile.join(), turnstile.join(), turnstile.join());
        drop(second);
        assert!(!has_come(&mut third));
        drop(first);
        assert!(has_come(&mut third));
    }
}
