//! Cause of a pod that does not run, from its status as kubelet and scheduler write it.

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ContainerStateTerminated, ContainerStatus, Pod},
};
use paperclip_crds::v1alpha1::Reason;
use paperclip_pod_layout::container;

use super::conditions::Finding;

fn containers(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.iter();
    status.flat_map(|status| {
        let initial = status.init_container_statuses.iter().flatten();
        initial.chain(status.container_statuses.iter().flatten())
    })
}

/// The last end of a container.
#[must_use]
pub fn termination<'a>(pod: &'a Pod, container: &str) -> Option<&'a ContainerStateTerminated> {
    let status = containers(pod).find(|status| status.name == container)?;
    let ended = |state: &'a Option<_>| {
        let state: &k8s_openapi::api::core::v1::ContainerState = state.as_ref()?;
        state.terminated.as_ref()
    };
    ended(&status.state).or_else(|| ended(&status.last_state))
}

/// The first thing that keeps a pod from running, if anything does.
#[must_use]
pub fn trouble(pod: &Pod) -> Option<Finding> {
    unscheduled(pod)
        .or_else(|| refused(pod))
        .or_else(|| containers(pod).find_map(stuck))
}

fn unscheduled(pod: &Pod) -> Option<Finding> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let condition = conditions.iter().find(|condition| {
        condition.type_ == "PodScheduled" && condition.reason.as_deref() == Some("Unschedulable")
    })?;
    let message = condition.message.as_deref().unwrap_or("no node fits");
    Some(Finding::no(
        Reason::Unschedulable,
        format!("The pod cannot be placed: {message}"),
    ))
}

/// The kubelet refused the whole pod, or evicted it.
fn refused(pod: &Pod) -> Option<Finding> {
    let status = pod.status.as_ref()?;
    let reason = status.reason.as_deref()?;
    let message = status.message.as_deref().unwrap_or_default();
    Some(Finding::no(
        Reason::PodRefused,
        format!("The pod was refused ({reason}): {message}"),
    ))
}

fn stuck(container: &ContainerStatus) -> Option<Finding> {
    let name = &container.name;
    let waiting = container
        .state
        .as_ref()
        .and_then(|state| state.waiting.as_ref());
    if let Some(waiting) = waiting {
        let message = waiting.message.as_deref().unwrap_or_default();
        let told = |what: &str| {
            format!("Container {name}: {what} {message}")
                .trim_end()
                .to_owned()
        };
        match waiting.reason.as_deref().unwrap_or_default() {
            "ImagePullBackOff" | "ErrImagePull" | "InvalidImageName" | "ErrImageNeverPull" => {
                return Some(Finding::no(
                    Reason::ImageUnavailable,
                    told("its image cannot be pulled."),
                ));
            }
            "CreateContainerError" | "CreateContainerConfigError" | "RunContainerError" => {
                return Some(Finding::no(
                    Reason::PodRefused,
                    told("it cannot be created."),
                ));
            }
            _ => {}
        }
    }
    let state = container
        .state
        .as_ref()
        .and_then(|state| state.terminated.as_ref());
    let earlier = container
        .last_state
        .as_ref()
        .and_then(|state| state.terminated.as_ref());
    let end = match (state, waiting) {
        (Some(end), _) => end,
        // Waiting to be started again: the last end is why.
        (None, Some(_)) => earlier?,
        // Another try of a delivery that failed says nothing until it ends.
        (None, None) if name == container::FETCH => earlier?,
        (None, None) => return None,
    };
    (end.exit_code != 0).then(|| ended(name, end))
}

fn ended(name: &str, end: &ContainerStateTerminated) -> Finding {
    let cause = end.reason.as_deref().unwrap_or("Error");
    let words = end.message.as_deref().unwrap_or_default().trim();
    let (reason, what) = match name {
        container::FETCH => (
            Reason::DeliveryFailed,
            "The artifact could not be delivered".to_owned(),
        ),
        container::WORKER => (
            Reason::WorkerExited,
            "The worker's container ended".to_owned(),
        ),
        _ => (Reason::PodRefused, format!("Container {name} ended")),
    };
    let message = match words {
        "" => format!("{what}: code {}, {cause}.", end.exit_code),
        words => format!("{what}: {words}"),
    };
    Finding::no(reason, message)
}

/// Why a Deployment has no pod, in the words of what refused it.
#[must_use]
pub fn replica_failure(deployment: &Deployment) -> Option<Finding> {
    let conditions = deployment.status.as_ref()?.conditions.as_ref()?;
    let failure = conditions.iter().find(|condition| {
        condition.type_.as_deref() == Some("ReplicaFailure")
            && condition.status.as_deref() == Some("True")
    })?;
    let words = failure
        .message
        .as_deref()
        .unwrap_or("the cluster refuses it");
    let message = format!("The pod cannot be created: {words}");
    Some(Finding::no(reason_of_refusal(words), message))
}

/// Cause of a refused pod. The API server answers 403 to each of them, so only the words of the
/// admission plug-ins tell them apart.
fn reason_of_refusal(words: &str) -> Reason {
    const QUOTA: [&str; 3] = [
        "exceeded quota:",
        "failed quota:",
        "insufficient quota to match these scopes:",
    ];
    const ADMISSION: [&str; 6] = [
        // Policies, then webhooks, with and without a message of their own.
        "denied request",
        "denied the request",
        "violates PodSecurity",
        // A webhook or policy that cannot be asked, and is not to be passed over.
        "failed calling webhook",
        "failed to configure policy",
        // LimitRange.
        "per Container",
    ];
    let says = |all: &[&str]| all.iter().any(|part| words.contains(part));
    if says(&QUOTA) {
        Reason::QuotaExceeded
    } else if says(&ADMISSION) {
        Reason::AdmissionRefused
    } else {
        Reason::PodRefused
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::fixtures;
    use k8s_openapi::api::core::v1::{ContainerState, ContainerStateRunning, PodCondition};

    #[test]
    fn a_failed_fetch_is_told_in_its_own_words() {
        let found = trouble(&fixtures::ended(
            container::FETCH,
            1,
            "cannot pull artifact sha256:aa: timed out",
        ));
        let message =
            "The artifact could not be delivered: cannot pull artifact sha256:aa: timed out";
        assert_eq!(
            found,
            Some(Finding::no(Reason::DeliveryFailed, message.into()))
        );
    }

    #[test]
    fn a_delivery_that_is_tried_again_has_failed_until_it_ends() {
        let mut pod = fixtures::ended(container::FETCH, 1, "the store is away");
        let again = |container: &mut ContainerStatus| {
            container.last_state = container.state.take();
            container.state = Some(ContainerState {
                running: Some(ContainerStateRunning::default()),
                ..ContainerState::default()
            });
        };
        let status = pod.status.get_or_insert_default();
        let initial = status.init_container_statuses.iter_mut().flatten();
        initial
            .chain(status.container_statuses.iter_mut().flatten())
            .for_each(again);
        let found = trouble(&pod).map(|finding| finding.reason);
        assert_eq!(found, Some(Reason::DeliveryFailed));
    }

    #[test]
    fn what_refuses_a_pod_is_told_by_its_words() {
        let cases = [
            (
                r#"pods "pcp-a-1" is forbidden: exceeded quota: tight, requested: pods=1, used: pods=0, limited: pods=0"#,
                Reason::QuotaExceeded,
            ),
            (
                r#"pods "pcp-a-1" is forbidden: failed quota: tight: must specify limits.cpu for: worker"#,
                Reason::QuotaExceeded,
            ),
            (
                r#"pods "pcp-a-1" is forbidden: ValidatingAdmissionPolicy 'centres' with binding 'all' denied request: no cost centre"#,
                Reason::AdmissionRefused,
            ),
            (
                r#"admission webhook "pods.example.com" denied the request: not today"#,
                Reason::AdmissionRefused,
            ),
            (
                r#"Internal error occurred: failed calling webhook "pods.example.com": connection refused"#,
                Reason::AdmissionRefused,
            ),
            (
                r#"pods "pcp-a-1" is forbidden: violates PodSecurity "restricted:latest": seccompProfile"#,
                Reason::AdmissionRefused,
            ),
            (
                r#"pods "pcp-a-1" is forbidden: maximum memory usage per Container is 64Mi, but limit is 512Mi"#,
                Reason::AdmissionRefused,
            ),
            (
                r#"pods "pcp-a-1" is forbidden: error looking up service account shop/pcp-a"#,
                Reason::PodRefused,
            ),
        ];
        for (words, reason) in cases {
            let found = replica_failure(&fixtures::replica_failure(words)).unwrap();
            assert_eq!(found.reason, reason, "{words}");
            assert!(found.message.ends_with(words));
        }
    }

    #[test]
    fn a_pod_that_no_node_takes_is_told_in_the_words_of_the_scheduler() {
        let mut pod = Pod::default();
        let condition = PodCondition {
            type_: "PodScheduled".into(),
            status: "False".into(),
            reason: Some("Unschedulable".into()),
            message: Some("0/2 nodes are available: 2 Insufficient cpu.".into()),
            ..PodCondition::default()
        };
        pod.status.get_or_insert_default().conditions = Some(vec![condition]);
        let message =
            "The pod cannot be placed: 0/2 nodes are available: 2 Insufficient cpu.".to_owned();
        let expected = Finding::no(Reason::Unschedulable, message);
        assert_eq!(trouble(&pod), Some(expected));
    }

    #[test]
    fn a_pod_that_runs_has_no_trouble() {
        assert_eq!(trouble(&fixtures::ended(container::FETCH, 0, "")), None);
    }
}
