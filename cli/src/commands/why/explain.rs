//! What to say of a plugin. Pure.

use std::fmt::Write as _;

use kube::ResourceExt;
use paperclip_crds::{
    labels,
    v1alpha1::{
        Class, Condition, ConditionType, PaperclipHost, PaperclipPlugin, Reason, RevisionState,
    },
};
use serde::Serialize;

use super::{
    events,
    observed::{Lookup, Observed},
    packing, pods, references,
};

/// Why a plugin is as it is. The shape of `-o json`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Explanation {
    pub plugin: String,
    pub ready: bool,
    /// One word, a reason of the API.
    pub reason: String,
    /// The root cause in the words of what failed, and what to do about it.
    pub cause: String,
    /// Conditions that are not as they should be either.
    pub follows: Vec<String>,
    /// What the host, references, packing Jobs and pods say.
    pub details: Vec<String>,
    /// What goes on in spite of it.
    pub goes_on: Vec<String>,
    /// The newest warnings of the cluster.
    pub events: Vec<String>,
    /// Commands that show or mend more.
    pub next: Vec<String>,
    /// What could not be read, and why.
    pub not_read: Vec<String>,
}

impl Explanation {
    pub(super) fn text(&self) -> String {
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
            ("In detail:", &self.details),
            ("Newest warnings:", &self.events),
            ("Next:", &self.next),
            ("Not read:", &self.not_read),
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

/// Explains a plugin from what is known of it.
pub(super) fn explain(observed: &Observed) -> Explanation {
    let plugin = &observed.plugin;
    let mut explanation = Explanation {
        plugin: full_name(plugin),
        ready: observed.is_ready(),
        reason: String::new(),
        cause: String::new(),
        follows: Vec::new(),
        details: Vec::new(),
        goes_on: Vec::new(),
        events: Vec::new(),
        next: Vec::new(),
        not_read: observed.not_read.clone(),
    };
    let ready = plugin.condition(ConditionType::Ready);
    (explanation.reason, explanation.cause) = match ready.filter(|_| observed.is_observed()) {
        Some(ready) => (ready.reason.clone(), ready.message.clone()),
        None => (
            "NotObserved".into(),
            "The operator has not reconciled the resource as it is now. Is the operator running?"
                .into(),
        ),
    };
    if explanation.ready {
        return explanation;
    }
    explanation.follows = follows(observed, &explanation.cause);
    explanation.details = details(observed, &explanation.cause);
    explanation.goes_on = goes_on(observed).into_iter().collect();
    let cause = std::slice::from_ref(&explanation.cause);
    let said = [cause, &explanation.follows, &explanation.details].concat();
    explanation.events = events::newest(&observed.events, observed.now, &said);
    explanation.next = next(&explanation.reason, observed);
    explanation
}

fn full_name(plugin: &PaperclipPlugin) -> String {
    let namespace = plugin.namespace().unwrap_or_default();
    format!("{namespace}/{}", plugin.name_any())
}

/// Conditions that are False beside the cause.
fn follows(observed: &Observed, cause: &str) -> Vec<String> {
    let conditions = observed.plugin.status.iter();
    conditions
        .flat_map(|status| &status.conditions)
        .filter(|found| found.status == "False" && !is_summary(found))
        .filter(|found| found.message.is_empty() || !is_said(&found.message, cause))
        .map(|found| {
            let Condition {
                type_,
                reason,
                message,
                ..
            } = found;
            format!("{type_} is False ({reason}): {message}")
        })
        .collect()
}

/// What everything that belongs to the plugin says, without what the cause says already.
fn details(observed: &Observed, cause: &str) -> Vec<String> {
    let named = observed.references.iter().filter_map(references::trouble);
    let sentences = host_trouble(observed).into_iter().chain(named);
    let packing = observed.packing.iter();
    sentences
        .map(|sentence| (sentence.clone(), sentence))
        .chain(packing.filter_map(|one| packing::trouble(one, observed.now)))
        .chain(observed.pods.iter().filter_map(pods::trouble))
        .filter(|(words, _)| !is_said(words, cause))
        .map(|(_, line)| line)
        .collect()
}

/// Whether these words are part of what was said; how a sentence ends makes no difference.
pub(super) fn is_said(words: &str, said: &str) -> bool {
    let words = words.trim().trim_end_matches(['.', '!']);
    !words.is_empty() && said.contains(words)
}

/// Conditions that sum up the others.
fn is_summary(condition: &Condition) -> bool {
    let summaries = [
        ConditionType::Ready,
        ConditionType::Reconciling,
        ConditionType::Stalled,
    ];
    summaries
        .iter()
        .any(|type_| type_.name() == condition.type_)
}

fn host_trouble(observed: &Observed) -> Option<String> {
    let (namespace, name) = observed.plugin.host_reference();
    let host = match &observed.host {
        Lookup::Found(host) => host,
        Lookup::Missing => {
            return Some(format!("PaperclipHost {namespace}/{name} does not exist."));
        }
        Lookup::NotRead => return None,
    };
    let ready = ready_of(host)?;
    (ready.status != "True").then(|| {
        format!(
            "PaperclipHost {namespace}/{name} is not Ready ({}): {}",
            ready.reason, ready.message
        )
    })
}

fn ready_of(host: &PaperclipHost) -> Option<&Condition> {
    let conditions = &host.status.as_ref()?.conditions;
    let ready = ConditionType::Ready.name();
    conditions.iter().find(|found| found.type_ == ready)
}

/// The revision that serves in spite of it.
fn goes_on(observed: &Observed) -> Option<String> {
    let active = observed.plugin.status.as_ref()?.active_revision.as_ref()?;
    let mut revisions = observed.revisions.iter();
    let revision = revisions.find(|one| one.spec.number == active.number)?;
    let is_active = revision.status.as_ref()?.state == Some(RevisionState::Active);
    let version = &revision.spec.artifact.version;
    is_active.then(|| format!("revision {} ({version}) is the active one", active.number))
}

/// Commands for a reason.
fn next(reason: &str, observed: &Observed) -> Vec<String> {
    let plugin = &observed.plugin;
    let (namespace, name) = (plugin.namespace().unwrap_or_default(), plugin.name_any());
    let edit = format!("kubectl edit paperclipplugin {name} -n {namespace}");
    let logs = format!("kubectl paperclip logs {namespace}/{name} --tail 50");
    let tree = format!("kubectl paperclip tree {namespace}/{name}");
    let revisions = format!("kubectl paperclip revisions {namespace}/{name} -o wide");
    let describe = format!(
        "kubectl describe pods -n {namespace} -l {}={name}",
        labels::PLUGIN
    );
    let Some(reason) = Reason::from_name(reason) else {
        let operator = format!("{}=operator", labels::COMPONENT);
        return vec![
            "kubectl paperclip doctor".into(),
            format!("kubectl get deployments -A -l {operator}"),
        ];
    };
    let policies = "kubectl get papercliptrustpolicies --output yaml".to_owned();
    match reason {
        Reason::Pending | Reason::Progressing => vec![tree],
        Reason::Packing => packing::commands(&observed.packing),
        Reason::HostAbsent
        | Reason::HostNotFound
        | Reason::HostForbidden
        | Reason::WaitingForHost => {
            let (namespace, host) = plugin.host_reference();
            vec![format!(
                "kubectl get papercliphost {host} -n {namespace} -o yaml"
            )]
        }
        Reason::WorkerExited | Reason::WorkerUnresponsive | Reason::InitializeFailed => vec![logs],
        Reason::RolledBack | Reason::DeadlineExceeded => vec![revisions, logs, edit],
        Reason::QuotaExceeded => vec![format!("kubectl describe resourcequota -n {namespace}")],
        Reason::StoreUnavailable
        | Reason::ImageUnavailable
        | Reason::ApplyFailed
        | Reason::Verifying
        | Reason::VerificationFailed => vec![describe],
        Reason::PluginIdTaken => vec!["kubectl get paperclipplugins --all-namespaces".into(), edit],
        Reason::NoPolicyMatches => vec![policies, edit],
        _ => match reason.class() {
            Class::Transient => packing::commands(&observed.packing),
            Class::Reference => vec![format!(
                "kubectl paperclip reconcile {namespace}/{name}    # once it is there"
            )],
            Class::Workload => vec![describe],
            Class::Policy => vec![policies, edit],
            Class::Calm | Class::Package | Class::Person => vec![edit],
        },
    }
}
