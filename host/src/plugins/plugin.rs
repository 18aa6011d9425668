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
use tokio::{
    sync::{Semaphore, mpsc, watch},
    time::{Duration, Instant},
};
use tracing::{debug, warn};

use super::{
    Facts, Invocations, PluginId, Pod,
    pod::Failure,
    routing::{self, Candidate, Share},
};
use crate::{
    events::{Event, Subscription},
    rpc::Fault,
};

/// How long work waits for a pod that serves.
const HOLD: Duration = Duration::from_secs(10);
/// How many calls wait at most.
const HOLD_QUEUE: usize = 256;
/// How many events wait at most.
const EVENT_QUEUE: usize = 1024;

/// A host-to-worker request.
#[derive(Clone, Debug)]
pub struct Call {
    /// JSON-RPC method.
    pub method: &'static str,
    /// `params` as JSON.
    pub params: Bytes,
    /// The company it is made for.
    pub company: Option<String>,
    /// When the caller gives up.
    pub timeout: Duration,
    /// Whether it goes to the first pod by name, as jobs do.
    pub first: bool,
}

/// A plugin.
#[derive(Debug)]
pub struct Plugin {
    id: PluginId,
    facts: ArcSwapOption<Facts>,
    pods: watch::Sender<Vec<Arc<Pod>>>,
    waiting: Semaphore,
    turn: AtomicUsize,
    wanted: AtomicBool,
    invocations: Invocations,
    subscriptions: Mutex<BTreeSet<Subscription>>,
    events: mpsc::Sender<Event>,
}

impl Plugin {
    /// A plugin without pods, and the events that somebody has to deliver with [`Plugin::deliver`].
    pub fn new(id: PluginId, facts: Option<Facts>) -> (Arc<Self>, mpsc::Receiver<Event>) {
        let (events, queue) = mpsc::channel(EVENT_QUEUE);
        let plugin = Self {
            id,
            facts: ArcSwapOption::from(facts.map(Arc::new)),
            pods: watch::Sender::new(Vec::new()),
            waiting: Semaphore::new(HOLD_QUEUE),
            turn: AtomicUsize::new(0),
            wanted: AtomicBool::new(false),
            invocations: Invocations::default(),
            subscriptions: Mutex::default(),
            events,
        };
        (Arc::new(plugin), queue)
    }

    /// Which plugin this is.
    pub fn id(&self) -> &PluginId {
        &self.id
    }

    /// What the pod that takes new work said about the plugin, or the newest one while none does;
    /// none before the first one said anything.
    pub fn facts(&self) -> Option<Arc<Facts>> {
        let serving = self.choose(Share::First);
        serving.map_or_else(
            || self.facts.load_full(),
            |pod| Some(Arc::clone(pod.facts())),
        )
    }

    /// Whether no pod of a later activation has been heard of.
    pub fn is_newest(&self, facts: &Facts) -> bool {
        self.facts
            .load()
            .as_ref()
            .is_none_or(|known| known.activation <= facts.activation)
    }

    /// The invocations under way.
    pub fn invocations(&self) -> &Invocations {
        &self.invocations
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
    pub fn attach(&self, pod: Arc<Pod>, subscriptions: impl IntoIterator<Item = Subscription>) {
        if self.is_newest(pod.facts()) {
            self.facts.store(Some(Arc::clone(pod.facts())));
            *self.lock_subscriptions() = subscriptions.into_iter().collect();
        } else {
            self.lock_subscriptions().extend(subscriptions);
        }
        self.pods.send_modify(|pods| pods.push(pod));
    }

    /// Removes a pod whose session has ended.
    pub fn detach(&self, pod: &Arc<Pod>) {
        self.pods
            .send_modify(|pods| pods.retain(|other| !Arc::ptr_eq(other, pod)));
    }

    /// Tells those who wait that a pod has another phase.
    pub fn phase_changed(&self) {
        self.pods.send_modify(|_| {});
    }

    /// Adds a subscription. Making the same one twice makes one.
    pub fn subscribe(&self, subscription: Subscription) {
        self.lock_subscriptions().insert(subscription);
    }

    /// Queues an event if the worker subscribed to it.
    pub fn publish(&self, event: &Event) {
        let wanted = self
            .lock_subscriptions()
            .iter()
            .any(|subscription| subscription.wants(event));
        if wanted && self.events.try_send(event.clone()).is_err() {
            warn!(plugin = %self.id, event = event.event_id, "event dropped, too many wait for the worker");
        }
    }

    /// Makes a call. It waits for a pod that serves, for at most [`HOLD`] and never past its own
    /// timeout; once sent to a pod it is never sent again.
    pub async fn call(&self, call: Call) -> Result<Bytes, Fault> {
        let deadline = Instant::now() + call.timeout;
        let held_until = deadline.min(Instant::now() + HOLD);
        loop {
            let pod = self.acquire(call.first, held_until).await?;
            let invocation = call
                .company
                .as_deref()
                .map(|company| self.invocations.begin_call(pod.name(), company));
            let envelope = invocation
                .as_ref()
                .map(|open| open.envelope())
                .unwrap_or_default();
            let timeout = deadline.saturating_duration_since(Instant::now());
            match pod
                .call(call.method, call.params.clone(), envelope, timeout)
                .await
            {
                Ok(result) => return Ok(result),
                Err(Failure::Fault(fault)) => return Err(fault),
                // The session ended before the call left; its pod is about to be detached.
                Err(Failure::NotSent) => self.detach(&pod),
            }
        }
    }

    /// Delivers queued events in their order, until the plugin is dropped.
    pub async fn deliver(self: Arc<Self>, mut queue: mpsc::Receiver<Event>) {
        while let Some(event) = queue.recv().await {
            let Ok(pod) = self.acquire(true, Instant::now() + HOLD).await else {
                warn!(plugin = %self.id, event = event.event_id, "event dropped, no worker serves");
                continue;
            };
            let params = match serde_json::to_vec(&serde_json::json!({ "event": event })) {
                Ok(params) => params,
                Err(error) => {
                    warn!(plugin = %self.id, %error, "event dropped, it cannot be written");
                    continue;
                }
            };
            let envelope = self
                .invocations
                .begin_notification(pod.name(), &event.company_id);
            if !pod.notify("onEvent", params.into(), envelope).await {
                warn!(plugin = %self.id, event = event.event_id, "event dropped, the session ended");
            } else {
                debug!(plugin = %self.id, event = event.event_id, "event delivered");
            }
        }
    }

    async fn acquire(&self, first: bool, until: Instant) -> Result<Arc<Pod>, Fault> {
        let share = || match first {
            true => Share::First,
            false => Share::Spread(self.turn.fetch_add(1, Ordering::Relaxed)),
        };
        let mut pods = self.pods.subscribe();
        if let Some(pod) = self.choose(share()) {
            return Ok(pod);
        }
        let _place = self.waiting.try_acquire().map_err(|_| {
            Fault::unavailable(format!(
                "plugin worker is not running, and {HOLD_QUEUE} calls already wait for it"
            ))
        })?;
        let served = async {
            while pods.changed().await.is_ok() {
                if let Some(pod) = self.choose(share()) {
                    return Some(pod);
                }
            }
            None
        };
        match tokio::time::timeout_at(until, served).await {
            Ok(Some(pod)) => Ok(pod),
            _ => Err(Fault::unavailable(format!(
                "plugin worker is not running: no pod of {}/{} serves",
                self.id.namespace, self.id.name
            ))),
        }
    }

    fn choose(&self, share: Share) -> Option<Arc<Pod>> {
        let pods = self.pods.borrow();
        let candidates: Vec<Candidate<'_>> = pods
            .iter()
            .map(|pod| Candidate {
                pod: pod.name(),
                activation: pod.facts().activation,
                phase: pod.phase(),
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
