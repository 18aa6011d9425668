//! One pass over the revisions of a plugin: which one is asked for, what runs, and what
//! becomes of it.

use std::{collections::BTreeSet, time::Duration};

use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use paperclip_crds::{
    labels,
    v1alpha1::{
        Class, FailurePolicy, Grant, PaperclipPluginRevision, PaperclipPluginRevisionStatus,
        PaperclipPluginStatus, Reason, RevisionArtifact, RevisionState, RevisionStatus,
    },
};
use paperclip_oci::Digest;
use serde_json::json;

use super::{
    Plugin,
    apply::{apply_all, handed_over},
    conditions::{Finding, rfc3339},
    config_delivery::{self, activation_of, number_of},
    desired::Desired,
    error::ReconcileError,
    instance_config::{self, Config},
    judge::{self, Judgement, pods_of},
    limits,
    references::{self, Resolved},
    revision::{self, Recorded, Target},
    unfinished::Unfinished,
    worker,
};
use crate::{context::Context, pods::ObservedPod};

/// Outcome of a pass over the revisions.
#[derive(Debug)]
pub struct Outcome {
    /// `Granted`.
    pub granted: Finding,
    /// `ConfigValid`.
    pub config: Finding,
    /// Why the revision that the spec asks for does not run, where that is settled.
    pub failed: Option<Finding>,
    /// That the revision had its time, for where nothing else is known.
    pub overdue: Option<Finding>,
    /// Nothing more happens until a person acts.
    pub stalled: bool,
    /// The Deployment as it then is.
    pub deployment: Option<Deployment>,
    /// Time until a deadline changes something.
    pub again: Option<Duration>,
}

/// Reason and message of a failed revision.
struct Failure {
    reason: Reason,
    message: String,
}

/// Brings the revision about that the spec asks for, as far as it goes now. The artifact
/// of the spec is in `status`, and `revisions` are those that there are. With `barred` the
/// active revision goes on and no other is begun.
///
/// # Errors
/// When the API server or the store fails.
pub async fn pass(
    context: &Context,
    plugin: &Plugin,
    status: &mut PaperclipPluginStatus,
    revisions: &[PaperclipPluginRevision],
    barred: Option<Finding>,
    mut deployment: Option<Deployment>,
) -> Result<Outcome, ReconcileError> {
    let asked = ask(context, plugin, status, revisions, barred).await?;
    loop {
        let revisions = list(context, plugin).await?;
        let step = Step::choose(context, plugin, status, &asked, revisions).await?;
        deployment = step.run(context, plugin, deployment).await?;
        let pods = observe(context, plugin).await;
        step.tell_pods(context, plugin, &pods).await?;
        if !step
            .settle(context, plugin, status, &pods, deployment.as_ref())
            .await?
        {
            step.prune(context, plugin).await?;
            return Ok(step.outcome(context, plugin, &asked, deployment));
        }
    }
}

/// Requests of the spec, before any revision.
struct Asked {
    granted: Finding,
    /// Config, target and hash; or why there is none.
    wanted: Result<(Target, Config), Finding>,
    added: Vec<String>,
}

async fn ask(
    context: &Context,
    plugin: &Plugin,
    status: &PaperclipPluginStatus,
    revisions: &[PaperclipPluginRevision],
    barred: Option<Finding>,
) -> Result<Asked, ReconcileError> {
    let asked = status.plugin.as_ref().map(|found| &found.capabilities[..]);
    let first = revisions
        .first()
        .map(|first| &first.spec.grant.capabilities);
    let recorded = status.implicit_grant.as_ref().or(first);
    let (grant, added) = revision::grant(
        plugin.spec.manifest.as_ref(),
        recorded.map(|recorded| &recorded[..]),
        asked.unwrap_or_default(),
    );
    let granted = if added.is_empty() {
        Finding {
            reason: Reason::Implicit,
            ..Finding::yes(format!(
                "{} capabilities are granted.",
                grant.capabilities.len()
            ))
        }
    } else {
        let message = format!(
            "The package requests capabilities beyond those that are granted: {}. To grant them, list all capabilities in spec.manifest.capabilities.",
            added.join(", ")
        );
        Finding::no(Reason::CapabilitiesAdded, message)
    };
    let wanted = match barred {
        Some(barred) => Err(Unfinished::Blocked(barred)),
        None => aim(context, plugin, status, revisions, grant).await,
    };
    let wanted = match wanted {
        Ok(wanted) => Ok(wanted),
        Err(Unfinished::Blocked(finding)) => Err(finding),
        Err(Unfinished::Failed(error)) => return Err(error),
    };
    Ok(Asked {
        granted,
        wanted,
        added,
    })
}

/// Makes the target and checks its config. What a revision has was checked before that was
/// made, so to go on with it, or back, takes nothing from the store.
async fn aim(
    context: &Context,
    plugin: &Plugin,
    status: &PaperclipPluginStatus,
    revisions: &[PaperclipPluginRevision],
    grant: Grant,
) -> Result<(Target, Config), Unfinished<Finding>> {
    let Resolved { config, secrets } = references::resolve(context, plugin).await?;
    let artifact = revision::artifact(&status.artifact.clone().unwrap_or_default());
    let host = plugin.host_reference();
    let template_hash = Desired {
        plugin,
        artifact: &artifact,
        granted: &grant.capabilities,
        host: host.clone(),
        resources: plugin.worker().resources,
        activation: 0,
    }
    .inputs();
    let mut target = Target {
        manifest_digest: String::new(),
        summary: status.plugin.clone().unwrap_or_default(),
        template_hash,
        config_hash: config.hash(&plugin.spec.secrets),
        secrets,
        grant,
        host,
        artifact,
        resources: plugin.worker().resources,
    };
    if let Some(known) = revisions.iter().find(|revision| target.is(revision)) {
        target.manifest_digest = known.spec.manifest_digest.clone();
        return Ok((target, config));
    }
    let RevisionArtifact {
        repository, digest, ..
    } = &target.artifact;
    let digest: Digest = digest
        .parse()
        .map_err(|_| ReconcileError::RecordedDigest(digest.clone()))?;
    let manifest = context.plugin_manifest(repository, &digest).await;
    let manifest = manifest.map_err(ReconcileError::from)?;
    target.manifest_digest = Digest::of(manifest.to_string().as_bytes()).to_string();
    let checked = instance_config::check(&config, &plugin.spec.secrets, &manifest);
    checked.map_err(Unfinished::Blocked)?;
    Ok((target, config))
}

/// The plugin's revisions, oldest first.
pub async fn list(
    context: &Context,
    plugin: &Plugin,
) -> Result<Vec<PaperclipPluginRevision>, ReconcileError> {
    let uid = &plugin.key.uid;
    let selector = format!("{}={uid}", labels::PLUGIN_UID);
    let found = revisions_of(context, plugin)
        .list(&ListParams::default().labels(&selector))
        .await
        .map_err(ReconcileError::request("listing the plugin's revisions"))?;
    let mut revisions = found.items;
    revisions.sort_by_key(|revision| revision.spec.number);
    Ok(revisions)
}

fn revisions_of(context: &Context, plugin: &Plugin) -> Api<PaperclipPluginRevision> {
    let namespace = &plugin.key.namespace;
    Api::namespaced(context.client.clone(), namespace)
}

async fn observe(context: &Context, plugin: &Plugin) -> Vec<ObservedPod> {
    let uid = &plugin.key.uid;
    context.pods.settled(uid).await;
    context.pods.of_plugin(uid)
}

/// Decisions for one step of a pass.
struct Step<'a> {
    asked: &'a Asked,
    revisions: Vec<PaperclipPluginRevision>,
    /// The revision that served last.
    active: Option<PaperclipPluginRevision>,
    /// The revision that the spec asks for, if all is there that it needs.
    wanted: Option<PaperclipPluginRevision>,
}

impl<'a> Step<'a> {
    async fn choose(
        context: &Context,
        plugin: &Plugin,
        status: &mut PaperclipPluginStatus,
        asked: &'a Asked,
        mut revisions: Vec<PaperclipPluginRevision>,
    ) -> Result<Self, ReconcileError> {
        let number = status.active_revision.as_ref().map(|active| active.number);
        let active = revisions
            .iter()
            .find(|revision| Some(revision.spec.number) == number)
            .cloned();
        let wanted = match &asked.wanted {
            Ok((target, _)) if asked.added.is_empty() => {
                let found = revision::find(target, &revisions, number).cloned();
                match found {
                    Some(found) => Some(found),
                    None => {
                        let made = revision::build(
                            plugin,
                            target.clone(),
                            &revisions,
                            active.as_ref(),
                            &recorded(status),
                            metadata(plugin, target),
                        );
                        let made = create(context, plugin, made).await?;
                        revisions.push(made.clone());
                        Some(made)
                    }
                }
            }
            _ => None,
        };
        let step = Self {
            asked,
            revisions,
            active,
            wanted,
        };
        step.show(plugin, status);
        Ok(step)
    }

    /// Records in status what is active and what is pending.
    fn show(&self, plugin: &Plugin, status: &mut PaperclipPluginStatus) {
        let short = |revision: &PaperclipPluginRevision| RevisionStatus {
            name: revision.name_any(),
            number: revision.spec.number,
            added_capabilities: Vec::new(),
        };
        let newest = self.revisions.last().map(|newest| newest.spec.number);
        let last = newest.max(Some(recorded(status).number));
        status.last_revision = last.filter(|number| *number > 0);
        if let (None, Some(first)) = (&status.implicit_grant, self.revisions.first()) {
            status.implicit_grant = Some(first.spec.grant.capabilities.clone());
        }
        let next = status.last_revision.unwrap_or_default() + 1;
        status.pending_revision = match &self.wanted {
            Some(wanted) if !self.is_active(wanted) => Some(short(wanted)),
            Some(_) => None,
            None if self.asked.added.is_empty() => None,
            None => Some(RevisionStatus {
                name: format!("{}-{next}", plugin.name_any()),
                number: next,
                added_capabilities: self.asked.added.clone(),
            }),
        };
        let highest = self
            .revisions
            .iter()
            .map(|revision| revision.spec.activation)
            .max();
        status.activation = highest.max(status.activation);
    }

    fn is_active(&self, revision: &PaperclipPluginRevision) -> bool {
        self.active
            .as_ref()
            .is_some_and(|active| active.spec.number == revision.spec.number)
    }

    /// The revision that waits to be taken up.
    fn pending(&self) -> Option<&PaperclipPluginRevision> {
        let wanted = self.wanted.as_ref()?;
        (!self.is_active(wanted) && revision::state(wanted) != RevisionState::Failed)
            .then_some(wanted)
    }

    fn is_config_only(&self, pending: &PaperclipPluginRevision) -> bool {
        self.active
            .as_ref()
            .is_some_and(|active| active.spec.activation == pending.spec.activation)
    }

    /// The revision whose config new pods refused, where they are to stay for a person to
    /// look at. A config that running pods refused has changed nothing.
    fn frozen(&self, plugin: &Plugin) -> Option<&PaperclipPluginRevision> {
        let freezes = plugin.spec.upgrade.on_failure == FailurePolicy::Freeze;
        let wanted = self.wanted.as_ref().filter(|_| freezes)?;
        let has_failed = revision::state(wanted) == RevisionState::Failed;
        (has_failed && is_refused(wanted) && !self.is_config_only(wanted)).then_some(wanted)
    }

    /// The revision whose template the Deployment is to have, and whether the spec asks
    /// for just that template.
    fn runs(&self, plugin: &Plugin) -> Option<(&PaperclipPluginRevision, bool)> {
        let template = |revision: &PaperclipPluginRevision| match &self.asked.wanted {
            Ok((target, _)) => revision.spec.template_hash == target.template_hash,
            Err(_) => false,
        };
        let failed = self.wanted.as_ref().filter(|_| self.active.is_none());
        let stays = self.pending().or_else(|| self.frozen(plugin));
        let chosen = stays.or(self.active.as_ref()).or(failed)?;
        Some((chosen, template(chosen)))
    }

    /// Brings about what is to run.
    async fn run(
        &self,
        context: &Context,
        plugin: &Plugin,
        observed: Option<Deployment>,
    ) -> Result<Option<Deployment>, ReconcileError> {
        let Some((runs, exact)) = self.runs(plugin) else {
            return Ok(observed);
        };
        let namespace = &plugin.key.namespace;
        let before = handed_over(context, namespace, &plugin.name_any()).await?;
        let candidate = self.asked.wanted.as_ref().ok().and_then(|(_, config)| {
            let wanted = self.wanted.as_ref()?;
            let offered = self.is_active(wanted)
                || self.pending().is_some()
                || self.frozen(plugin).is_some()
                || self.active.is_none();
            offered.then_some((&wanted.spec, config))
        });
        let live: BTreeSet<u64> = context
            .pods
            .of_plugin(&plugin.key.uid.clone())
            .iter()
            .filter_map(|seen| seen.pod.annotations().get(labels::ACTIVATION)?.parse().ok())
            .collect();
        let active = self.active.as_ref().map(|active| &active.spec);
        let mut config = config_delivery::build(&before, active, candidate, &live);
        config.limits = limits::delivered(plugin);
        let wanted = Desired {
            plugin,
            artifact: &runs.spec.artifact,
            granted: &runs.spec.grant.capabilities,
            host: revision::host(&runs.spec, plugin),
            resources: runs.spec.resources.clone(),
            activation: activation_of(&runs.spec),
        };
        let serving = active.map(|active| &*active.artifact.repository);
        let applying = apply_all(context, &wanted, exact, &config, serving, observed);
        Box::pin(applying).await.map(Some)
    }

    /// Makes the kubelet hand a new config, or other limits, to running pods at once.
    async fn tell_pods(
        &self,
        context: &Context,
        plugin: &Plugin,
        pods: &[ObservedPod],
    ) -> Result<(), ReconcileError> {
        let Some(newest) = self.pending().or(self.active.as_ref()) else {
            return Ok(());
        };
        let number = number_of(&newest.spec).to_string();
        let limits = limits::fingerprint(plugin);
        let namespace = &plugin.key.namespace;
        let api: Api<Pod> = Api::namespaced(context.client.clone(), namespace);
        for seen in pods_of(pods, newest.spec.activation) {
            let status = seen
                .status
                .as_ref()
                .and_then(|status| status.config.as_ref());
            // One that has only begun finds the config that is there.
            let has_another = status.is_some_and(|config| {
                config.revision != number_of(&newest.spec)
                    && (config.revision != 0 || config.refused_revision != 0)
            });
            let annotations = seen.pod.annotations();
            let mut news = serde_json::Map::new();
            if has_another && annotations.get(labels::CONFIG_REVISION) != Some(&number) {
                news.insert(labels::CONFIG_REVISION.into(), number.clone().into());
            }
            if status.is_some() && annotations.get(labels::LIMITS) != limits.as_ref() {
                news.insert(labels::LIMITS.into(), limits.clone().into());
            }
            if news.is_empty() {
                continue;
            }
            let patch = json!({ "metadata": { "annotations": news } });
            let told = api
                .patch(
                    &seen.pod.name_any(),
                    &PatchParams::default(),
                    &Patch::Merge(&patch),
                )
                .await;
            match told {
                // It went meanwhile, and the next one reads what is there.
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                told => {
                    told.map_err(ReconcileError::request("telling a pod of its new config"))?;
                }
            }
        }
        Ok(())
    }

    /// Judges the pending revision and writes down what became of it. True when that
    /// changes what is to run.
    async fn settle(
        &self,
        context: &Context,
        plugin: &Plugin,
        status: &mut PaperclipPluginStatus,
        pods: &[ObservedPod],
        deployment: Option<&Deployment>,
    ) -> Result<bool, ReconcileError> {
        let Some(pending) = self.pending() else {
            return Ok(false);
        };
        if plugin.spec.suspend {
            // Its time begins anew when it may run.
            let waits = PaperclipPluginRevisionStatus {
                state: Some(RevisionState::Pending),
                ..PaperclipPluginRevisionStatus::default()
            };
            write(context, plugin, pending, &waits).await?;
            return Ok(false);
        }
        let seconds = plugin.spec.upgrade.progress_deadline_seconds;
        let status_of = pending.status.as_ref();
        let has_begun = status_of.is_some_and(|status| status.rolled_out_at.is_some());
        if !has_begun && revision::state(pending) == RevisionState::Pending {
            let begun = PaperclipPluginRevisionStatus {
                state: Some(RevisionState::Pending),
                rolled_out_at: Some(rfc3339(context.now())),
                ..PaperclipPluginRevisionStatus::default()
            };
            write(context, plugin, pending, &begun).await?;
            return Ok(true);
        }
        let judgement = judge::judge(
            &pods_of(pods, pending.spec.activation),
            number_of(&pending.spec),
            self.is_config_only(pending),
            revision::deadline(pending, seconds, context.started),
            context.now(),
        );
        match judgement {
            Judgement::Serves => {
                self.activate(context, plugin, pending, status).await?;
                Ok(true)
            }
            Judgement::Refused(words) => {
                let message = format!("The worker refused the config: {words}");
                let failure = Failure {
                    reason: Reason::ConfigRejected,
                    message,
                };
                fail(context, plugin, pending, failure).await?;
                Ok(true)
            }
            Judgement::DeadlineExceeded if self.returns(plugin) => {
                let cause = worker::worker(deployment, pods);
                let message = format!(
                    "Revision {} ({}) did not come to serve within {seconds} s: {}",
                    pending.spec.number, pending.spec.artifact.version, cause.message
                );
                let failure = Failure {
                    reason: Reason::RolledBack,
                    message,
                };
                fail(context, plugin, pending, failure).await?;
                Ok(true)
            }
            Judgement::DeadlineExceeded | Judgement::Wait => Ok(false),
        }
    }

    /// Whether a failed revision is rolled back.
    fn returns(&self, plugin: &Plugin) -> bool {
        self.active.is_some() && plugin.spec.upgrade.on_failure == FailurePolicy::RollBack
    }

    async fn activate(
        &self,
        context: &Context,
        plugin: &Plugin,
        pending: &PaperclipPluginRevision,
        status: &mut PaperclipPluginStatus,
    ) -> Result<(), ReconcileError> {
        let others = self
            .revisions
            .iter()
            .filter(|one| one.spec.number != pending.spec.number);
        for other in others {
            if !matches!(
                revision::state(other),
                RevisionState::Active | RevisionState::Pending
            ) {
                continue;
            }
            let superseded = PaperclipPluginRevisionStatus {
                state: Some(RevisionState::Superseded),
                ..other.status.clone().unwrap_or_default()
            };
            write(context, plugin, other, &superseded).await?;
        }
        let served = PaperclipPluginRevisionStatus {
            state: Some(RevisionState::Active),
            served_at: Some(rfc3339(context.now())),
            reason: None,
            message: None,
            ..pending.status.clone().unwrap_or_default()
        };
        write(context, plugin, pending, &served).await?;
        tracing::info!(revision = pending.name_any(), "revision is active");
        status.active_revision = Some(RevisionStatus {
            name: pending.name_any(),
            number: pending.spec.number,
            added_capabilities: Vec::new(),
        });
        Ok(())
    }

    /// Removes what history has no room for.
    async fn prune(&self, context: &Context, plugin: &Plugin) -> Result<(), ReconcileError> {
        let needed: Vec<i64> = [&self.active, &self.wanted]
            .into_iter()
            .flatten()
            .map(|revision| revision.spec.number)
            .collect();
        let limit = plugin.spec.revision_history_limit;
        for name in revision::surplus(&self.revisions, &needed, limit) {
            let gone = revisions_of(context, plugin)
                .delete(&name, &DeleteParams::default())
                .await;
            match gone {
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                gone => {
                    gone.map_err(ReconcileError::request("deleting an old revision"))?;
                }
            }
        }
        Ok(())
    }

    /// The finding of a failed revision.
    fn failure(&self, plugin: &Plugin, failed: &PaperclipPluginRevision) -> Finding {
        let number = failed.spec.number;
        let words = failed
            .status
            .as_ref()
            .and_then(|status| status.message.clone());
        let mut message = words.unwrap_or_default();
        if !message.ends_with(['.', '!', '?']) {
            message.push('.');
        }
        let reason = if is_refused(failed) {
            Reason::ConfigRejected
        } else {
            Reason::RolledBack
        };
        if let Some(active) = self.active.as_ref().map(|active| active.spec.number) {
            message += &if self.frozen(plugin).is_some() {
                format!(" Revision {number} stays, since spec.upgrade.onFailure is Freeze.")
            } else if self.is_config_only(failed) {
                format!(" The worker goes on with the config of revision {active}.")
            } else {
                format!(
                    " Revision {active} runs again; revision {number} is not tried again until the resource requests something else."
                )
            };
        }
        Finding::no(reason, message)
    }

    /// `ConfigValid`, where all is there that the config needs.
    fn config(&self, failure: Option<&Finding>) -> Finding {
        let same = |[one, other]: [&PaperclipPluginRevision; 2]| {
            one.spec.config_hash == other.spec.config_hash && one.spec.secrets == other.spec.secrets
        };
        let runs = self.active.as_ref().zip(self.wanted.as_ref());
        let runs = runs.is_some_and(|(active, wanted)| same([active, wanted]));
        match failure {
            Some(refused) if refused.reason == Reason::ConfigRejected => refused.clone(),
            Some(_) if !runs => Finding::no(
                Reason::Pending,
                "No worker came to serve that could be asked to accept the config.".into(),
            ),
            None if self.pending().is_some() => Finding::no(
                Reason::Progressing,
                "The worker is asked to accept the config.".into(),
            ),
            _ => Finding::yes("The worker has the config."),
        }
    }

    fn outcome(
        &self,
        context: &Context,
        plugin: &Plugin,
        asked: &Asked,
        deployment: Option<Deployment>,
    ) -> Outcome {
        let failed = self
            .wanted
            .as_ref()
            .filter(|wanted| revision::state(wanted) == RevisionState::Failed);
        let late = self
            .pending()
            .filter(|_| !plugin.spec.suspend)
            .and_then(|pending| {
                let seconds = plugin.spec.upgrade.progress_deadline_seconds;
                let deadline = revision::deadline(pending, seconds, context.started)?;
                let left = deadline.duration_since(context.now());
                Some((pending, Duration::try_from(left).unwrap_or_default()))
            });
        let overdue = late.as_ref().filter(|(_, left)| left.is_zero());
        let failure = failed.map(|failed| self.failure(plugin, failed));
        let overdue = overdue.map(|(pending, _)| {
            let seconds = plugin.spec.upgrade.progress_deadline_seconds;
            let message = format!(
                "Revision {} did not come to serve within {seconds} s.",
                pending.spec.number
            );
            Finding::no(Reason::DeadlineExceeded, message)
        });
        let config = match &asked.wanted {
            Err(barred) if barred.reason == Reason::PluginIdTaken => Finding::no(
                Reason::Pending,
                "No worker is asked to accept the config while another plugin has the id.".into(),
            ),
            Err(refused) => refused.clone(),
            Ok(_) => self.config(failure.as_ref()),
        };
        let refused = asked.wanted.as_ref().err();
        let needs_a_person = refused.is_some_and(|found| found.reason.class() == Class::Person);
        Outcome {
            granted: asked.granted.clone(),
            stalled: failure.is_some()
                || overdue.is_some()
                || needs_a_person
                || !asked.added.is_empty(),
            failed: failure,
            overdue,
            config,
            deployment,
            again: late.map(|(_, left)| left).filter(|left| !left.is_zero()),
        }
    }
}

/// Whether a worker refused the config of a revision.
fn is_refused(revision: &PaperclipPluginRevision) -> bool {
    let reason = revision
        .status
        .as_ref()
        .and_then(|status| status.reason.as_ref());
    reason.is_some_and(|reason| *reason == Reason::ConfigRejected.to_string())
}

fn metadata(plugin: &Plugin, target: &Target) -> kube::api::ObjectMeta {
    let wanted = Desired {
        plugin,
        artifact: &target.artifact,
        granted: &target.grant.capabilities,
        host: target.host.clone(),
        resources: target.resources.clone(),
        activation: 0,
    };
    wanted.metadata("")
}

/// The highest numbers that status knows of, for where revisions were deleted. Releases that
/// did not write down the last one named two that may have been it.
fn recorded(status: &PaperclipPluginStatus) -> Recorded {
    let revisions = [&status.active_revision, &status.pending_revision];
    let named = revisions.into_iter().flatten();
    let highest = named.map(|revision| revision.number).max();
    Recorded {
        number: status.last_revision.or(highest).unwrap_or_default(),
        activation: status.activation.unwrap_or_default(),
    }
}

/// Makes a revision. One that an earlier pass made before it was cut off is in the list.
async fn create(
    context: &Context,
    plugin: &Plugin,
    revision: PaperclipPluginRevision,
) -> Result<PaperclipPluginRevision, ReconcileError> {
    let made = revisions_of(context, plugin)
        .create(&PostParams::default(), &revision)
        .await;
    let made = made.map_err(ReconcileError::request("creating a revision"))?;
    tracing::info!(revision = made.name_any(), "revision created");
    Ok(made)
}

async fn fail(
    context: &Context,
    plugin: &Plugin,
    revision: &PaperclipPluginRevision,
    failure: Failure,
) -> Result<(), ReconcileError> {
    tracing::warn!(revision = revision.name_any(), "{}", failure.message);
    let status = PaperclipPluginRevisionStatus {
        state: Some(RevisionState::Failed),
        reason: Some(failure.reason.to_string()),
        message: Some(failure.message),
        ..PaperclipPluginRevisionStatus::default()
    };
    write(context, plugin, revision, &status).await
}

async fn write(
    context: &Context,
    plugin: &Plugin,
    revision: &PaperclipPluginRevision,
    status: &PaperclipPluginRevisionStatus,
) -> Result<(), ReconcileError> {
    if revision.status.as_ref() == Some(status) {
        return Ok(());
    }
    let patch = json!({
        "apiVersion": "plugins.paperclip.ing/v1alpha1",
        "kind": "PaperclipPluginRevision",
        "metadata": { "name": revision.name_any() },
        "status": status,
    });
    let parameters = PatchParams::apply(labels::OPERATOR).force();
    revisions_of(context, plugin)
        .patch_status(&revision.name_any(), &parameters, &Patch::Apply(&patch))
        .await
        .map_err(ReconcileError::request("writing a revision's status"))?;
    Ok(())
}
