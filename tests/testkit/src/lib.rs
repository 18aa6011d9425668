//! Worlds for tests: an API server in memory, and objects named by what matters about them.
//!
//! A dev-dependency of tests alone; no shipped program links it.

mod api_server;
pub mod fixtures;
mod pod_security;

pub use api_server::ApiServer;
pub use pod_security::assert_restricted;
