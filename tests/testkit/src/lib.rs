//! Worlds for tests: servers in memory, objects named by what matters about them, random numbers
//! that a seed repeats, and waiting for conditions.
//!
//! A dev-dependency of tests alone; no shipped program links it.

mod api_server;
mod eventually;
pub mod fixtures;
mod http_server;
pub mod npm_registry;
mod oci_registry;
mod pod_security;
mod random;

pub use api_server::ApiServer;
pub use eventually::{PATIENCE, eventually, eventually_async};
pub use http_server::{HttpServer, Recorded, serve};
pub use npm_registry::NpmRegistry;
pub use oci_registry::OciRegistry;
pub use pod_security::assert_restricted;
pub use random::Random;
