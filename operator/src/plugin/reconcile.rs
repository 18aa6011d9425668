//! One reconcile of one plugin.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, ResourceExt, runtime::controller::Action};
use paperclip_crds::{
    ObjectKey, labels,
    v1alpha1::{
        Class, ConditionType, PaperclipHost, PaperclipPlugin, PaperclipPluginStatus, PluginSource,
        Reason,
    },
};

use super::{
    Plugin,
    apply::{scale, stop},
    artifact,
    conditions::{Finding, Findings, Revision, Verdict, broken_off, conditions, first},
    error::ReconcileError,
    plugin_id::{self, ClaimOutcome},
    resolution, rollout, summary, verification, worker,
};
use crate::{
    context::Context,
    errors::{chain, is_namespace_terminating},
    status,
};

/// The safety net under the watches, and what renews certificates.
const RESYNC: Duration = Duration::from_secs(600);
/// Requeue for causes that no watch reports: a ConfigMap that is missing, a Job that is gone.
const LOOK_AGAIN: Duration = Duration::from_secs(15);
/// Secrets and ConfigMaps that the spec names are read by name, never watched; nor is the
/// plugin that has our id.
const REFERENCES: Duration = Duration::from_secs(30);
/// The holder of a plugin id wakes nobody when it goes.
const HOLDER_LEAVES: Duration = Duration::from_secs(5);

/// Reconciles that may fail in a row before a plugin that is Ready is reported as failing.
const PASSING: u32 = 5;

/// Reconciles one plugin, as far as it goes now.
///
/// # Errors
/// When the API server or the store fails, or an object of another has the name of an owned one.
pub async fn reconcile(
    cached: Arc<PaperclipPlugin>,
    context: Arc<Context>,
) -> Result<Action, ReconcileError> {
    let ObjectKey {
        namespace, name, ..
    } = ObjectKey::of(&*cached)?;
    let api: Api<PaperclipPlugin> = Api::namespaced(context.client.clone(), &namespace);
    // Read afresh: the activation number must not go back with a late cache.
    let plugin = api.get_opt(&name).await;
    let plugin = plugin.map_err(ReconcileError::request("reading the plugin"))?;
    let Some(plugin) = plugin.filter(|plugin| plugin.metadata.deletion_timestamp.is_none()) else {
        return Ok(Action::await_change());
    };
    let mut plugin = Plugin::parse(plugin)?;
    if plugin
        .status
        .as_ref()
        .is_none_or(|status| status.conditions.is_empty())
    {
        let status = PaperclipPluginStatus {
            conditions: first(plugin.metadata.generation, context.now()),
            observed_generation: plugin.metadata.generation,
            lifecycle: Some("installed".into()),
            ..plugin.status.clone().unwrap_or_default()
        };
        report(&context, &plugin, &status).await?;
        plugin.status = Some(status);
    }
    let mut status = plugin.status.clone().unwrap_or_default();
    take_request(&plugin, &mut status);
    let outcome = Box::pin(bring_about(&context, &plugin, &mut status)).await;
    if let Err(error) = &outcome {
        if is_namespace_terminating(error) {
            return Ok(Action::await_change());
        }
        if error.is_transient() && is_ready(&plugin) && !lasts(&context, &plugin) {
            // What serves is not called broken because we could not look.
            return outcome.map(|(_, action)| action);
        }
    } else if let Ok(mut counts) = context.broken_off.lock() {
        counts.remove(&plugin.key.uid);
    }
    let (generation, now) = (plugin.metadata.generation, context.now());
    status.observed_generation = generation;
    let previous = &status.conditions;
    (status.lifecycle, status.conditions) = match &outcome {
        Ok((findings, _)) => (
            Some(findings.lifecycle().to_owned()),
            conditions(findings, generation, previous, now),
        ),
        Err(error) => {
            let cause = Finding::no(error.reason(), chain(error));
            let stalled = error.needs_a_person();
            (
                Some("error".to_owned()),
                broken_off(&cause, stalled, generation, previous, now),
            )
        }
    };
    report(&context, &plugin, &status).await?;
    outcome.map(|(_, action)| action)
}

/// A person requests a reconcile, also of a package that failed.
fn take_request(plugin: &Plugin, status: &mut PaperclipPluginStatus) {
    let requested = plugin.annotations().get(labels::RECONCILE_REQUESTED_AT);
    if let Some(requested) = requested
        && status.last_handled_reconcile_at.as_ref() != Some(requested)
    {
        status.last_handled_reconcile_at = Some(requested.clone());
        status.failed_request = None;
    }
}

/// Whether the plugin was Ready at its last reconcile, as the spec stands.
fn is_ready(plugin: &Plugin) -> bool {
    plugin.condition(ConditionType::Ready).is_some_and(|ready| {
        ready.status == "True" && ready.observed_generation == plugin.metadata.generation
    })
}

/// Counts a failed reconcile. True once it is more than a transient fault.
fn lasts(context: &Context, plugin: &Plugin) -> bool {
    let Ok(mut counts) = context.broken_off.lock() else {
        return true;
    };
    let count = counts.entry(plugin.key.uid.clone()).or_default();
    *count += 1;
    *count > PASSING
}

/// The latest time of the next reconcile.
fn next(plugin: &Plugin, findings: &Findings, deadline: Option<Duration>) -> Action {
    let summary = findings.summary();
    let unwatched = summary.reason.class() == Class::Transient
        || matches!(
            summary.reason,
            Reason::ReferenceMissing
                | Reason::SecretUnavailable
                | Reason::Packing
                | Reason::Verifying
        );
    let spec = &plugin.spec;
    let refers = spec
        .config
        .as_ref()
        .is_some_and(|config| !config.default_from.is_empty())
        || matches!(spec.source, PluginSource::ConfigMap(_))
        || spec.source.credential().is_some();
    let wait = if unwatched && !findings.stalled {
        LOOK_AGAIN
    } else if summary.reason == Reason::PluginIdTaken {
        HOLDER_LEAVES
    } else if refers || !spec.secrets.is_empty() {
        REFERENCES
    } else {
        RESYNC
    };
    // A moment later, so that the deadline is over then.
    let deadline = deadline.map(|left| left + Duration::from_millis(100));
    Action::requeue(deadline.map_or(wait, |deadline| deadline.min(wait)))
}

async fn bring_about(
    context: &Context,
    plugin: &Plugin,
    status: &mut PaperclipPluginStatus,
) -> Result<(Findings, Action), ReconcileError> {
    let namespace = &plugin.key.namespace;
    let access = observe_host(context, plugin).await?;
    let deployments: Api<Deployment> = Api::namespaced(context.client.clone(), namespace);
    let name = format!("pcp-{}", plugin.name_any());
    let observed = deployments.get_opt(&name).await;
    let mut deployment = observed.map_err(ReconcileError::request("reading the Deployment"))?;

    let host = plugin.host_reference();
    if matches!(access, HostAccess::Forbidden(_))
        && let Some(observed) = deployment
    {
        deployment = Some(stop(context, observed, &host).await?);
    }
    let asked = verification::requirement(context, plugin).await?;
    let stage = artifact::resolve(context, plugin, &asked, status).await?;
    let verdict = verification::verify(context, plugin, &asked, &stage, status).await?;
    let untrusted = verdict
        .obstacle()
        .filter(|_| stage.finding.holds && !goes_on(plugin, status, &verdict))
        .cloned();
    let mut rollout = None;
    let mut taken = None;
    if stage.finding.holds
        && stage.refused.is_none()
        && untrusted.is_none()
        && !matches!(access, HostAccess::Forbidden(_))
        && status.artifact.is_some()
    {
        identify(context, plugin, status).await?;
        let revisions = rollout::list(context, plugin).await?;
        let standing =
            plugin_id::take(context, plugin, status, &revisions, deployment.as_ref()).await?;
        let may_run = match standing {
            ClaimOutcome::Held => true,
            ClaimOutcome::HeldByActive(finding) => {
                taken = Some(finding);
                true
            }
            ClaimOutcome::Denied {
                taken: finding,
                keeps_pods,
            } => {
                taken = Some(finding);
                if let Some(observed) = deployment.take_if(|_| !keeps_pods || plugin.spec.suspend) {
                    deployment = Some(scale(context, observed, 0).await?);
                }
                false
            }
        };
        if may_run {
            let pass = rollout::pass(
                context,
                plugin,
                status,
                &revisions,
                taken.clone(),
                deployment,
            );
            let mut outcome = pass.await?;
            deployment = outcome.deployment.take();
            rollout = Some(outcome);
        }
    } else if plugin.spec.suspend
        && let Some(observed) = deployment
    {
        deployment = Some(scale(context, observed, 0).await?);
    }
    let uid = &plugin.key.uid;
    context.pods.settled(uid).await;
    let pods = context.pods.of_plugin(uid);
    let attached = worker::host(deployment.as_ref(), &pods, &host);
    if let Some(counts) = worker::capabilities(deployment.as_ref(), &pods) {
        status.capabilities = counts;
    }
    let (obstacle, host, forbidden) = match access {
        HostAccess::Allowed => (None, attached, false),
        HostAccess::Missing(finding) => (None, finding, false),
        HostAccess::Forbidden(finding) => (Some(finding.clone()), finding, true),
    };
    let worker = worker::worker(deployment.as_ref(), &pods);
    let again = rollout.as_ref().and_then(|outcome| outcome.again);
    let is_stuck = rollout.as_ref().is_some_and(|outcome| outcome.stalled);
    let revision = rollout.map(|outcome| Revision {
        granted: outcome.granted,
        // A cause that is known says more than that time is over.
        failed: outcome.failed.or(outcome
            .overdue
            .filter(|_| worker.reason == Reason::Progressing)),
        config: outcome.config,
    });
    let findings = Findings {
        stalled: stage.stalled
            || stage.refused.is_some()
            || matches!(verdict, Verdict::Refused(_))
            || forbidden
            || is_stuck
            || taken.is_some(),
        suspended: plugin.spec.suspend && !forbidden,
        obstacle: obstacle.or(stage.refused).or(untrusted).or(taken),
        artifact: stage.finding,
        verdict,
        revision,
        worker,
        host,
        egress: worker::egress(deployment.as_ref(), &pods),
    };
    let again = [again, resolution::due_in(plugin, status, context.now())];
    let action = next(plugin, &findings, again.into_iter().flatten().min());
    Ok((findings, action))
}

/// An artifact that serves is not held up while it is checked anew.
fn goes_on(plugin: &Plugin, status: &PaperclipPluginStatus, verdict: &Verdict) -> bool {
    let digest = |status: &PaperclipPluginStatus| {
        let artifact = status.artifact.as_ref();
        artifact.map(|artifact| artifact.digest.clone())
    };
    matches!(verdict, Verdict::Pending(_))
        && is_ready(plugin)
        && plugin.status.as_ref().and_then(digest) == digest(status)
}

/// Has the plugin's id in status, here and in the API server: a claim on it is made next, and
/// another plugin that meets the claim looks there for what it is for.
async fn identify(
    context: &Context,
    plugin: &Plugin,
    status: &mut PaperclipPluginStatus,
) -> Result<(), ReconcileError> {
    if let (None, Some(artifact)) = (&status.plugin, &status.artifact) {
        let digest = artifact.digest.parse();
        let digest = digest.map_err(|_| ReconcileError::RecordedDigest(artifact.digest.clone()))?;
        let manifest = context
            .plugin_manifest(&artifact.repository, &digest)
            .await?;
        status.plugin = Some(summary::summarise(&manifest));
    }
    let id = |status: &PaperclipPluginStatus| status.plugin.as_ref().map(|found| found.id.clone());
    if plugin.status.as_ref().and_then(id) == id(status) {
        return Ok(());
    }
    report(context, plugin, status).await
}

enum HostAccess {
    Allowed,
    Missing(Finding),
    Forbidden(Finding),
}

async fn observe_host(context: &Context, plugin: &Plugin) -> Result<HostAccess, ReconcileError> {
    let (host_namespace, name) = plugin.host_reference();
    let namespace = &plugin.key.namespace;
    let api: Api<PaperclipHost> = Api::namespaced(context.client.clone(), &host_namespace);
    let found = api
        .get_opt(&name)
        .await
        .map_err(ReconcileError::request("reading the host"))?;
    Ok(match found {
        None => {
            let message = format!("PaperclipHost {host_namespace}/{name} does not exist.");
            HostAccess::Missing(Finding::no(Reason::HostNotFound, message))
        }
        Some(host)
            if host
                .spec
                .allowed_namespaces
                .allows(namespace, &host_namespace) =>
        {
            HostAccess::Allowed
        }
        Some(_) => {
            let message = format!(
                "PaperclipHost {host_namespace}/{name} does not allow plugins of namespace {namespace}; see its spec.allowedNamespaces."
            );
            HostAccess::Forbidden(Finding::no(Reason::HostForbidden, message))
        }
    })
}

async fn report(
    context: &Context,
    plugin: &Plugin,
    status: &PaperclipPluginStatus,
) -> Result<(), ReconcileError> {
    if plugin.status.as_ref() == Some(status) {
        return Ok(());
    }
    let before = plugin
        .status
        .as_ref()
        .map(|status| &status.conditions[..])
        .unwrap_or_default();
    let warning = status
        .conditions
        .first()
        .is_some_and(|ready| ready.status == "False" && is_news(&ready.reason));
    status::write(
        context,
        plugin,
        status,
        [before, &status.conditions],
        warning,
    )
    .await
    .map_err(ReconcileError::request("writing the plugin's status"))
}

/// Whether the reason of a condition is news. A reason of another release is.
fn is_news(reason: &str) -> bool {
    Reason::from_name(reason).is_none_or(|reason| reason.class() != Class::Calm)
}
