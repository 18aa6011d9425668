//! The gate before the worker: so many calls inside at once, so many in a second, the rest in turn.
//!
//! Hosts take turns, so that one that floods waits behind its own calls alone. The queue is bounded;
//! when it is full, the newest call of the host with the most calls in it makes room for a host with
//! fewer.

use std::{
    collections::{BTreeMap, VecDeque},
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use paperclip_protocol::limits::Limits;
use tokio::{runtime::Handle, sync::oneshot, time::Instant};

use super::{Limit, Refusal};
use crate::{session_id::SessionId, watch};

/// The caller: a session, or none for single calls.
pub type Origin = Option<SessionId>;

/// The gate.
#[derive(Debug)]
pub struct Gate {
    limits: watch::Sender<Limits>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    concurrency: usize,
    queue: usize,
    rate: Option<Rate>,
    /// Calls that are inside.
    inside: usize,
    /// Calls that wait, by who made them.
    waiting: BTreeMap<Origin, VecDeque<Waiter>>,
    /// Callers with calls that wait, in the order of their turns.
    turns: VecDeque<Origin>,
    /// How many wait.
    count: usize,
    /// Somebody comes back when the rate lets the next one in.
    is_timed: bool,
}

#[derive(Debug)]
struct Rate {
    limiter: DefaultDirectRateLimiter,
    per_second: u32,
}

impl Rate {
    fn of(limits: &Limits) -> Option<Self> {
        let per_second = NonZeroU32::new(limits.calls_per_second?)?;
        let burst = limits.burst.and_then(NonZeroU32::new).unwrap_or(per_second);
        let quota = Quota::per_second(per_second).allow_burst(burst);
        Some(Self {
            limiter: RateLimiter::direct(quota),
            per_second: per_second.get(),
        })
    }

    /// Takes a place in this second, or says how long until there is one.
    fn take(&self) -> Result<(), Duration> {
        super::take(&self.limiter)
    }
}

#[derive(Debug)]
struct Waiter(oneshot::Sender<Result<Place, Refusal>>);

/// The next step of the queue.
enum Next {
    /// This one goes in; it was counted.
    Enters(Waiter),
    /// Somebody has to come back then.
    Later(Duration),
    /// Nothing, until something changes.
    Rest,
}

/// A place inside, given back when this is dropped.
#[derive(Debug)]
pub struct Place(Arc<Gate>);

/// A caller at the gate.
#[derive(Debug)]
pub enum Entering {
    /// Inside.
    Entered(Place),
    /// In the queue.
    Queued {
        /// The gate.
        gate: Arc<Gate>,
        /// Since then.
        since: Instant,
        /// Tells when it goes in.
        turn: oneshot::Receiver<Result<Place, Refusal>>,
    },
}

impl Entering {
    /// Waits until it is inside, at most until then.
    pub async fn come(self, deadline: Instant) -> Result<Place, Refusal> {
        let (gate, since, turn) = match self {
            Self::Entered(place) => return Ok(place),
            Self::Queued { gate, since, turn } => (gate, since, turn),
        };
        match tokio::time::timeout_at(deadline, turn).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) | Err(_) => {
                let (limit, most) = gate.lock().reached();
                Err(Refusal::waited(limit, most, since.elapsed().as_millis()))
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.lock().inside -= 1;
        self.0.let_in();
    }
}

impl Gate {
    /// A gate with the platform's limits.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let limits = Limits::default();
        Arc::new(Self {
            state: Mutex::new(State {
                concurrency: limits.concurrency(),
                queue: limits.queue(),
                rate: None,
                inside: 0,
                waiting: BTreeMap::new(),
                turns: VecDeque::new(),
                count: 0,
                is_timed: false,
            }),
            limits: watch::Sender::new(limits),
        })
    }

    /// The limits that hold.
    pub fn limits(&self) -> Limits {
        *self.limits.borrow()
    }

    /// Follows the limits.
    pub fn subscribe(&self) -> watch::Receiver<Limits> {
        self.limits.subscribe()
    }

    /// From now on these hold, for those who wait, too. What is inside stays.
    pub fn set(self: &Arc<Self>, limits: Limits) {
        let before = self.limits.send_replace(limits);
        let mut state = self.lock();
        state.concurrency = limits.concurrency();
        state.queue = limits.queue();
        let rate = |limits: &Limits| (limits.calls_per_second, limits.burst);
        if rate(&before) != rate(&limits) {
            state.rate = Rate::of(&limits);
        }
        drop(state);
        self.let_in();
    }

    /// Goes in at once, unless somebody waits or a limit is reached.
    pub fn try_enter(self: &Arc<Self>) -> Option<Place> {
        let mut state = self.lock();
        let is_free = state.count == 0 && state.inside < state.concurrency;
        if !is_free || state.rate.as_ref().is_some_and(|rate| rate.take().is_err()) {
            return None;
        }
        state.inside += 1;
        Some(Place(self.clone()))
    }

    /// Goes in when it is its turn, or is refused: at once when too many wait, else when its
    /// time is over.
    pub async fn enter(
        self: &Arc<Self>,
        origin: Origin,
        deadline: Instant,
    ) -> Result<Place, Refusal> {
        self.queue(origin)?.come(deadline).await
    }

    /// True when a limit holds up a call of this caller.
    pub fn holds_up(&self, origin: Origin) -> bool {
        self.lock().waiting.contains_key(&origin)
    }

    /// Goes in at once or takes the next place in the queue, without waiting. Refused when too
    /// many wait.
    pub fn queue(self: &Arc<Self>, origin: Origin) -> Result<Entering, Refusal> {
        if let Some(place) = self.try_enter() {
            return Ok(Entering::Entered(place));
        }
        let turn = self.lock().join(origin)?;
        // A place may have come free since, or the rate have to be waited for.
        self.let_in();
        Ok(Entering::Queued {
            gate: self.clone(),
            since: Instant::now(),
            turn,
        })
    }

    /// Lets those in who may go in now.
    fn let_in(self: &Arc<Self>) {
        loop {
            let next = self.lock().next();
            match next {
                // One that left meanwhile gives its place back by dropping it.
                Next::Enters(Waiter(turn)) => drop(turn.send(Ok(Place(self.clone())))),
                Next::Later(wait) => {
                    match Handle::try_current() {
                        Ok(runtime) => drop(runtime.spawn(self.clone().come_back(wait))),
                        // Without a runtime nobody waits; the next call asks again.
                        Err(_) => self.lock().is_timed = false,
                    }
                    return;
                }
                Next::Rest => return,
            }
        }
    }

    async fn come_back(self: Arc<Self>, wait: Duration) {
        tokio::time::sleep(wait).await;
        self.lock().is_timed = false;
        self.let_in();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Puts a call at the end of its host's queue.
    fn join(
        &mut self,
        origin: Origin,
    ) -> Result<oneshot::Receiver<Result<Place, Refusal>>, Refusal> {
        if self.count >= self.queue {
            self.forget_who_left();
        }
        if self.count >= self.queue {
            self.make_room(origin)?;
        }
        let (turn, receiver) = oneshot::channel();
        let queue = self.waiting.entry(origin).or_default();
        if queue.is_empty() {
            self.turns.push_back(origin);
        }
        queue.push_back(Waiter(turn));
        self.count += 1;
        Ok(receiver)
    }

    /// Refuses the newest call of the host that has the most waiting, where that is not the one
    /// that wants in; else that one.
    fn make_room(&mut self, origin: Origin) -> Result<(), Refusal> {
        let (limit, most) = self.reached();
        let refusal = Refusal::queue_full(limit, most, self.count);
        let own = self.waiting.get(&origin).map_or(0, VecDeque::len);
        let longest = self.waiting.values_mut().max_by_key(|queue| queue.len());
        let Some(longest) = longest.filter(|longest| longest.len() > own + 1) else {
            return Err(refusal);
        };
        if let Some(Waiter(turn)) = longest.pop_back() {
            self.count -= 1;
            let _ = turn.send(Err(refusal));
        }
        Ok(())
    }

    fn forget_who_left(&mut self) {
        for queue in self.waiting.values_mut() {
            queue.retain(|Waiter(turn)| !turn.is_closed());
        }
        self.waiting.retain(|_, queue| !queue.is_empty());
        let waiting = &self.waiting;
        self.turns.retain(|origin| waiting.contains_key(origin));
        self.count = self.waiting.values().map(VecDeque::len).sum();
    }

    fn next(&mut self) -> Next {
        if self.inside >= self.concurrency {
            return Next::Rest;
        }
        while let Some(&origin) = self.turns.front() {
            let Some(queue) = self.waiting.get_mut(&origin) else {
                self.turns.pop_front();
                continue;
            };
            while queue.front().is_some_and(|Waiter(turn)| turn.is_closed()) {
                queue.pop_front();
                self.count -= 1;
            }
            if queue.is_empty() {
                self.waiting.remove(&origin);
                self.turns.pop_front();
                continue;
            }
            if let Some(Err(wait)) = self.rate.as_ref().map(Rate::take) {
                let is_first = !std::mem::replace(&mut self.is_timed, true);
                return if is_first {
                    Next::Later(wait)
                } else {
                    Next::Rest
                };
            }
            let Some(waiter) = queue.pop_front() else {
                continue;
            };
            self.count -= 1;
            self.inside += 1;
            self.turns.pop_front();
            match queue.is_empty() {
                true => drop(self.waiting.remove(&origin)),
                false => self.turns.push_back(origin),
            }
            return Next::Enters(waiter);
        }
        Next::Rest
    }

    /// The limit that holds calls up, and where it is.
    fn reached(&self) -> (Limit, usize) {
        match &self.rate {
            Some(rate) if self.inside < self.concurrency => (Limit::Rate, rate.per_second as usize),
            _ => (Limit::Concurrency, self.concurrency),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use paperclip_protocol::jsonrpc;
    use tokio::task::JoinHandle;

    fn gate(limits: Limits) -> Arc<Gate> {
        let gate = Gate::new();
        gate.set(limits);
        gate
    }

    fn few(concurrency: u32, queue: u32) -> Limits {
        Limits {
            concurrency: Some(concurrency),
            queue: Some(queue),
            ..Limits::default()
        }
    }

    fn host(number: u64) -> Origin {
        Some(SessionId::numbered(number))
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    /// A call that waits, once it does.
    async fn waits(gate: &Arc<Gate>, origin: Origin) -> JoinHandle<Result<Place, Refusal>> {
        let before = gate.lock().count;
        let waiting = gate.clone();
        let call = tokio::spawn(async move { waiting.enter(origin, soon()).await });
        while gate.lock().count == before && !call.is_finished() {
            tokio::task::yield_now().await;
        }
        call
    }

    async fn refusal(call: JoinHandle<Result<Place, Refusal>>) -> Refusal {
        call.await.unwrap().expect_err("it was let in")
    }

    #[tokio::test]
    async fn no_more_go_in_than_may_be_inside_and_the_next_follows_who_leaves() {
        let gate = gate(few(2, 8));
        let (first, second) = (gate.try_enter(), gate.try_enter());
        assert!(first.is_some() && second.is_some());
        assert!(gate.try_enter().is_none());
        let third = waits(&gate, host(1)).await;
        drop(first);
        let third = third.await.unwrap().unwrap();
        assert!(gate.try_enter().is_none());
        drop((second, third));
        assert_eq!(gate.lock().inside, 0);
    }

    #[tokio::test]
    async fn hosts_take_turns_so_a_flood_waits_behind_itself() {
        let gate = gate(few(1, 100));
        let inside = gate.try_enter().unwrap();
        let mut flood = Vec::new();
        for _ in 0..50 {
            flood.push(waits(&gate, host(1)).await);
        }
        let other = waits(&gate, host(2)).await;
        drop(inside);
        let first = flood.remove(0).await.unwrap().unwrap();
        drop(first);
        let place = tokio::time::timeout(Duration::from_secs(5), other).await;
        drop(place.unwrap().unwrap().unwrap());
        for call in flood {
            drop(call.await.unwrap().unwrap());
        }
    }

    #[tokio::test]
    async fn a_full_queue_refuses_the_host_that_fills_it_and_names_the_limit() {
        let gate = gate(few(1, 4));
        let _inside = gate.try_enter().unwrap();
        let mut flood = Vec::new();
        for _ in 0..4 {
            flood.push(waits(&gate, host(1)).await);
        }
        let refused = refusal(waits(&gate, host(1)).await).await;
        assert_eq!(refused.limit, Limit::Concurrency);
        assert_eq!(refused.error.code, jsonrpc::LIMIT_EXCEEDED);
        assert_eq!(
            refused.error.message,
            "the plugin's limit of concurrency is reached: 1 calls are under way, and 4 wait, which is the limit of queue"
        );
        // Another host has its share.
        let waiting = gate.clone();
        let other = tokio::spawn(async move { waiting.enter(host(2), soon()).await });
        let newest = refusal(flood.pop().unwrap()).await;
        assert_eq!(newest.error.code, jsonrpc::LIMIT_EXCEEDED);
        assert_eq!(gate.lock().count, 4);
        assert!(!other.is_finished());
    }

    #[tokio::test]
    async fn a_call_whose_time_is_over_was_not_sent_and_leaves_no_place_behind() {
        let gate = gate(few(1, 4));
        let inside = gate.try_enter().unwrap();
        let deadline = Instant::now() + Duration::from_millis(20);
        let refused = gate.enter(host(1), deadline).await.unwrap_err();
        assert_eq!(refused.error.code, jsonrpc::TIMEOUT);
        assert!(refused.error.was_unseen());
        drop(inside);
        assert!(gate.try_enter().is_some());
    }

    #[tokio::test]
    async fn the_rate_lets_a_burst_in_and_the_rest_one_after_the_other() {
        let gate = gate(Limits {
            calls_per_second: Some(50),
            burst: Some(5),
            ..Limits::default()
        });
        let begun = Instant::now();
        for _ in 0..15 {
            drop(gate.enter(host(1), soon()).await.unwrap());
        }
        // Ten more than the burst, one each 20 ms.
        assert!(begun.elapsed() >= Duration::from_millis(190));
    }

    #[tokio::test]
    async fn a_rate_without_a_queue_refuses_at_once() {
        let gate = gate(Limits {
            calls_per_second: Some(1),
            queue: Some(0),
            ..Limits::default()
        });
        let _first = gate.try_enter().unwrap();
        let refused = gate.enter(host(1), soon()).await.unwrap_err();
        assert_eq!(refused.limit, Limit::Rate);
    }

    #[tokio::test]
    async fn limits_that_change_hold_for_those_who_wait() {
        let gate = gate(few(1, 8));
        let _inside = gate.try_enter().unwrap();
        let waiting = waits(&gate, host(1)).await;
        gate.set(few(2, 8));
        assert!(waiting.await.unwrap().is_ok());
    }
}
