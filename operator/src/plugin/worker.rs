//! State of worker and host, as the pods of the applied template report it.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt;
use paperclip_bridge::v1::{Egress, Phase, WatchStatusResponse, WorkerReason, WorkerState};
use paperclip_crds::{
    labels,
    v1alpha1::{CapabilityStatus, Reason},
};

use super::{conditions::Finding, diagnose, judge};
use crate::pods::ObservedPod;

/// The stage `WorkerAvailable`.
#[must_use]
pub fn worker(deployment: Option<&Deployment>, pods: &[ObservedPod]) -> Finding {
    let Some(deployment) = deployment else {
        return Finding::no(Reason::Pending, "No pod was started yet.".into());
    };
    if deployment.spec.replicas == Some(0) {
        return Finding::no(Reason::Pending, "The pods are stopped.".into());
    }
    let current = current(deployment, pods);
    let serving = current
        .iter()
        .filter(|seen| seen.status.as_ref().is_some_and(serves))
        .count();
    if serving > 0 {
        return Finding::yes(how_many_serve(serving, deployment.spec.replicas));
    }
    let said = || {
        current
            .iter()
            .find_map(|seen| seen.status.as_ref()?.worker.as_ref().and_then(complaint))
    };
    current
        .iter()
        .find_map(|seen| diagnose::trouble(&seen.pod))
        .or_else(said)
        .or_else(|| diagnose::replica_failure(deployment))
        .unwrap_or_else(|| Finding::no(Reason::Progressing, waits_for(&current).into()))
}

fn how_many_serve(serving: usize, wanted: Option<i32>) -> String {
    match wanted {
        Some(wanted) if wanted > 1 => {
            format!("{serving} of {wanted} workers are initialised and answer.")
        }
        _ => "The worker is initialised and answers.".into(),
    }
}

fn waits_for(current: &[&ObservedPod]) -> &'static str {
    if current.iter().any(|seen| judge::is_ready(&seen.pod)) {
        "The pod is ready, but the operator hears nothing from its sidecar."
    } else {
        "The pod is being started."
    }
}

/// The stage `HostAttached`.
#[must_use]
pub fn host(
    deployment: Option<&Deployment>,
    pods: &[ObservedPod],
    host: &(String, String),
) -> Finding {
    let (namespace, name) = host;
    let attached = |status: &WatchStatusResponse| {
        let mut hosts = status.hosts.iter();
        hosts.any(|found| found.host_namespace == *namespace && found.host_name == *name)
    };
    let pods = deployment
        .map(|deployment| current(deployment, pods))
        .unwrap_or_default();
    if pods
        .iter()
        .any(|seen| seen.status.as_ref().is_some_and(attached))
    {
        return Finding::yes(format!(
            "A session of host {namespace}/{name} pings both ways."
        ));
    }
    let message = format!("No process of host {namespace}/{name} has a session with the plugin.");
    Finding::no(Reason::HostAbsent, message)
}

/// Whether the cluster's network keeps the egress of the plugin's pods closed.
#[must_use]
pub fn egress(deployment: Option<&Deployment>, pods: &[ObservedPod]) -> Option<Finding> {
    let current = current(deployment?, pods);
    let mut tried = current
        .iter()
        .filter_map(|seen| Some(seen.status.as_ref()?.egress()));
    tried.find_map(|found| match found {
        Egress::Open => Some(Finding::no(
            Reason::NotEnforced,
            "A pod could connect where no policy allows it: the cluster's network does not enforce NetworkPolicy.".into(),
        )),
        Egress::Denied => Some(Finding::yes("A pod tried to leave where no policy allows it, and could not.")),
        Egress::Unspecified => None,
    })
}

/// Use of the capabilities in the pods of the applied template. None while no pod reports it.
#[must_use]
pub fn capabilities(
    deployment: Option<&Deployment>,
    pods: &[ObservedPod],
) -> Option<Vec<CapabilityStatus>> {
    let current = current(deployment?, pods);
    let said = current.iter().filter_map(|seen| seen.status.as_ref());
    let said: Vec<_> = said.flat_map(|status| &status.capabilities).collect();
    let mut sums: BTreeMap<&str, CapabilityStatus> = BTreeMap::new();
    for usage in &said {
        let sum = sums.entry(&usage.capability).or_default();
        let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        // Whole seconds of UTC as RFC 3339 sort as text.
        let last_used = usage.last_used.map(|at| at.to_string());
        *sum = CapabilityStatus {
            name: usage.capability.clone(),
            asked: sum.asked || usage.asked,
            granted: sum.granted || usage.granted,
            used: sum.used.saturating_add(count(usage.used)),
            denied: sum.denied.saturating_add(count(usage.denied)),
            last_used: sum.last_used.take().max(last_used),
        };
    }
    (!said.is_empty()).then(|| sums.into_values().collect())
}

/// Pods of the template that was applied last, those that go apart.
fn current<'a>(deployment: &Deployment, pods: &'a [ObservedPod]) -> Vec<&'a ObservedPod> {
    let activation = deployment.annotations().get(labels::ACTIVATION);
    pods.iter()
        .filter(|seen| seen.pod.metadata.deletion_timestamp.is_none())
        .filter(|seen| seen.pod.annotations().get(labels::ACTIVATION) == activation)
        .collect()
}

/// Whether a pod takes calls and its worker answers.
#[must_use]
pub fn serves(status: &WatchStatusResponse) -> bool {
    let worker = status.worker.as_ref();
    status.phase() == Phase::Serving
        && worker.is_some_and(|worker| worker.initialised && worker.healthy)
}

/// The fault that the sidecar reports, in the API's words.
fn complaint(worker: &WorkerState) -> Option<Finding> {
    let reason = match WorkerReason::try_from(worker.reason) {
        Ok(known) => reason(known),
        // Of a later sidecar.
        Err(_) => None,
    };
    let reason = match reason {
        Some(Reason::Progressing) => {
            let message = format!("The worker is being started: {}.", worker.message);
            return Some(Finding::no(Reason::Progressing, message));
        }
        Some(reason) => reason,
        None if worker.message.is_empty() => return None,
        None if !worker.running => Reason::WorkerExited,
        None if !worker.initialised => Reason::InitializeFailed,
        None => Reason::WorkerUnresponsive,
    };
    let message = match worker.message.as_str() {
        "" => format!("The worker does not work ({reason})."),
        message => message.to_owned(),
    };
    Some(Finding::no(reason, message))
}

/// The API's word for a reason of the contract; none for a worker that works.
fn reason(worker: WorkerReason) -> Option<Reason> {
    Some(match worker {
        WorkerReason::Unspecified => return None,
        WorkerReason::WaitingForShim | WorkerReason::Initializing => Reason::Progressing,
        WorkerReason::WaitingForHost => Reason::WaitingForHost,
        WorkerReason::InitializeFailed => Reason::InitializeFailed,
        WorkerReason::Unresponsive => Reason::WorkerUnresponsive,
        WorkerReason::ConfigRejected => Reason::ConfigRejected,
        WorkerReason::Exited
        | WorkerReason::StartRefused
        | WorkerReason::ApiVersionUnsupported
        | WorkerReason::ConfigRestart
        | WorkerReason::LeftUninitialized
        | WorkerReason::Stopped => Reason::WorkerExited,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::fixtures;
    use k8s_openapi::api::core::v1::PodCondition;
    use paperclip_bridge::v1::{AttachedHost, CapabilityUse};

    fn status(phase: Phase, worker: WorkerState) -> WatchStatusResponse {
        WatchStatusResponse {
            phase: phase.into(),
            worker: Some(worker),
            ..WatchStatusResponse::default()
        }
    }

    fn good() -> WorkerState {
        WorkerState {
            running: true,
            initialised: true,
            healthy: true,
            ..WorkerState::default()
        }
    }

    #[test]
    fn only_a_pod_of_the_applied_template_counts() {
        let pods = [fixtures::plugin_pod(
            2,
            Some(status(Phase::Serving, good())),
        )];
        assert!(worker(Some(&fixtures::deployment(2)), &pods).holds);
        let next = worker(Some(&fixtures::deployment(3)), &pods);
        assert_eq!(next.reason, Reason::Progressing);
    }

    #[test]
    fn one_of_several_workers_is_enough_and_their_number_is_told() {
        let pods = [
            fixtures::plugin_pod(2, Some(status(Phase::Serving, good()))),
            fixtures::plugin_pod(2, Some(status(Phase::Starting, good()))),
            fixtures::plugin_pod(2, Some(status(Phase::Serving, good()))),
        ];
        let mut deployment = fixtures::deployment(2);
        deployment.spec.replicas = Some(3);
        let found = worker(Some(&deployment), &pods);
        assert!(found.holds);
        assert_eq!(found.message, "2 of 3 workers are initialised and answer.");
    }

    #[test]
    fn last_words_of_a_worker_are_the_message() {
        let worker_state = WorkerState {
            reason: WorkerReason::Exited.into(),
            message: "code 1: Cannot find module x".into(),
            ..WorkerState::default()
        };
        let pods = [fixtures::plugin_pod(
            2,
            Some(status(Phase::Starting, worker_state)),
        )];
        let found = worker(Some(&fixtures::deployment(2)), &pods);
        let expected = Finding::no(Reason::WorkerExited, "code 1: Cannot find module x".into());
        assert_eq!(found, expected);
    }

    #[test]
    fn every_reason_of_the_contract_is_known() {
        let all: Vec<_> = (0..)
            .map_while(|n| WorkerReason::try_from(n).ok())
            .collect();
        assert!(all.contains(&WorkerReason::Stopped), "{all:?}");
        for worker in all {
            let works = worker == WorkerReason::Unspecified;
            assert_eq!(reason(worker).is_none(), works, "{worker:?}");
        }
    }

    #[test]
    fn a_reason_that_only_a_later_sidecar_knows_is_told_by_what_the_worker_is() {
        let later = WorkerState {
            running: true,
            initialised: true,
            reason: 1000,
            message: "it sulks".into(),
            ..WorkerState::default()
        };
        let wanted = Finding::no(Reason::WorkerUnresponsive, "it sulks".into());
        assert_eq!(complaint(&later), Some(wanted));
    }

    #[test]
    fn a_ready_pod_that_the_operator_does_not_hear_is_not_called_starting() {
        let mut pod = (*fixtures::plugin_pod(2, None).pod).clone();
        let ready = PodCondition {
            type_: "Ready".into(),
            status: "True".into(),
            ..PodCondition::default()
        };
        pod.status.get_or_insert_default().conditions = Some(vec![ready]);
        let found = worker(Some(&fixtures::deployment(2)), &[fixtures::seen(pod)]);
        let message = "The pod is ready, but the operator hears nothing from its sidecar.";
        assert_eq!(found, Finding::no(Reason::Progressing, message.into()));
    }

    #[test]
    fn what_pods_count_is_added_up_and_the_last_use_stays() {
        let counted = |used, seconds: Option<u64>| {
            let since = |seconds| std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            let usage = CapabilityUse {
                capability: "issues.read".into(),
                asked: true,
                granted: true,
                used,
                denied: 1,
                last_used: seconds.map(|seconds| since(seconds).into()),
            };
            let status = WatchStatusResponse {
                capabilities: vec![usage],
                ..status(Phase::Serving, good())
            };
            fixtures::plugin_pod(2, Some(status))
        };
        let pods = [counted(2, Some(60)), counted(3, Some(1)), counted(0, None)];
        let sum = CapabilityStatus {
            name: "issues.read".into(),
            asked: true,
            granted: true,
            used: 5,
            denied: 3,
            last_used: Some("1970-01-01T00:01:00Z".into()),
        };
        let deployment = fixtures::deployment(2);
        assert_eq!(capabilities(Some(&deployment), &pods), Some(vec![sum]));
        let silent = [fixtures::plugin_pod(2, None)];
        assert_eq!(capabilities(Some(&deployment), &silent), None);
    }

    #[test]
    fn a_worker_that_has_only_begun_is_no_failure() {
        let begun = WorkerState {
            running: true,
            reason: WorkerReason::Initializing.into(),
            message: "the worker has not answered initialize yet".into(),
            ..WorkerState::default()
        };
        let pods = [fixtures::plugin_pod(
            2,
            Some(status(Phase::Starting, begun)),
        )];
        let found = worker(Some(&fixtures::deployment(2)), &pods);
        assert_eq!(found.reason, Reason::Progressing);
    }

    #[test]
    fn only_the_host_of_the_spec_attaches() {
        let attached = |name: &str| WatchStatusResponse {
            hosts: vec![AttachedHost {
                host_namespace: "paperclip".into(),
                host_name: name.into(),
                replica: "0".into(),
            }],
            ..status(Phase::Serving, good())
        };
        let wanted = ("paperclip".to_owned(), "main".to_owned());
        let found = |name| {
            let pods = [fixtures::plugin_pod(2, Some(attached(name)))];
            host(Some(&fixtures::deployment(2)), &pods, &wanted).holds
        };
        assert!(found("main"));
        assert!(!found("other"));
    }
}
