//! The one company of this host. Companies, issues and agents belong to
//! Paperclip; a plugin that asks for its company still gets one.

use serde_json::{Value, json};

/// UUID of the one company, the same on every installation.
pub use paperclip_protocol::DEFAULT_COMPANY as COMPANY_ID;

/// When the company "was founded": a constant, so that answers do not vary.
const FOUNDED: &str = "2026-01-01T00:00:00.000Z";

/// The company as `companies.get` and `companies.list` show it.
pub fn company() -> Value {
    json!({
        "id": COMPANY_ID,
        "name": "Default",
        "description": null,
        "status": "active",
        "createdAt": FOUNDED,
        "updatedAt": FOUNDED,
    })
}
