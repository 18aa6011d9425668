//! A pod that has a session with this host.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use paperclip_bridge::{
    client::{CallError, SessionSender},
    v1::{Notification, Phase, Request},
};
use paperclip_protocol::limits::Limits;
use serde::Deserialize;
use tokio::time::Instant;

use super::{Cause, Config, Release};
use crate::{
    events::{Event, Subscription},
    rpc::{self, Fault},
};

/// How long a pod that refused a call unseen gets no other, unless it says what it is before.
const ASIDE: Duration = Duration::from_millis(100);

/// A pod with a session.
#[derive(Debug)]
pub struct Pod {
    name: String,
    address: SocketAddr,
    release: Arc<Release>,
    state: Mutex<State>,
    sender: SessionSender,
    since: Instant,
    pending: AtomicUsize,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    supported: Vec<String>,
    config: Config,
    limits: Limits,
    /// What its worker subscribed to.
    subscriptions: BTreeSet<Subscription>,
    /// Until when it gets no calls, since it refused one.
    aside_until: Option<Instant>,
}

/// Why a call has no result.
#[derive(Debug)]
pub enum Failure {
    /// The worker has not seen the call: the session was over, or the pod starts or drains. Another
    /// pod may have it, or the same one later.
    NotSent,
    /// Everything else: the worker may have done the work.
    Fault(Cause, Fault),
}

/// The part of a worker's answer to `initialize` that the host reads.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Initialized {
    #[serde(default)]
    supported_methods: Vec<String>,
}

impl Pod {
    /// A pod whose session has begun.
    pub fn new(
        name: String,
        address: SocketAddr,
        release: Arc<Release>,
        config: Config,
        subscriptions: BTreeSet<Subscription>,
        sender: SessionSender,
    ) -> Self {
        let state = State {
            phase: Phase::Starting,
            supported: Vec::new(),
            config,
            limits: Limits::default(),
            subscriptions,
            aside_until: None,
        };
        Self {
            name,
            address,
            release,
            state: Mutex::new(state),
            sender,
            since: Instant::now(),
            pending: AtomicUsize::new(0),
        }
    }

    /// Name of the pod.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it was dialled.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it said about its plugin.
    pub fn release(&self) -> &Arc<Release> {
        &self.release
    }

    /// Its phase; nothing new goes to a pod whose session is over.
    pub fn phase(&self) -> Phase {
        if self.sender.is_closed() {
            return Phase::Draining;
        }
        self.lock().phase
    }

    /// Whether it takes new calls.
    pub fn serves(&self) -> bool {
        self.phase() == Phase::Serving
    }

    /// Notes a new phase, and the worker's answer to `initialize` where it came along.
    pub fn set_phase(&self, phase: Phase, initialize_result: &[u8]) {
        let mut state = self.lock();
        state.phase = phase;
        state.aside_until = None;
        if !initialize_result.is_empty() {
            let initialized: Initialized =
                serde_json::from_slice(initialize_result).unwrap_or_default();
            state.supported = initialized.supported_methods;
        }
    }

    /// Gives the pod no calls for a moment. Its refusal may overtake the phase it announced before.
    pub fn set_aside(&self) {
        self.lock().aside_until = Some(Instant::now() + ASIDE);
    }

    /// Until when the pod gets no calls because it refused one.
    pub fn aside_until(&self) -> Option<Instant> {
        self.lock()
            .aside_until
            .filter(|until| *until > Instant::now())
    }

    /// The config that the worker runs with. It holds no secret.
    pub fn config(&self) -> Config {
        self.lock().config.clone()
    }

    /// Notes another config.
    pub fn set_config(&self, config: Config) {
        self.lock().config = config;
    }

    /// Limits of its calls.
    pub fn limits(&self) -> Limits {
        self.lock().limits
    }

    /// Notes other limits.
    pub fn set_limits(&self, limits: Limits) {
        self.lock().limits = limits;
    }

    /// Adds a subscription. Making the same one twice makes one.
    pub fn subscribe(&self, subscription: Subscription) {
        self.lock().subscriptions.insert(subscription);
    }

    /// What its worker subscribed to.
    pub fn subscriptions(&self) -> BTreeSet<Subscription> {
        self.lock().subscriptions.clone()
    }

    /// Whether its worker subscribed to this.
    pub fn wants(&self, event: &Event) -> bool {
        let subscribed = &self.lock().subscriptions;
        subscribed
            .iter()
            .any(|subscription| subscription.wants(event))
    }

    /// Whether the worker says it has this optional method.
    pub fn supports(&self, method: &str) -> bool {
        self.lock()
            .supported
            .iter()
            .any(|supported| supported == method)
    }

    /// How long the session lasts.
    pub fn uptime(&self) -> Duration {
        self.since.elapsed()
    }

    /// Calls without an answer yet.
    pub fn pending(&self) -> usize {
        self.pending.load(Ordering::Relaxed)
    }

    /// Makes a call.
    pub async fn call(&self, mut request: Request, timeout: Duration) -> Result<Bytes, Failure> {
        let _counted = Counted::new(&self.pending);
        request.params_json = rpc::one_line(request.params_json);
        let method = request.method.clone();
        let fault =
            |cause, code, message: String| Err(Failure::Fault(cause, Fault::new(code, message)));
        match self.sender.request(request, timeout).await {
            Ok(result) => Ok(result),
            Err(CallError::NotSent(_)) => Err(Failure::NotSent),
            Err(CallError::Rpc(error)) => Err(Failure::Fault(Cause::Refused, error.into())),
            Err(CallError::TimedOut(after)) => fault(
                Cause::TimedOut,
                rpc::TIMEOUT,
                format!(
                    "the worker did not answer {method} within {} ms",
                    after.as_millis()
                ),
            ),
            Err(CallError::Detached) => fault(
                Cause::SessionEnded,
                rpc::WORKER_UNAVAILABLE,
                format!(
                    "the session with pod {} ended before its worker answered {method}; the work may be done",
                    self.name
                ),
            ),
        }
    }

    /// Sends a notification. False when the session is over.
    pub async fn tell(&self, mut told: Notification) -> bool {
        told.params_json = rpc::one_line(told.params_json);
        self.sender.tell(told).await.is_ok()
    }

    /// Answers a request of the worker. False when the session is over.
    pub async fn respond(&self, id: u64, outcome: Result<Bytes, Fault>) -> bool {
        let outcome = outcome.map(rpc::one_line).map_err(Into::into);
        self.sender.respond(id, outcome).await.is_ok()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a call while it is under way, also one that its caller drops.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
