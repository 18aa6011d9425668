//! Reconciles `PaperclipPlugin`: observe, decide, apply, report.

mod apply;
mod artifact;
mod claim;
mod claiming;
mod conditions;
mod config;
mod controller;
mod credential;
mod desired;
mod diagnose;
mod fate;
#[cfg(test)]
pub mod fixtures;
#[cfg(test)]
mod flow;
mod handover;
mod limits;
mod moved;
mod network;
#[cfg(test)]
mod nodes;
mod packing;
mod pins;
mod platforms;
mod pod;
mod queue;
mod reconcile;
mod references;
mod resources;
mod revision;
mod rollout;
mod source;
mod steady;
mod summary;
#[cfg(test)]
mod tenants;
mod trust;
mod worker;

pub use claiming::sweep;
pub use conditions::{Finding, condition, rfc3339};
pub use controller::run;
pub use queue::Queue;
