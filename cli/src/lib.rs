//! The parts of `kubectl paperclip`.
//!
//! `list`, `get` and `logs` ask the Kubernetes API server. Everything else asks the
//! plugin's host, through a port-forward that the API server makes, so it works
//! wherever kubectl works. `pack`, `inspect` and `verify` need no cluster. Answers go to standard output, talk to standard error.

pub mod args;
pub mod cluster;
pub mod commands;
pub mod docker;
pub mod error;
pub mod host;
pub mod lint;
pub mod location;
pub mod merge;
pub mod output;
pub mod payload;
pub mod plugin;
pub mod table;
pub mod token;
