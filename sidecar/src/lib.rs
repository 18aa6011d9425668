//! The sidecar of a plugin pod: runs the worker through the shim and serves the bridge to hosts.

pub mod args;
pub mod backoff;
pub mod company_scope;
pub mod config;
pub mod drain;
pub mod egress;
pub mod envelope;
pub mod grants;
pub mod limits;
pub mod metrics;
pub mod multiplexer;
pub mod package;
pub mod serve;
pub mod session_id;
pub mod shim;
pub mod state;
pub mod supervisor;
pub mod watch;
