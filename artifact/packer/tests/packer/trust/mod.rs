//! Signatures by keys and authorities of the test: what holds, and everything that must not.

pub mod authority;
mod cosign;
mod judge;
mod npm;
mod store;

use paperclip_artifact::failure::FailureReason;
use paperclip_artifact::trust::{Evidence, Policy, Proof, Refusal, Requirement, check};
use serde_json::Value;
use serde_json::value::RawValue;

/// When the tests judge: long after everything that expires in them.
const NOW: i64 = 4_000_000_000;

fn raw(value: &Value) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).unwrap()
}

fn judge(requirement: Requirement, evidence: &Evidence) -> Result<Vec<Proof>, Refusal> {
    let policy = Policy {
        name: "p".into(),
        require: vec![requirement],
    };
    check(&[policy], evidence, NOW)
}

/// The cause of a refusal, whose message names the policy and says this.
#[track_caller]
fn refused(requirement: Requirement, evidence: &Evidence, says: &str) -> FailureReason {
    let refusal = judge(requirement, evidence).expect_err("it must be refused");
    assert!(refusal.message.starts_with("policy p: "), "{refusal}");
    assert!(refusal.message.contains(says), "{refusal}");
    refusal.reason
}
