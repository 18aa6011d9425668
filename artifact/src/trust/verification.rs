//! The record of a verification: a referrer that says which policies an artifact met.

use paperclip_oci::digest::Digest;
use serde::{Deserialize, Serialize};

use super::Proof;

/// Media type of the record, and artifact type of its referrer.
pub const MEDIA_TYPE: &str = "application/vnd.paperclip.verification.v1+json";

/// Which policies an artifact met, when and by whom. For people and auditors: nobody
/// decides by it, since whoever may push may write it.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Verification {
    /// The artifact.
    pub artifact: Digest,
    /// Hash of the policies' text.
    pub policies: Digest,
    /// Seconds since 1970.
    pub time: i64,
    /// One for each requirement.
    pub proofs: Vec<Proof>,
}

/// Checks that a record is one of this artifact.
///
/// # Errors
/// Says what was found.
pub fn check(content: &[u8], artifact: &Digest) -> Result<(), String> {
    let record: Verification =
        serde_json::from_slice(content).map_err(|e| format!("it cannot be read: {e}"))?;
    let found = &record.artifact;
    match found == artifact {
        true => Ok(()),
        false => Err(format!("it is of {found}, wanted {artifact}")),
    }
}
