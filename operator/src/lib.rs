//! The operator: `PaperclipPlugin` to artifacts and running workloads, `PaperclipHost` to certificates.
//!
//! It is never on a running plugin's path. A library, so that tests reconcile against an API
//! server in memory; the program only calls [`run`].

mod apply;
pub mod args;
mod backoff;
pub mod context;
pub mod errors;
mod events;
mod fingerprint;
mod health;
pub mod host;
mod leader;
mod manifest_cache;
pub mod metrics;
pub mod nodes;
pub mod plugin;
pub mod pods;
mod pull_tokens;
pub mod reflectors;
mod run;
pub mod secrets;
mod signing;
mod status;
pub mod trust_policy;

pub use run::{Failure, run};
