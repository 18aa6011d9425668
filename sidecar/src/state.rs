//! The state of the pod, in one place that everyone can watch.

use bytes::Bytes;
use paperclip_bridge::v1::{
    AttachedHost, CapabilityUse, ConfigState, Egress, Phase, PhaseChanged, WorkerState,
};

use crate::watch;

/// The state of the pod, as hosts and the operator see it.
#[derive(Clone, Debug, PartialEq)]
pub struct PodState {
    /// The phase that hosts route by.
    pub phase: Phase,
    /// The worker's result of `initialize`; empty until it answered.
    pub initialize_result: Bytes,
    /// The worker process.
    pub worker: WorkerState,
    /// Which config the worker runs with, and which it refused.
    pub config: ConfigState,
    /// The config that the worker runs with, without secret values, as JSON.
    pub config_json: Bytes,
    /// The verdict of the last attempt to leave the pod.
    pub egress: Egress,
    /// Uses and denials of capabilities, as of a moment ago.
    pub capabilities: Vec<CapabilityUse>,
    /// Sessions that proved both directions lately.
    pub hosts: Vec<AttachedHost>,
}

impl PodState {
    /// True when the pod is ready: initialised, healthy, not on its way out.
    pub fn is_ready(&self) -> bool {
        self.phase == Phase::Serving && self.worker.healthy
    }

    /// The announcement of the current phase.
    pub fn phase_changed(&self) -> PhaseChanged {
        let result = match self.phase {
            Phase::Serving => self.initialize_result.clone(),
            _ => Bytes::new(),
        };
        PhaseChanged {
            phase: self.phase.into(),
            message: self.worker.message.clone(),
            initialize_result_json: result,
        }
    }
}

/// The writing end of the state.
#[derive(Debug)]
pub struct StateBoard(watch::Sender<PodState>);

impl Default for StateBoard {
    fn default() -> Self {
        Self(watch::Sender::new(PodState {
            phase: Phase::Starting,
            initialize_result: Bytes::new(),
            worker: WorkerState::default(),
            config: ConfigState::default(),
            config_json: Bytes::from_static(b"{}"),
            egress: Egress::Unspecified,
            capabilities: Vec::new(),
            hosts: Vec::new(),
        }))
    }
}

impl StateBoard {
    /// Follows the state.
    pub fn subscribe(&self) -> watch::Receiver<PodState> {
        self.0.subscribe()
    }

    /// The state now.
    pub fn now(&self) -> PodState {
        self.0.borrow().clone()
    }

    /// The phase now.
    pub fn phase(&self) -> Phase {
        self.0.borrow().phase
    }

    /// Changes the state; watchers hear of it only when it differs.
    pub fn update(&self, change: impl FnOnce(&mut PodState)) {
        self.0.send_if_modified(|state| {
            let before = state.clone();
            change(state);
            *state != before
        });
    }

    /// Moves between starting and serving, unless the pod is draining.
    pub fn set_phase(&self, phase: Phase) {
        self.update(|state| {
            if state.phase != Phase::Draining {
                state.phase = phase;
            }
        });
    }
}
