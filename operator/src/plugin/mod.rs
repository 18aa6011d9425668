//! Reconciles `PaperclipPlugin`: observe, decide, apply, report.

mod apply;
pub mod artifact;
mod conditions;
mod config_delivery;
mod controller;
mod credential;
mod desired;
mod diagnose;
mod error;
#[cfg(test)]
mod fixtures;
mod instance_config;
mod judge;
mod limits;
mod lock_changes;
mod network;
pub mod packing;
mod pins;
mod platforms;
mod plugin_id;
mod pod;
mod queue;
mod reconcile;
mod references;
mod resolution;
mod resources;
mod retry;
pub mod revision;
mod rollout;
mod summary;
mod unfinished;
pub mod verification;
mod worker;

pub use conditions::{Finding, Verdict, condition, rfc3339};
pub use controller::run;
pub use error::ReconcileError;
use paperclip_crds::{Keyed, v1alpha1::PaperclipPlugin};
pub use plugin_id::sweep;
pub use queue::Queue;
pub use reconcile::reconcile;

/// A plugin with its key.
pub type Plugin = Keyed<PaperclipPlugin>;
