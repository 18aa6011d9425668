//! Decides when the worker starts, is initialised, is healthy and starts again. The shim
//! executes.

mod exit;
mod health;
mod initialize;
mod memory;
mod plan;

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hasher},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant as StdInstant},
};

use bytes::Bytes;
use paperclip_bridge::{
    config::ActivationConfig,
    v1::{Phase, WorkerHealth, WorkerReason},
};
use paperclip_shim::protocol::{Command, Exit};
use tokio::{
    net::UnixStream,
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior},
};
use tokio_util::task::AbortOnDropHandle;

use exit::{describe, with_stderr};
use health::{Answer, Pulse, Verdict};
use initialize::initialize;
use memory::Memory;

pub use plan::WorkerPlan;

use crate::{
    backoff::Backoff,
    config::{
        self,
        apply::{ConfigApplier, ConfigOutcome},
    },
    multiplexer::{self, Multiplexer, Pipes, Throttle},
    shim::{Shim, ShimEvent},
};

/// How long to read on after the worker ended, while descendants hold its stdout.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Marks that the worker is meant to end.
#[derive(Clone, Debug, Default)]
pub struct Stopping(Arc<AtomicBool>);

impl Stopping {
    /// From now on an exit is no crash.
    pub fn begin(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn has_begun(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Findings of the supervisor's tasks about the run of that number.
#[derive(Debug)]
enum Finding {
    Initialized(u64, Result<Bytes, Failure>),
    Config(u64, ConfigOutcome),
    Health(u64, Answer),
}

#[derive(Debug)]
struct Failure {
    reason: WorkerReason,
    message: String,
}

#[derive(Debug)]
struct Run {
    number: u64,
    pipes: Pipes,
    initialized: bool,
    pulse: Pulse,
    /// Why the sidecar itself ends this run.
    doomed: Option<Failure>,
    /// The task that applies config to this run, until the run ends.
    applier: Option<AbortOnDropHandle<()>>,
}

/// Keeps one worker running.
#[derive(Debug)]
pub struct Supervisor {
    multiplexer: Arc<Multiplexer>,
    shim: Shim,
    plan: WorkerPlan,
    delivered: watch::Receiver<ActivationConfig>,
    stopping: Stopping,
    backoff: Backoff,
    run: Option<Run>,
    runs: u64,
    /// A start was ordered and not answered yet.
    is_starting: bool,
    restart_at: Option<Instant>,
    findings: mpsc::Sender<Finding>,
    asking_health: bool,
    /// How long an answer to `health` may take.
    health_patience: Duration,
}

/// Runs the supervisor until the shim's events end. `terminating` is cancelled when the shim is
/// asked to stop.
pub async fn run(
    multiplexer: Arc<Multiplexer>,
    shim: Shim,
    plan: WorkerPlan,
    delivered: watch::Receiver<ActivationConfig>,
    stopping: Stopping,
    mut events: mpsc::Receiver<ShimEvent>,
    terminating: tokio_util::sync::CancellationToken,
) {
    let health_interval = plan.health_interval;
    let (findings, mut found) = mpsc::channel(16);
    let mut supervisor = Supervisor {
        multiplexer: multiplexer.clone(),
        shim,
        plan,
        delivered,
        stopping,
        backoff: Backoff::default(),
        run: None,
        runs: 0,
        is_starting: false,
        restart_at: None,
        findings,
        asking_health: false,
        health_patience: health_interval / 2,
    };
    multiplexer.state.update(|state| {
        state.worker.set_reason(WorkerReason::WaitingForShim);
        state.worker.message = "the worker container has not reported yet".into();
    });
    let journal = supervisor.shim.clone();
    multiplexer.keep_delivered(move |keys| journal.send(&Command::Delivered(keys.to_vec())));
    let mut health = tokio::time::interval(health_interval);
    health.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let restart_at = supervisor.restart_at;
        let restart = async {
            match restart_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            event = events.recv() => match event {
                Some(ShimEvent::Terminating) => terminating.cancel(),
                Some(event) => supervisor.take(event).await,
                None => return,
            },
            Some(finding) = found.recv() => supervisor.learn(finding),
            () = restart => supervisor.start(),
            () = multiplexer.remember_changed() => supervisor.remember(),
            _ = health.tick() => supervisor.ask_health(),
        }
    }
}

impl Supervisor {
    async fn take(&mut self, event: ShimEvent) {
        match event {
            ShimEvent::Hello(keys) => {
                let missing = self.multiplexer.restore_delivered(&keys);
                if !missing.is_empty() {
                    self.shim.send(&Command::Delivered(missing));
                }
            }
            ShimEvent::Stranger => {
                self.multiplexer.metrics.refused_peers.inc();
            }
            ShimEvent::Idle => {
                if self.restart_at.is_none() {
                    self.start();
                }
            }
            ShimEvent::Worker {
                pid,
                remembered,
                stdin,
                stdout,
            } => self.attach(pid, &remembered, stdin, stdout),
            ShimEvent::Refused(message) => {
                self.is_starting = false;
                tracing::error!(message, "the worker was not started");
                self.crashed(WorkerReason::StartRefused, message);
            }
            ShimEvent::Exited(exit) => self.exited(exit).await,
            ShimEvent::Stderr(line) => self.multiplexer.worker_stderr(&line),
            ShimEvent::Terminating => {}
            ShimEvent::Lost => self.lost(),
        }
    }

    /// Takes a worker over, or begins with one that was started.
    fn attach(&mut self, pid: i32, remembered: &[u8], stdin: UnixStream, stdout: UnixStream) {
        if self.plan.version.is_err() {
            return;
        }
        let memory = Memory::decode(remembered);
        if let Some((_, remembered)) = &memory {
            self.multiplexer.restore(remembered.clone());
        }
        let (adopted, throttle) = (memory.is_some(), Throttle::standard());
        self.runs += 1;
        self.run = Some(Run {
            number: self.runs,
            pipes: multiplexer::run_pipes(&self.multiplexer, stdin, stdout, adopted, throttle),
            initialized: false,
            pulse: Pulse::default(),
            doomed: None,
            applier: None,
        });
        self.multiplexer
            .state
            .update(|state| state.worker.running = true);
        let is_ours = std::mem::take(&mut self.is_starting);
        match memory {
            Some((result, remembered)) => {
                tracing::info!(pid, "a running worker was taken over");
                self.configure(&result, Some(remembered.config_revision));
                self.serve(result);
            }
            None if is_ours => {
                tracing::info!(pid, "worker started");
                self.initialize();
            }
            None => self.doom(Failure {
                reason: WorkerReason::LeftUninitialized,
                message: "an earlier sidecar left the worker before it was initialised".into(),
            }),
        }
    }

    fn start(&mut self) {
        self.restart_at = None;
        if self.run.is_some() || self.is_starting || self.stopping.has_begun() {
            return;
        }
        if let Err(unsupported) = &self.plan.version {
            tracing::error!(%unsupported, "the worker was not started");
            return self.down(WorkerReason::ApiVersionUnsupported, unsupported.to_string());
        }
        self.is_starting = self.shim.send(&Command::Start(self.plan.start.clone()));
    }

    fn initialize(&mut self) {
        config::apply::prepare(&self.multiplexer, &self.delivered.borrow());
        let (multiplexer, params) = (self.multiplexer.clone(), self.plan.initialize.clone());
        let (number, findings) = (self.runs, self.findings.clone());
        multiplexer.state.update(|state| {
            // A start that follows a failed one says nothing new until it ends; the failure
            // would otherwise be seen for milliseconds only.
            if state.worker.restarts == 0 || is_waiting(state.worker.reason()) {
                state.worker.set_reason(WorkerReason::Initializing);
                state.worker.message = "the worker has not answered initialize yet".into();
            }
        });
        tokio::spawn(async move {
            let outcome = initialize(&multiplexer, params).await;
            let _ = findings.send(Finding::Initialized(number, outcome)).await;
        });
    }

    fn learn(&mut self, finding: Finding) {
        let current = self.run.as_ref().map(|run| run.number);
        match finding {
            Finding::Initialized(number, outcome) if current == Some(number) => match outcome {
                Ok(result) => {
                    tracing::info!("worker initialised");
                    self.configure(&result, None);
                    self.initialized(result);
                }
                Err(failure) => self.doom(failure),
            },
            Finding::Health(number, answer) => {
                self.asking_health = false;
                if current == Some(number) {
                    self.take_health(answer);
                }
            }
            Finding::Config(number, found) if current == Some(number) => match found {
                ConfigOutcome::Configured => {
                    let result = self.multiplexer.state.now().initialize_result;
                    self.serve(result);
                }
                ConfigOutcome::Rejected(words) => self.multiplexer.state.update(|state| {
                    state.worker.set_reason(WorkerReason::ConfigRejected);
                    state.worker.message = words;
                }),
                ConfigOutcome::NeedsRestart => self.doom(Failure {
                    reason: WorkerReason::ConfigRestart,
                    message: "the worker is restarted, since it takes its config at its start only"
                        .into(),
                }),
            },
            Finding::Initialized(..) | Finding::Config(..) => {}
        }
    }

    /// Begins to bring config to the worker. `has` is the revision that was sent to it.
    fn configure(&mut self, initialize_result: &[u8], has: Option<u64>) {
        let Some(run) = &mut self.run else { return };
        let (found, mut outcomes) = mpsc::channel(4);
        let applier = ConfigApplier::new(
            self.multiplexer.clone(),
            self.delivered.clone(),
            initialize_result,
            has,
            found,
        );
        let (number, findings) = (run.number, self.findings.clone());
        let work = async move {
            let pass_on = async {
                while let Some(found) = outcomes.recv().await {
                    let _ = findings.send(Finding::Config(number, found)).await;
                }
            };
            tokio::join!(applier.run(), pass_on);
        };
        run.applier = Some(AbortOnDropHandle::new(tokio::spawn(work)));
    }

    /// The worker answered `initialize`, and has no config yet.
    fn initialized(&mut self, result: Bytes) {
        if let Some(run) = &mut self.run {
            run.initialized = true;
        }
        self.multiplexer.state.update(|state| {
            state.initialize_result = result;
            state.worker.initialised = true;
            state.worker.healthy = true;
            state.worker.set_reason(WorkerReason::Initializing);
            state.worker.message = "the worker is given its config".into();
        });
    }

    /// The worker is initialised: calls may come.
    fn serve(&mut self, result: Bytes) {
        if let Some(run) = &mut self.run {
            run.initialized = true;
        }
        self.multiplexer.state.update(|state| {
            state.initialize_result = result;
            state.worker.initialised = true;
            state.worker.healthy = true;
            state.worker.set_reason(WorkerReason::Unspecified);
            state.worker.message.clear();
        });
        self.multiplexer.serve();
        self.remember();
    }

    fn remember(&self) {
        if !self.run.as_ref().is_some_and(|run| run.initialized) {
            return;
        }
        let result = self.multiplexer.state.now().initialize_result;
        let memory = Memory::encode(&result, &self.multiplexer.remembered()).unwrap_or_default();
        self.shim.send(&Command::Remember(memory));
    }

    /// Ends a run that cannot work.
    fn doom(&mut self, failure: Failure) {
        let failure = Failure {
            message: self.multiplexer.settings.redact(&failure.message),
            ..failure
        };
        let reason = failure.reason.as_str_name();
        tracing::warn!(reason, "{}", failure.message);
        if let Some(run) = &mut self.run
            && run.doomed.is_none()
        {
            run.doomed = Some(failure);
            self.shim.send(&Command::Signal(SIGKILL));
        }
    }

    async fn exited(&mut self, exit: Exit) {
        let Some(mut run) = self.run.take() else {
            return;
        };
        let _ = tokio::time::timeout(LAST_WORDS, run.pipes.drained()).await;
        let (reason, message) = match run.doomed.take() {
            Some(failure) => (failure.reason, with_stderr(failure.message, &exit.stderr)),
            None => (WorkerReason::Exited, describe(&exit)),
        };
        let message = self.multiplexer.settings.redact(&message);
        self.multiplexer.forget_subscriptions();
        if self.stopping.has_begun() {
            tracing::info!("worker stopped");
            return self.down(WorkerReason::Stopped, "the worker was stopped".into());
        }
        tracing::warn!(reason = reason.as_str_name(), "{message}");
        self.crashed(reason, message);
    }

    fn crashed(&mut self, reason: WorkerReason, message: String) {
        self.down(reason, message);
        let longest = self.multiplexer.gate.limits().longest_pause();
        let pause = self.backoff.crashed(StdInstant::now(), random(), longest);
        self.multiplexer
            .state
            .update(|state| state.worker.restarts = state.worker.restarts.saturating_add(1));
        self.multiplexer.metrics.restarts.inc();
        self.restart_at = Some(Instant::now() + pause);
    }

    fn lost(&mut self) {
        self.run = None;
        self.is_starting = false;
        self.restart_at = None;
        self.down(
            WorkerReason::WaitingForShim,
            "the worker container is not connected".into(),
        );
    }

    /// No worker: calls fail, the state says why.
    fn down(&mut self, reason: WorkerReason, message: String) {
        self.multiplexer.detach_worker(&message);
        self.multiplexer.state.update(|state| {
            state.initialize_result = Bytes::new();
            state.worker.running = false;
            state.worker.initialised = false;
            state.worker.healthy = false;
            state.worker.health = None;
            state.worker.set_reason(reason);
            state.worker.message = message;
        });
        self.multiplexer.state.set_phase(Phase::Starting);
    }

    fn ask_health(&mut self) {
        let Some(run) = &self.run else {
            return;
        };
        if !run.initialized || self.asking_health || self.stopping.has_begun() {
            return;
        }
        self.asking_health = true;
        let (multiplexer, number, findings) =
            (self.multiplexer.clone(), run.number, self.findings.clone());
        let patience = self.health_patience;
        tokio::spawn(async move {
            let params = Bytes::from_static(b"{}");
            let outcome = multiplexer.internal_call("health", params, patience).await;
            let answer = health::read(outcome);
            let _ = findings.send(Finding::Health(number, answer)).await;
        });
    }

    fn take_health(&mut self, answer: Answer) {
        let Some(run) = &mut self.run else { return };
        let verdict = run.pulse.take(&answer);
        let why = match run.pipes.is_throttled() {
            true => "; it is held back, since it asks, tells or prints too much",
            false => "",
        };
        let limit = self.health_patience.as_millis();
        let silent =
            format!("the worker did not answer health within {limit} ms, again and again{why}");
        if let Answer::Came(said) = answer {
            self.show_health(said);
        }
        match verdict {
            Verdict::Wait => {}
            Verdict::Serves => self.revive(),
            Verdict::Unresponsive => {
                tracing::warn!("{silent}");
                self.multiplexer.suspend();
                self.multiplexer.state.update(|state| {
                    state.worker.healthy = false;
                    state.worker.set_reason(WorkerReason::Unresponsive);
                    state.worker.message = silent;
                });
            }
            Verdict::Restart => self.doom(Failure {
                reason: WorkerReason::Unresponsive,
                message: format!("{silent}; it is started anew"),
            }),
        }
    }

    /// Shows what the worker says of itself.
    fn show_health(&self, said: WorkerHealth) {
        let said = WorkerHealth {
            message: self.multiplexer.settings.redact(&said.message),
            ..said
        };
        let before = self.multiplexer.state.now().worker.health;
        if before.as_ref() == Some(&said) {
            return;
        }
        if before.is_some_and(|before| before.status != said.status) || said.status != "ok" {
            let (status, message) = (&said.status, &said.message);
            tracing::warn!(
                status,
                message,
                "the worker says another thing of its health"
            );
        }
        self.multiplexer.metrics.health(&said.status);
        self.multiplexer
            .state
            .update(|state| state.worker.health = Some(said));
    }

    /// A worker that was silent answers again.
    fn revive(&self) {
        if self.multiplexer.state.now().worker.healthy {
            return;
        }
        tracing::info!("the worker answers health again");
        self.multiplexer.state.update(|state| {
            state.worker.healthy = true;
            state.worker.set_reason(WorkerReason::Unspecified);
            state.worker.message.clear();
        });
        self.multiplexer.serve();
    }
}

const SIGKILL: i32 = 9;

/// True for a reason that is no failure of the worker.
fn is_waiting(reason: WorkerReason) -> bool {
    matches!(
        reason,
        WorkerReason::Unspecified | WorkerReason::WaitingForShim
    )
}

/// A number from 0 to 1 for jitter, which needs no better source.
fn random() -> f64 {
    let bits = RandomState::new().build_hasher().finish() >> 11;
    bits as f64 / (1_u64 << 53) as f64
}
