//! What a pod says that is no good.

use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod};
use kube::ResourceExt;

/// How much of a container's last words is told.
const LONGEST: usize = 400;

/// The words of what keeps a pod from working, and the line about it.
pub(super) fn trouble(pod: &Pod) -> Option<(String, String)> {
    let (words, told) = containers(pod)
        .find_map(of_container)
        .or_else(|| unscheduled(pod))
        .or_else(|| refused(pod))?;
    Some((words, format!("pod {}: {told}", pod.name_any())))
}

/// How the containers of a pod ended, those that were started again included.
pub(super) fn ends(pod: &Pod) -> impl Iterator<Item = &ContainerStateTerminated> {
    containers(pod)
        .flat_map(|container| [&container.last_state, &container.state])
        .filter_map(|state| state.as_ref()?.terminated.as_ref())
}

fn containers(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.iter();
    status
        .flat_map(|status| [&status.init_container_statuses, &status.container_statuses])
        .flatten()
        .flatten()
}

fn of_container(container: &ContainerStatus) -> Option<(String, String)> {
    let state = container.state.as_ref()?;
    let earlier = container.last_state.as_ref();
    let end = state.terminated.as_ref();
    let end = end.or_else(|| earlier?.terminated.as_ref());
    let end = end.filter(|end| end.exit_code != 0 && state.running.is_none());
    let mut told = Vec::new();
    if let Some(waiting) = &state.waiting {
        let reason = waiting.reason.as_deref().unwrap_or_default();
        if !["", "PodInitializing", "ContainerCreating"].contains(&reason) {
            let message = waiting.message.as_deref().unwrap_or("-");
            told.push(format!("{reason}: {message}"));
        }
    }
    if let Some(end) = end {
        told.push(format!("ended with code {}{}", end.exit_code, words(end)));
    }
    if told.is_empty() {
        return None;
    }
    let restarts = match container.restart_count {
        0 => String::new(),
        count => format!(" ({count} restarts)"),
    };
    let said = match end {
        Some(end) => last_words(end),
        None => told[0].clone(),
    };
    let line = format!("container {}{restarts} {}", container.name, told.join("; "));
    Some((said, line))
}

/// The last words of a container, after a colon.
fn words(end: &ContainerStateTerminated) -> String {
    match (last_words(end).as_str(), end.reason.as_deref()) {
        ("", None | Some("Error")) => String::new(),
        ("", Some(reason)) => format!(", {reason}"),
        (words, _) => format!(": {words}"),
    }
}

/// What a container said last, on one line and without what could drive a terminal.
fn last_words(end: &ContainerStateTerminated) -> String {
    let message = end.message.as_deref().unwrap_or_default().trim();
    let clean = message.replace(char::is_control, " ");
    let skipped = clean.chars().count().saturating_sub(LONGEST);
    match skipped {
        0 => clean,
        _ => format!("…{}", clean.chars().skip(skipped).collect::<String>()),
    }
}

fn unscheduled(pod: &Pod) -> Option<(String, String)> {
    let mut conditions = pod.status.as_ref()?.conditions.iter().flatten();
    let found =
        conditions.find(|found| found.type_ == "PodScheduled" && found.status == "False")?;
    let message = found.message.clone().unwrap_or_default();
    Some((message.clone(), format!("on no node yet: {message}")))
}

fn refused(pod: &Pod) -> Option<(String, String)> {
    let status = pod.status.as_ref()?;
    let reason = status.reason.as_deref()?;
    let message = status.message.clone().unwrap_or_default();
    Some((message.clone(), format!("{reason}: {message}")))
}
