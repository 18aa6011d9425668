//! Judgement of a revision that is being rolled out, by the reports of its pods. Pure.

use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use kube::ResourceExt;
use paperclip_bridge::v1::ConfigState;
use paperclip_crds::labels;

use super::worker;
use crate::pods::ObservedPod;

/// Judgement of a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It serves, with its config.
    Serves,
    /// A worker refused its config, with these words.
    Refused(String),
    /// It had its time.
    DeadlineExceeded,
    /// It has time left.
    Wait,
}

/// Judges the revision of this number by the pods of its activation.
///
/// With `config_only` the pods run already and each must take the config up, those apart that
/// only start and find it then; else one pod that serves is enough.
#[must_use]
pub fn judge(
    pods: &[&ObservedPod],
    number: u64,
    config_only: bool,
    deadline: Option<Timestamp>,
    now: Timestamp,
) -> Judgement {
    let states: Vec<_> = pods
        .iter()
        .filter_map(|seen| seen.status.as_ref())
        .collect();
    let config = |state: &ConfigState| state.revision == number;
    let refused = states.iter().filter_map(|status| status.config.as_ref());
    if let Some(refused) = refused
        .into_iter()
        .find(|state| state.refused_revision == number)
    {
        return Judgement::Refused(refused.message.clone());
    }
    let mut taken_up = states
        .iter()
        .map(|status| worker::serves(status) && status.config.as_ref().is_some_and(config));
    let serves = if config_only {
        let silent = pods.iter().filter(|seen| seen.status.is_none());
        let starts = |seen: &&ObservedPod| !is_ready(&seen.pod);
        !states.is_empty()
            && silent.copied().all(|seen| starts(&seen))
            && taken_up.all(|taken| taken)
    } else {
        taken_up.any(|taken| taken)
    };
    match deadline {
        _ if serves => Judgement::Serves,
        Some(deadline) if now >= deadline => Judgement::DeadlineExceeded,
        _ => Judgement::Wait,
    }
}

/// Pods of an activation that are not on their way out.
#[must_use]
pub fn pods_of(pods: &[ObservedPod], activation: i64) -> Vec<&ObservedPod> {
    let wanted = activation.to_string();
    pods.iter()
        .filter(|seen| seen.pod.metadata.deletion_timestamp.is_none() && !is_over(&seen.pod))
        .filter(|seen| seen.pod.annotations().get(labels::ACTIVATION) == Some(&wanted))
        .collect()
}

/// Whether the kubelet says that a pod takes calls.
#[must_use]
pub fn is_ready(pod: &Pod) -> bool {
    let status = pod.status.iter();
    let mut conditions = status.flat_map(|status| status.conditions.iter().flatten());
    conditions.any(|found| found.type_ == "Ready" && found.status == "True")
}

/// Whether a pod was evicted, say, and will never speak again.
#[must_use]
pub fn is_over(pod: &Pod) -> bool {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Failed" | "Succeeded"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::fixtures;
    use paperclip_bridge::v1::{Phase, WatchStatusResponse, WorkerState};

    fn pod(phase: Phase, revision: u64, refused_revision: u64) -> ObservedPod {
        fixtures::plugin_pod(
            1,
            Some(WatchStatusResponse {
                phase: phase.into(),
                worker: Some(WorkerState {
                    running: true,
                    initialised: true,
                    healthy: true,
                    ..WorkerState::default()
                }),
                config: Some(ConfigState {
                    revision,
                    refused_revision,
                    message: "no".into(),
                }),
                ..WatchStatusResponse::default()
            }),
        )
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn judgement(pods: &[ObservedPod], config_only: bool, now: i64) -> Judgement {
        let pods: Vec<_> = pods.iter().collect();
        judge(&pods, 2, config_only, Some(at(60)), at(now))
    }

    #[test]
    fn one_pod_that_serves_is_enough_for_a_template_and_each_must_take_up_a_config() {
        let pods = [pod(Phase::Serving, 2, 0), pod(Phase::Serving, 1, 0)];
        assert_eq!(judgement(&pods, false, 0), Judgement::Serves);
        assert_eq!(judgement(&pods, true, 0), Judgement::Wait);
        assert_eq!(judgement(&pods[..1], true, 0), Judgement::Serves);
        assert_eq!(judgement(&[], true, 0), Judgement::Wait);
    }

    #[test]
    fn a_pod_that_only_starts_does_not_hold_a_config_up_and_one_that_is_not_heard_does() {
        let starting = fixtures::plugin_pod(1, None);
        let mut unheard = (*starting.pod).clone();
        let ready = serde_json::json!([{"type": "Ready", "status": "True"}]);
        unheard.status.get_or_insert_default().conditions = serde_json::from_value(ready).unwrap();
        let taken = || pod(Phase::Serving, 2, 0);
        assert_eq!(
            judgement(&[taken(), starting.clone()], true, 0),
            Judgement::Serves
        );
        assert_eq!(judgement(&[starting], true, 0), Judgement::Wait);
        let pods = [taken(), fixtures::seen(unheard)];
        assert_eq!(judgement(&pods, true, 0), Judgement::Wait);
    }

    #[test]
    fn a_worker_that_serves_with_another_config_is_not_the_revision() {
        assert_eq!(
            judgement(&[pod(Phase::Serving, 1, 0)], false, 0),
            Judgement::Wait
        );
        assert_eq!(
            judgement(&[pod(Phase::Starting, 2, 0)], false, 0),
            Judgement::Wait
        );
    }

    #[test]
    fn a_refusal_is_told_before_the_deadline() {
        let pods = [pod(Phase::Serving, 1, 2)];
        assert_eq!(judgement(&pods, true, 0), Judgement::Refused("no".into()));
        assert_eq!(
            judgement(&[pod(Phase::Serving, 1, 1)], true, 0),
            Judgement::Wait
        );
    }

    #[test]
    fn a_pod_that_was_evicted_is_none() {
        let mut evicted = (*pod(Phase::Serving, 1, 0).pod).clone();
        evicted.status.get_or_insert_default().phase = Some("Failed".into());
        let pods = [fixtures::seen(evicted), pod(Phase::Serving, 2, 0)];
        assert_eq!(pods_of(&pods, 1).len(), 1);
    }

    #[test]
    fn time_runs_out_at_the_deadline_and_not_for_what_serves() {
        assert_eq!(judgement(&[], false, 59), Judgement::Wait);
        assert_eq!(judgement(&[], false, 60), Judgement::DeadlineExceeded);
        assert_eq!(
            judgement(&[pod(Phase::Serving, 2, 0)], false, 99),
            Judgement::Serves
        );
    }
}
