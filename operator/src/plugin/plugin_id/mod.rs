//! One plugin id, one plugin: a host serves each id once, by claims that outlive the operator.

mod acquire;
mod claim;

pub use acquire::{ClaimOutcome, sweep, take};
pub use claim::{host_of, template};
