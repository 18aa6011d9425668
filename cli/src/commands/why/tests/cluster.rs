//! What the cluster does to a pod.

use k8s_openapi::api::core::v1::PodCondition;

use super::*;

#[test]
fn quota_is_used_up() {
    let words = "pods \"pcp-tea-1\" is forbidden: exceeded quota: small, requested: pods=1, used: pods=4, limited: pods=4";
    let mut observed = held_by(
        ConditionType::WorkerAvailable,
        Reason::QuotaExceeded,
        &format!("The pod cannot be created: {words}."),
    );
    observed.events = vec![warning(
        "ReplicaSet",
        "pcp-tea-1",
        "FailedCreate",
        &format!("Error creating: {words}"),
        5,
    )];
    insta::assert_snapshot!("quota_is_used_up", told(&observed));
}

#[test]
fn admission_refuses_the_pod() {
    let mut observed = held_by(
        ConditionType::WorkerAvailable,
        Reason::AdmissionRefused,
        "The pod cannot be created: admission webhook \"policy.example\" denied the request: images must be signed.",
    );
    observed.events = vec![
        warning(
            "ReplicaSet",
            "pcp-tea-1",
            "FailedCreate",
            "Error creating: admission webhook \"policy.example\" denied the request: labels are missing",
            30,
        ),
        warning(
            "ReplicaSet",
            "pcp-tea-0",
            "FailedCreate",
            "Error creating: admission webhook \"policy.example\" denied the request: labels are missing",
            90,
        ),
    ];
    insta::assert_snapshot!("admission_refuses_the_pod", told(&observed));
}

#[test]
fn image_cannot_be_pulled() {
    let words = "Back-off pulling image \"registry.example/sidecar:1\"";
    let mut observed = held_by(
        ConditionType::WorkerAvailable,
        Reason::ImageUnavailable,
        &format!("Container fetch: its image cannot be pulled. {words}."),
    );
    observed.pods = vec![pod(
        "pcp-tea-1",
        vec![container("fetch", waiting("ImagePullBackOff", words))],
    )];
    observed.events = vec![warning(
        "Pod",
        "pcp-tea-1",
        "Failed",
        "Failed to pull image: no such host",
        61,
    )];
    insta::assert_snapshot!("image_cannot_be_pulled", told(&observed));
}

#[test]
fn no_node_has_room() {
    let words = "0/2 nodes are available: 2 Insufficient cpu.";
    let mut observed = held_by(
        ConditionType::WorkerAvailable,
        Reason::Unschedulable,
        &format!("The pod cannot be placed: {words}"),
    );
    let mut pending = pod("pcp-tea-1", Vec::new());
    pending.status.as_mut().unwrap().conditions = Some(vec![PodCondition {
        type_: "PodScheduled".into(),
        status: "False".into(),
        message: Some(words.into()),
        ..PodCondition::default()
    }]);
    observed.pods = vec![pending];
    observed.events = vec![warning("Pod", "pcp-tea-1", "FailedScheduling", words, 10)];
    insta::assert_snapshot!("no_node_has_room", told(&observed));
}

#[test]
fn a_warning_is_told_once_and_the_newest_first() {
    let mut observed = held_by(
        ConditionType::WorkerAvailable,
        Reason::PodRefused,
        "The pod was refused.",
    );
    let mut often = warning("Pod", "pcp-tea-1", "Unhealthy", "the probe\nfailed", 7);
    often.count = Some(12);
    observed.events = (1..8)
        .map(|number| {
            warning(
                "Pod",
                "pcp-tea-1",
                "Old",
                &format!("number {number}"),
                600 + number,
            )
        })
        .chain([often, warning("Pod", "pcp-tea-2", "Old", "number 1", 900)])
        .collect();
    let told = explain(&observed).events;
    assert_eq!(
        told[0],
        "7s ago, Pod pcp-tea-1: Unhealthy, 12 times: the probe failed"
    );
    assert_eq!(told[1], "10m ago, Pod pcp-tea-1: Old: number 1");
    assert_eq!(told.len(), 5, "{told:?}");
}
