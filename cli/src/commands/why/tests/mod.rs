//! What is said of the situations a plugin can be in, compared with the copies in `snapshots/`.

mod cluster;
mod config;
mod host;
mod life;
mod package;
mod worker;

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{
        ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
        ContainerStatus, Event, ObjectReference, Pod, PodStatus,
    },
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};
use kube::api::ObjectMeta;
use paperclip_crds::v1alpha1::{
    Condition, ConditionType, HostReference, NpmSource, PaperclipHost, PaperclipHostSpec,
    PaperclipHostStatus, PaperclipPlugin, PaperclipPluginSpec, PaperclipPluginStatus, PluginSource,
    Reason, ServiceReference,
};

use super::{
    explain::explain,
    observed::{Lookup, Observed},
};

const NOW: &str = "2026-11-21T10:00:00Z";

/// A time so many seconds before now.
fn ago(seconds: i64) -> Time {
    let now: Timestamp = NOW.parse().unwrap();
    Time(Timestamp::from_second(now.as_second() - seconds).unwrap())
}

fn condition(type_: ConditionType, status: &str, reason: Reason, message: &str) -> Condition {
    Condition {
        type_: type_.to_string(),
        status: status.into(),
        reason: reason.to_string(),
        message: message.into(),
        last_transition_time: NOW.into(),
        observed_generation: Some(2),
    }
}

/// A stage that is not as it should be.
fn broken(type_: ConditionType, reason: Reason, message: &str) -> Condition {
    condition(type_, "False", reason, message)
}

/// The plugin `shop/tea` with these conditions, looked at as it is now.
fn plugin(conditions: Vec<Condition>) -> PaperclipPlugin {
    let spec = PaperclipPluginSpec {
        source: PluginSource::Npm(NpmSource {
            package: "tea".into(),
            version: Some("1.0.0".into()),
            range: None,
            resolve_interval_seconds: 3600,
            lock: None,
            registry: None,
            credentials_secret: None,
        }),
        manifest: None,
        config: None,
        secrets: Vec::new(),
        host: HostReference {
            name: "main".into(),
            namespace: Some("paperclip".into()),
        },
        upgrade: Default::default(),
        worker: None,
        limits: None,
        suspend: false,
        revision_history_limit: 5,
    };
    let mut plugin = PaperclipPlugin::new("tea", spec);
    plugin.metadata.namespace = Some("shop".into());
    plugin.metadata.generation = Some(2);
    plugin.status = Some(PaperclipPluginStatus {
        observed_generation: Some(2),
        conditions,
        ..PaperclipPluginStatus::default()
    });
    plugin
}

/// What is known of a plugin that one stage keeps from being Ready: the operator puts the
/// stage's words and its advice into `Ready`.
fn held_by(type_: ConditionType, reason: Reason, words: &str) -> Observed {
    let message = match reason.advice() {
        Some(advice) => format!("{words} {advice}"),
        None => words.to_owned(),
    };
    let ready = broken(ConditionType::Ready, reason, &message);
    known(plugin(vec![ready, broken(type_, reason, words)]))
}

/// What is known of a plugin whose host is fine.
fn known(plugin: PaperclipPlugin) -> Observed {
    let mut observed = Observed::of(plugin, NOW.parse().unwrap());
    observed.host = Lookup::Found(host(condition(
        ConditionType::Ready,
        "True",
        Reason::Succeeded,
        "The certificate is issued.",
    )));
    observed
}

/// Adds a condition to a plugin.
fn also(observed: &mut Observed, condition: Condition) {
    let status = observed.plugin.status.as_mut().unwrap();
    status.conditions.push(condition);
}

fn host(ready: Condition) -> PaperclipHost {
    let spec = PaperclipHostSpec {
        service: ServiceReference {
            name: "main".into(),
            port: 3100,
        },
        allowed_namespaces: Default::default(),
    };
    let mut host = PaperclipHost::new("main", spec);
    host.metadata.namespace = Some("paperclip".into());
    host.status = Some(PaperclipHostStatus {
        conditions: vec![ready],
        ..PaperclipHostStatus::default()
    });
    host
}

/// A pod with these containers.
fn pod(name: &str, containers: Vec<ContainerStatus>) -> Pod {
    Pod {
        metadata: ObjectMeta {
            name: Some(name.into()),
            labels: Some(BTreeMap::new()),
            ..ObjectMeta::default()
        },
        status: Some(PodStatus {
            container_statuses: Some(containers),
            ..PodStatus::default()
        }),
        ..Pod::default()
    }
}

fn container(name: &str, state: ContainerState) -> ContainerStatus {
    ContainerStatus {
        name: name.into(),
        state: Some(state),
        ..ContainerStatus::default()
    }
}

fn running() -> ContainerState {
    ContainerState {
        running: Some(ContainerStateRunning::default()),
        ..ContainerState::default()
    }
}

fn waiting(reason: &str, message: &str) -> ContainerState {
    ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(reason.into()),
            message: Some(message.into()),
        }),
        ..ContainerState::default()
    }
}

fn ended(code: i32, message: &str) -> ContainerState {
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            exit_code: code,
            reason: Some("Error".into()),
            message: Some(message.into()),
            ..ContainerStateTerminated::default()
        }),
        ..ContainerState::default()
    }
}

/// A warning on an object, so many seconds ago.
fn warning(kind: &str, name: &str, reason: &str, message: &str, seconds: i64) -> Event {
    Event {
        type_: Some("Warning".into()),
        reason: Some(reason.into()),
        message: Some(message.into()),
        involved_object: ObjectReference {
            kind: Some(kind.into()),
            name: Some(name.into()),
            ..ObjectReference::default()
        },
        last_timestamp: Some(ago(seconds)),
        ..Event::default()
    }
}

fn told(observed: &Observed) -> String {
    explain(observed).text()
}
