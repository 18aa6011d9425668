//! Reconciles `PaperclipPlugin`: observe, decide, apply, report.

mod apply;
mod artifact;
mod conditions;
mod controller;
mod desired;
mod diagnose;
#[cfg(test)]
pub mod fixtures;
mod packing;
mod pins;
mod pod;
mod reconcile;
mod steady;
mod summary;
mod worker;

pub use conditions::{Finding, condition, rfc3339};
pub use controller::run;
