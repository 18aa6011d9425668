//! One plugin: the pods it has a session with, and the calls that wait for one.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use paperclip_bridge::{
    routing::{self, Candidate, Share},
    v1::{Phase, Request},
};
use paperclip_protocol::{limits::Limits, methods::find};
use tokio::{
    sync::{Notify, Semaphore, watch},
    time::{Duration, Instant},
};
use tokio_util::task::TaskTracker;

use super::{
    CallFailure, Cause, Invocations, PluginId, Pod, Release,
    hold::{HOLD, Held},
    pod::Failure,
    sequence::Sequence,
};
use crate::{
    events::{Event, Subscription},
    metrics::{HoldOutcome, Holds},
    rpc::Fault,
    streams::Streams,
};

/// A host-to-worker request.
#[derive(Clone, Debug)]
pub struct Call {
    /// JSON-RPC method.
    pub method: &'static str,
    /// `params` as JSON.
    pub params: Bytes,
    /// The company it is made for.
    pub company: Option<String>,
    /// When the caller gives up, unless the plugin's limits say that it is sooner.
    pub timeout: Duration,
    /// Which of several pods it goes to.
    pub place: Place,
    /// W3C trace context. Empty without one.
    pub traceparent: String,
}

/// Which of several pods a call goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Any of them, in turn.
    Any,
    /// The one that calls of this key go to.
    Sticky(String),
    /// The first by name, as for jobs.
    First,
}

/// A plugin.
#[derive(Debug)]
pub struct Plugin {
    id: PluginId,
    release: ArcSwapOption<Release>,
    pods: watch::Sender<Vec<Arc<Pod>>>,
    waiting: Semaphore,
    holds: Holds,
    turn: AtomicUsize,
    wanted: AtomicBool,
    invocations: Invocations,
    streams: Streams,
    /// What the last pod subscribed to, while there is none.
    subscriptions: Mutex<BTreeSet<Subscription>>,
    queued: Notify,
    /// What its workers ask the host to store or to read, in the order in which they asked.
    asked: Sequence,
    jobs_of: tokio::sync::Mutex<Option<u64>>,
}

impl Plugin {
    /// A plugin without pods.
    pub fn new(id: PluginId, release: Option<Release>, holds: Holds, max_held: usize) -> Self {
        Self {
            id,
            release: ArcSwapOption::from(release.map(Arc::new)),
            pods: watch::Sender::new(Vec::new()),
            waiting: Semaphore::new(max_held),
            holds,
            turn: AtomicUsize::new(0),
            wanted: AtomicBool::new(false),
            invocations: Invocations::default(),
            streams: Streams::default(),
            subscriptions: Mutex::default(),
            queued: Notify::new(),
            asked: Sequence::default(),
            jobs_of: tokio::sync::Mutex::default(),
        }
    }

    /// Which plugin this is.
    pub fn id(&self) -> &PluginId {
        &self.id
    }

    /// What the pod that takes new work said about the plugin, or the newest one while none does;
    /// none before the first one said anything.
    pub fn release(&self) -> Option<Arc<Release>> {
        let serving = self.choose(Share::First);
        serving.map_or_else(
            || self.release.load_full(),
            |pod| Some(Arc::clone(pod.release())),
        )
    }

    /// The pod that takes new work, the first by name of several; none while none does.
    pub fn serving_pod(&self) -> Option<Arc<Pod>> {
        self.choose(Share::First)
    }

    /// Limits of its calls, as the pod that takes new work says; the platform's while none does.
    pub fn limits(&self) -> Limits {
        let serving = self.choose(Share::First);
        serving.map_or_else(Limits::default, |pod| pod.limits())
    }

    /// Whether a pod of these release gets the new work once it serves.
    pub fn leads(&self, release: &Release) -> bool {
        self.choose(Share::First)
            .is_none_or(|pod| pod.release().activation <= release.activation)
    }

    /// Whether no pod of a later activation has been heard of.
    pub fn is_newest(&self, release: &Release) -> bool {
        self.release
            .load()
            .as_ref()
            .is_none_or(|known| known.activation <= release.activation)
    }

    /// The activation whose jobs are those in the database, for one task at a time to change.
    pub async fn lock_jobs(&self) -> tokio::sync::MutexGuard<'_, Option<u64>> {
        self.jobs_of.lock().await
    }

    /// The invocations under way.
    pub fn invocations(&self) -> &Invocations {
        &self.invocations
    }

    /// Does this once all that its workers asked for before is done.
    pub fn in_turn(&self, tasks: &TaskTracker, work: impl Future<Output = ()> + Send + 'static) {
        self.asked.push(tasks, work);
    }

    /// What its workers tell to listeners.
    pub fn streams(&self) -> &Streams {
        &self.streams
    }

    /// The pods that have a session.
    pub fn pods(&self) -> Vec<Arc<Pod>> {
        self.pods.borrow().clone()
    }

    /// Whether a pod serves.
    pub fn serves(&self) -> bool {
        self.choose(Share::First).is_some()
    }

    /// Whether the cluster has the plugin, as far as the host has heard.
    pub fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }

    /// Notes whether the cluster has the plugin.
    pub fn set_wanted(&self, wanted: bool) {
        self.wanted.store(wanted, Ordering::Relaxed);
    }

    /// Adds a pod whose session has begun.
    pub fn attach(&self, pod: Arc<Pod>) {
        if self.is_newest(pod.release()) {
            self.release.store(Some(Arc::clone(pod.release())));
        }
        self.pods.send_modify(|pods| pods.push(pod));
    }

    /// Removes a pod whose session has ended. What the last one subscribed to is remembered.
    pub fn detach(&self, pod: &Arc<Pod>) {
        self.streams.close_all_of(pod.name());
        self.pods.send_modify(|pods| {
            pods.retain(|other| !Arc::ptr_eq(other, pod));
            if pods.is_empty() {
                *self.lock_subscriptions() = pod.subscriptions();
            }
        });
    }

    /// Tells those who wait that a pod has another phase.
    pub fn phase_changed(&self) {
        self.pods.send_modify(|_| {});
    }

    /// Tells the delivery of events that one was queued.
    pub fn notify_event(&self) {
        self.queued.notify_one();
    }

    /// Waits until an event was queued since the last wait.
    pub async fn event_queued(&self) {
        self.queued.notified().await;
    }

    /// Whether a worker of the plugin subscribed to this.
    pub fn wants(&self, event: &Event) -> bool {
        let pods = self.pods.borrow();
        if pods.is_empty() {
            let remembered = self.lock_subscriptions();
            return remembered
                .iter()
                .any(|subscription| subscription.wants(event));
        }
        pods.iter().any(|pod| pod.wants(event))
    }

    /// Makes a call. It waits for a pod that serves, for at most [`HOLD`] and never past its own
    /// timeout. Only what no worker has seen is sent again.
    pub async fn call(&self, call: Call) -> Result<Bytes, CallFailure> {
        let method = call.method;
        self.send(call).await.map_err(|(cause, fault)| CallFailure {
            plugin: self.id.clone(),
            method,
            cause,
            fault,
        })
    }

    async fn send(&self, call: Call) -> Result<Bytes, (Cause, Fault)> {
        let begun = Instant::now();
        let deadline = begun + call.timeout;
        let held_until = deadline.min(begun + HOLD);
        let mut held = Held::new(&self.holds);
        loop {
            let pod = self.hold(&call.place, held_until, &mut held).await?;
            let invocation = call.company.as_deref().map(|company| {
                self.invocations
                    .begin_call(pod.name(), company, &call.traceparent)
            });
            let envelope = invocation
                .as_ref()
                .map(|open| open.envelope())
                .unwrap_or_default();
            let timeout = deadline.saturating_duration_since(Instant::now());
            let request = Request {
                method: call.method.to_owned(),
                params_json: call.params.clone(),
                invocation_json: envelope,
                idempotent: find(call.method).is_some_and(|method| method.is_repeatable),
                traceparent: call.traceparent.clone(),
                ..Request::default()
            };
            let answered = pod.call(request, timeout);
            match answered.await {
                Ok(result) => return Ok(result),
                Err(Failure::Fault(cause, fault)) => return Err((cause, fault)),
                Err(Failure::NotSent) => {
                    pod.set_aside();
                    held.wait();
                }
            }
        }
    }

    /// A pod for a call, at once or after a wait in the queue.
    async fn hold(
        &self,
        place: &Place,
        until: Instant,
        held: &mut Held<'_>,
    ) -> Result<Arc<Pod>, (Cause, Fault)> {
        if let Some(pod) = self.choose(self.share(place)) {
            held.end(HoldOutcome::Sent);
            return Ok(pod);
        }
        held.wait();
        let Ok(_place) = self.waiting.try_acquire() else {
            held.end(HoldOutcome::QueueFull);
            let text = "plugin worker is not running, and too many calls wait for it";
            return Err((Cause::QueueFull, Fault::unavailable(text)));
        };
        let Some(pod) = self.serving(place, until).await else {
            held.end(HoldOutcome::NotServing);
            let text = format!(
                "plugin worker is not running: no pod of {}/{} serves",
                self.id.namespace, self.id.name
            );
            return Err((Cause::NotServing, Fault::unavailable(text)));
        };
        held.end(HoldOutcome::Sent);
        Ok(pod)
    }

    /// Waits for the pod that takes events and jobs.
    pub async fn first_serving(&self, patience: Duration) -> Option<Arc<Pod>> {
        self.serving(&Place::First, Instant::now() + patience).await
    }

    /// Waits for a pod that serves.
    async fn serving(&self, place: &Place, until: Instant) -> Option<Arc<Pod>> {
        let mut pods = self.pods.subscribe();
        loop {
            if let Some(pod) = self.choose(self.share(place)) {
                return Some(pod);
            }
            let returns = self.pods().iter().filter_map(|pod| pod.aside_until()).min();
            let wake = returns.map_or(until, |returns| returns.min(until));
            match tokio::time::timeout_at(wake, pods.changed()).await {
                Err(_) if Instant::now() >= until => return None,
                Ok(Err(_)) => return None,
                Ok(Ok(())) | Err(_) => {}
            }
        }
    }

    fn share<'p>(&self, place: &'p Place) -> Share<'p> {
        match place {
            Place::First => Share::First,
            Place::Sticky(key) => Share::Sticky(key),
            Place::Any => Share::Spread(self.turn.fetch_add(1, Ordering::Relaxed)),
        }
    }

    fn choose(&self, share: Share<'_>) -> Option<Arc<Pod>> {
        let pods = self.pods.borrow();
        let candidates: Vec<Candidate<'_>> = pods
            .iter()
            .map(|pod| Candidate {
                pod: pod.name(),
                activation: pod.release().activation,
                phase: match pod.aside_until() {
                    Some(_) => Phase::Draining,
                    None => pod.phase(),
                },
            })
            .collect();
        routing::choose(&candidates, share).map(|index| Arc::clone(&pods[index]))
    }

    fn lock_subscriptions(&self) -> std::sync::MutexGuard<'_, BTreeSet<Subscription>> {
        self.subscriptions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_call_is_not_held_past_its_own_deadline() {
        let id = "shop/acme/uid".parse().unwrap();
        let plugin = Plugin::new(id, None, Holds::default(), crate::plugins::hold::QUEUE);
        let timeout = Duration::from_millis(50);
        let begun = Instant::now();
        let call = Call {
            method: "getData",
            params: Bytes::from_static(b"{}"),
            company: None,
            timeout,
            place: Place::Any,
            traceparent: String::new(),
        };
        let failure = plugin.call(call).await.unwrap_err();
        assert_eq!(failure.cause, Cause::NotServing);
        assert!(begun.elapsed() >= timeout && begun.elapsed() < HOLD);
    }
}
