//! The protocol between Paperclip's hosts and the workers of its plugins: methods, error codes,
//! limits. No transport stands here.

pub mod jsonrpc;
pub mod limits;
pub mod methods;

/// The release of Paperclip whose protocol this is: what workers are given as `hostVersion`, and
/// what is taken as the version of the plugin SDK.
pub const PAPERCLIP_RELEASE: &str = "2026.916.1";

/// UUID of the company that a host without companies of its own has.
pub const DEFAULT_COMPANY: &str = "00000000-0000-4000-8000-000000000001";
