//! The platform's certificate authority: makes itself once, issues leaves, says when a leaf is due.
//!
//! Nothing here knows a cluster. The operator issues with it, and so do hosts' and sidecars' tests:
//! a leaf of a test is a leaf of the platform. Keys are ECDSA P-256; a leaf of the bridge lives 90
//! days and is renewed after 60, so a month of outage breaks nothing.

mod authority;
mod renewal;
mod subject;

pub use authority::{Authority, IssueError, Material};
pub use renewal::{expiry, is_due};
pub use subject::{Name, Statement, Subject};
