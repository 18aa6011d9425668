//! What a packing Job says.

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use paperclip_crds::labels;
use paperclip_packing_api::report::parse_failure;

use super::{observed::Packing, pods};
use crate::table::age;

/// What a Job that has not succeeded says: its own words, and the line about it.
pub(super) fn trouble(packing: &Packing, now: Timestamp) -> Option<(String, String)> {
    let status = packing.job.status.clone().unwrap_or_default();
    if status.succeeded.unwrap_or(0) > 0 {
        return None;
    }
    let (name, namespace) = (
        packing.job.name_any(),
        packing.job.namespace().unwrap_or_default(),
    );
    let started = status.start_time.map_or_else(String::new, |time| {
        let seconds = now.as_second() - time.0.as_second();
        format!(", started {} ago", age(seconds))
    });
    let given_up = status.conditions.into_iter().flatten();
    let given_up = given_up
        .filter(|found| found.type_ == "Failed" && found.status == "True")
        .find_map(|found| found.message);
    let words = packing.pods.iter().rev().find_map(said);
    let words = words.or(given_up).unwrap_or_default();
    let line = format!(
        "packing Job {namespace}/{name}: {} failed, {} running{started}",
        status.failed.unwrap_or(0),
        status.active.unwrap_or(0)
    );
    let line = match words.as_str() {
        "" => line,
        words => format!("{line}: {words}"),
    };
    Some((words, line))
}

/// The last words of a step that failed, else what the kubelet says of its container.
fn said(pod: &k8s_openapi::api::core::v1::Pod) -> Option<String> {
    let failures = pods::ends(pod).filter_map(|end| parse_failure(end.message.as_deref()?));
    failures
        .map(|failure| failure.message)
        .last()
        .or_else(|| pods::trouble(pod).map(|(_, line)| line))
}

/// Commands that show a Job's logs, or that find the Job.
pub(super) fn commands(packing: &[Packing]) -> Vec<String> {
    let logs = |Packing { job, .. }: &Packing| {
        format!(
            "kubectl logs -n {} job/{} --all-containers --prefix",
            job.namespace().unwrap_or_default(),
            job.name_any()
        )
    };
    if packing.is_empty() {
        let ours = format!("{}={}", labels::MANAGED_BY, labels::OPERATOR);
        return vec![format!("kubectl get jobs -A -l {ours}")];
    }
    packing.iter().map(logs).collect()
}
