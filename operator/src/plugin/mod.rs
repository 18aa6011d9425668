//! Reconciles `PaperclipPlugin`: observe, decide, apply, report.

mod apply;
pub mod artifact;
mod claim;
mod claiming;
mod conditions;
mod config;
mod controller;
mod credential;
mod desired;
mod diagnose;
mod error;
mod fate;
#[cfg(test)]
mod fixtures;
mod handover;
mod limits;
mod moved;
mod network;
pub mod packing;
mod pins;
mod platforms;
mod pod;
mod queue;
mod reconcile;
mod references;
mod resources;
pub mod revision;
mod rollout;
mod source;
mod steady;
mod summary;
pub mod trust;
mod worker;

pub use claiming::sweep;
pub use conditions::{Finding, Verdict, condition, rfc3339};
pub use controller::run;
pub use error::ReconcileError;
pub use queue::Queue;
pub use reconcile::reconcile;
