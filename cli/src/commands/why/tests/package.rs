//! From the registry to the artifact.

use k8s_openapi::api::batch::v1::{Job, JobStatus};

use super::*;
use crate::commands::why::observed::Packing;

/// The plugin's packing Job, with pods whose `fetch` ended with these words.
fn packing(failed: i32, active: i32, words: &[&str]) -> Packing {
    let step = |words: &&str| pod("pack-tea-1-x", vec![container("fetch", ended(1, words))]);
    Packing {
        job: Job {
            metadata: ObjectMeta {
                name: Some("pack-tea-1".into()),
                namespace: Some("platform".into()),
                ..ObjectMeta::default()
            },
            status: Some(JobStatus {
                failed: Some(failed),
                active: Some(active),
                start_time: Some(ago(180)),
                ..JobStatus::default()
            }),
            ..Job::default()
        },
        pods: words.iter().map(step).collect(),
    }
}

fn failure(reason: &str, message: &str) -> String {
    serde_json::json!({"error": {"reason": reason, "message": message}}).to_string()
}

#[test]
fn packing_fails() {
    let words = "npm ended with code 1: ENOSPC: no space left on device.";
    let mut observed = held_by(
        ConditionType::ArtifactReady,
        Reason::PackingFailed,
        "The packing Job failed.",
    );
    observed.packing = vec![packing(2, 1, &[&failure("PackingFailed", words)])];
    observed.events = vec![
        warning(
            "Job",
            "pack-tea-1",
            "BackoffLimitExceeded",
            "Job has reached the specified backoff limit",
            20,
        ),
        warning(
            "Pod",
            "pack-tea-1-x",
            "Evicted",
            "The node was low on resource: ephemeral-storage.",
            40,
        ),
    ];
    insta::assert_snapshot!("packing_fails", told(&observed));
}

#[test]
fn packing_goes_on() {
    let mut observed = held_by(
        ConditionType::ArtifactReady,
        Reason::Packing,
        "The packing Job of tea@1.0.0 runs.",
    );
    observed.packing = vec![packing(0, 1, &[])];
    insta::assert_snapshot!("packing_goes_on", told(&observed));
}

#[test]
fn version_is_unknown() {
    let words = "npm has tea, and not 1.0.0; it has 0.9.0, 1.1.0.";
    let mut observed = held_by(ConditionType::ArtifactReady, Reason::VersionNotFound, words);
    // The Job says the same once more, which is no news.
    observed.packing = vec![packing(1, 0, &[&failure("VersionNotFound", words)])];
    insta::assert_snapshot!("version_is_unknown", told(&observed));
}

#[test]
fn registry_is_down() {
    let observed = held_by(
        ConditionType::ArtifactReady,
        Reason::RegistryUnavailable,
        "GET https://registry.example/tea: connection refused.",
    );
    insta::assert_snapshot!("registry_is_down", told(&observed));
}

#[test]
fn manifest_is_invalid() {
    let observed = held_by(
        ConditionType::ArtifactReady,
        Reason::ManifestInvalid,
        "Plugin manifest of tea@1.0.0: capabilities[1] is \"everything\", wanted one of Paperclip's capabilities.",
    );
    insta::assert_snapshot!("manifest_is_invalid", told(&observed));
}

#[test]
fn packing_that_must_not_be_read_is_told() {
    let mut observed = held_by(
        ConditionType::ArtifactReady,
        Reason::PackingFailed,
        "The packing Job failed.",
    );
    observed.not_read = vec!["list jobs in all namespaces: jobs.batch is forbidden".into()];
    insta::assert_snapshot!("packing_is_forbidden", told(&observed));
}
