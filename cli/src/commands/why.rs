//! `why`: the root cause, what follows from it, and what to do next.

use std::fmt::Write as _;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::{Api, ResourceExt, api::ListParams};
use paperclip_crds::{
    labels,
    v1alpha1::{Condition, PaperclipPlugin, PaperclipPluginRevision, RevisionState},
};
use serde::Serialize;

use super::{Session, revisions};
use crate::{args::PluginName, error::Error, output, plugin};

pub(super) async fn run(session: &Session, name: &PluginName) -> Result<(), Error> {
    let plugin = plugin::read(&session.cluster, name).await?;
    // Whoever may read plugins and not all that belongs to them is told so.
    let mut unseen = Vec::new();
    let revisions = revisions::list(session, &plugin).await;
    let revisions = revisions.unwrap_or_else(|error| {
        unseen.push(error.report());
        Vec::new()
    });
    let api: Api<Pod> = Api::namespaced(session.cluster.client.clone(), &plugin.namespace());
    let selector = format!("{}={}", labels::PLUGIN_UID, plugin.uid());
    let pods = match api.list(&ListParams::default().labels(&selector)).await {
        Ok(list) => list.items,
        Err(error) => {
            unseen.push(Error::cluster("list pods", error).report());
            Vec::new()
        }
    };
    for error in unseen {
        eprintln!("not looked at: {error}");
    }
    let explanation = explain(&plugin.parsed, &revisions, &pods);
    output::answer(session.global.output, &explanation, || {
        Ok(explanation.text())
    })?;
    if explanation.ready {
        return Ok(());
    }
    Err(Error::NotReady {
        what: format!("PaperclipPlugin {} is not Ready", plugin.full_name()),
        hint: String::new(),
    })
}

/// Why a plugin is as it is. The shape of `-o json`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Explanation {
    plugin: String,
    ready: bool,
    /// One word, a reason of the API.
    reason: String,
    /// The root cause in the words of what failed, and what to do about it.
    cause: String,
    /// What else is not as it should be.
    follows: Vec<String>,
    /// What goes on in spite of it.
    goes_on: Vec<String>,
    /// Commands that show or mend more.
    next: Vec<String>,
}

impl Explanation {
    fn text(&self) -> String {
        let mut text = match self.ready {
            true => format!("{} is Ready.\n", self.plugin),
            false => format!(
                "{} is not Ready: {}\n  {}\n",
                self.plugin, self.reason, self.cause
            ),
        };
        let parts = [
            ("Goes on:", &self.goes_on),
            ("Follows from it:", &self.follows),
            ("Next:", &self.next),
        ];
        for (heading, lines) in parts {
            if !lines.is_empty() {
                let _ = write!(text, "\n{heading}\n");
            }
            for line in lines {
                let _ = writeln!(text, "  {line}");
            }
        }
        text
    }
}

/// Explains a plugin from what was read of it.
fn explain(
    plugin: &PaperclipPlugin,
    revisions: &[PaperclipPluginRevision],
    pods: &[Pod],
) -> Explanation {
    let (namespace, name) = (plugin.namespace().unwrap_or_default(), plugin.name_any());
    let full = format!("{namespace}/{name}");
    let status = plugin.status.clone().unwrap_or_default();
    let of = |type_: &str| status.conditions.iter().find(|found| found.type_ == type_);
    let seen = status.observed_generation == plugin.metadata.generation;
    let ready = of("Ready").filter(|_| seen);
    let is_ready = ready.is_some_and(|ready| ready.status == "True");
    let (reason, cause) = match ready {
        Some(ready) => (ready.reason.clone(), ready.message.clone()),
        None => (
            "NotObserved".into(),
            "The operator has not looked at the resource as it is now. Is the operator running?"
                .into(),
        ),
    };
    let is_summary =
        |found: &Condition| ["Ready", "Reconciling", "Stalled"].contains(&found.type_.as_str());
    let follows = status
        .conditions
        .iter()
        .filter(|found| !is_ready && found.status == "False" && !is_summary(found))
        .filter(|found| found.message.is_empty() || !cause.starts_with(&found.message))
        .map(|found| {
            format!(
                "{} is False ({}): {}",
                found.type_, found.reason, found.message
            )
        });
    let goes_on = status
        .active_revision
        .iter()
        .filter(|_| !is_ready)
        .filter_map(|active| {
            let revision = revisions
                .iter()
                .find(|one| one.spec.number == active.number)?;
            let is_active = revision.status.as_ref()?.state == Some(RevisionState::Active);
            let version = &revision.spec.artifact.version;
            is_active.then(|| format!("revision {} ({version}) is the active one", active.number))
        });
    let mut explanation = Explanation {
        ready: is_ready,
        follows: follows
            .chain(pods.iter().filter(|_| !is_ready).filter_map(trouble))
            .collect(),
        goes_on: goes_on.collect(),
        next: Vec::new(),
        plugin: full,
        cause,
        reason,
    };
    if !is_ready {
        explanation.next = next(&explanation.reason, plugin, &namespace, &name);
    }
    explanation
}

/// What a pod's containers say that is no good.
fn trouble(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let all = [&status.init_container_statuses, &status.container_statuses];
    let mut containers = all.into_iter().flatten().flatten();
    let said = containers.find_map(|container: &ContainerStatus| {
        let state = container.state.as_ref()?;
        let waiting = state.waiting.as_ref().and_then(|waiting| {
            let reason = waiting.reason.as_deref()?;
            let is_normal = ["PodInitializing", "ContainerCreating"].contains(&reason);
            (!is_normal).then(|| format!("{reason}: {}", waiting.message.as_deref().unwrap_or("-")))
        });
        let ended = state
            .terminated
            .as_ref()
            .filter(|ended| ended.exit_code != 0);
        let ended = ended.map(|ended| format!("ended with code {}", ended.exit_code));
        Some(format!(
            "container {} {}",
            container.name,
            waiting.or(ended)?
        ))
    })?;
    Some(format!("pod {}: {said}", pod.name_any()))
}

/// Commands for a reason.
fn next(reason: &str, plugin: &PaperclipPlugin, namespace: &str, name: &str) -> Vec<String> {
    let edit = format!("kubectl edit paperclipplugin {name} -n {namespace}");
    let logs = format!("kubectl paperclip logs {namespace}/{name} --tail 50");
    let describe = format!(
        "kubectl describe pods -n {namespace} -l {}={name}",
        labels::PLUGIN
    );
    let operator = format!(
        "kubectl get deployments -A -l {}=operator",
        labels::COMPONENT
    );
    let jobs = format!(
        "kubectl get jobs -A -l {}={}",
        labels::MANAGED_BY,
        labels::OPERATOR
    );
    let (host_namespace, host) = plugin.host_reference();
    let host = format!("kubectl get papercliphost {host} -n {host_namespace} -o yaml");
    let revisions = format!("kubectl paperclip revisions {namespace}/{name} -o wide");
    match reason {
        "NotObserved" => vec![operator],
        "Pending" | "Progressing" => vec![format!("kubectl paperclip tree {namespace}/{name}")],
        "Packing" | "PackingFailed" | "RegistryUnavailable" | "RegistryAccessDenied" => vec![jobs],
        "HostAbsent" | "HostNotFound" | "HostForbidden" | "WaitingForHost" => vec![host],
        "WorkerExited" | "WorkerUnresponsive" | "InitializeFailed" => vec![logs],
        "RolledBack" | "DeadlineExceeded" => vec![revisions, logs, edit],
        "QuotaExceeded" => vec![format!("kubectl describe resourcequota -n {namespace}")],
        "AdmissionRefused" | "Unschedulable" | "PodRefused" | "ImageUnavailable"
        | "DeliveryFailed" | "StoreUnavailable" | "ApplyFailed" => vec![describe],
        "SecretUnavailable" | "ReferenceMissing" => {
            vec![format!(
                "kubectl paperclip reconcile {namespace}/{name}    # once it is there"
            )]
        }
        _ => vec![edit],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn plugin(conditions: Value) -> PaperclipPlugin {
        serde_json::from_value(json!({
            "metadata": {"name": "tea", "namespace": "shop", "generation": 2},
            "spec": {"source": {"npm": {"package": "tea", "version": "1.0.0"}}, "host": {"name": "main", "namespace": "paperclip"}},
            "status": {"observedGeneration": 2, "conditions": conditions},
        }))
        .unwrap()
    }

    fn condition(type_: &str, status: &str, reason: &str, message: &str) -> Value {
        json!({"type": type_, "status": status, "reason": reason, "message": message, "lastTransitionTime": "2026-11-21T10:00:00Z"})
    }

    fn told(plugin: &PaperclipPlugin) -> String {
        explain(plugin, &[], &[]).text()
    }

    #[test]
    fn a_ready_plugin_is_one_line() {
        let ready = condition("Ready", "True", "Succeeded", "fine");
        assert_eq!(told(&plugin(json!([ready]))), "shop/tea is Ready.\n");
    }

    #[test]
    fn a_worker_that_exits_is_told_with_its_words_and_where_to_read_on() {
        let conditions = json!([
            condition(
                "Ready",
                "False",
                "WorkerExited",
                "code 1: no ink. See its log."
            ),
            condition(
                "Stalled",
                "True",
                "WorkerExited",
                "code 1: no ink. See its log."
            ),
            condition("WorkerAvailable", "False", "WorkerExited", "code 1: no ink"),
            condition(
                "HostAttached",
                "False",
                "HostAbsent",
                "No process of the host."
            ),
        ]);
        assert_eq!(
            told(&plugin(conditions)),
            "shop/tea is not Ready: WorkerExited\n  code 1: no ink. See its log.\n\n\
             Follows from it:\n  HostAttached is False (HostAbsent): No process of the host.\n\n\
             Next:\n  kubectl paperclip logs shop/tea --tail 50\n"
        );
    }

    #[test]
    fn a_spec_that_nobody_looked_at_is_no_news_of_the_plugin() {
        let mut plugin = plugin(json!([condition("Ready", "True", "Succeeded", "fine")]));
        plugin.metadata.generation = Some(3);
        let text = told(&plugin);
        assert!(
            text.starts_with("shop/tea is not Ready: NotObserved\n"),
            "{text}"
        );
        assert!(
            text.contains("app.kubernetes.io/component=operator"),
            "{text}"
        );
    }

    #[test]
    fn the_next_step_fits_the_reason() {
        let fitting = [
            ("QuotaExceeded", "kubectl describe resourcequota -n shop"),
            (
                "HostForbidden",
                "kubectl get papercliphost main -n paperclip -o yaml",
            ),
            ("ConfigInvalid", "kubectl edit paperclipplugin tea -n shop"),
            ("RolledBack", "kubectl paperclip revisions shop/tea -o wide"),
            (
                "Unschedulable",
                "kubectl describe pods -n shop -l plugins.paperclip.ing/plugin=tea",
            ),
            ("Suspended", "kubectl edit paperclipplugin tea -n shop"),
        ];
        for (reason, command) in fitting {
            let plugin = plugin(json!([condition("Ready", "False", reason, "m")]));
            let explanation = explain(&plugin, &[], &[]);
            assert_eq!(explanation.next[0], command, "{reason}");
        }
    }

    #[test]
    fn a_container_that_waits_is_named_with_the_kubelets_words() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "pcp-tea-1"},
            "status": {"containerStatuses": [{"name": "worker", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such host"}}}]},
        }))
        .unwrap();
        assert_eq!(
            trouble(&pod).unwrap(),
            "pod pcp-tea-1: container worker ImagePullBackOff: no such host"
        );
    }
}
