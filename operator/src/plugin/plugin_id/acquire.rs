//! Takes the claims that a pass needs and gives back those that nothing needs any more.
//!
//! A claim is taken before any object is applied that would make a host see the plugin. The
//! id is in the plugin's status by then, so that whoever meets the claim finds out what it
//! is for.

use k8s_openapi::api::{apps::v1::Deployment, core::v1::ConfigMap};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, PostParams, Preconditions},
};
use paperclip_crds::{
    ObjectKey, labels,
    v1alpha1::{PaperclipHost, PaperclipPlugin, PaperclipPluginRevision, PaperclipPluginStatus},
};

use super::claim::{self, Claim, Decision, Key, Observed};
use crate::{
    apply::ApplyError,
    context::Context,
    plugin::{Plugin, conditions::Finding, error::ReconcileError, rollout},
};

/// Others may make and remove a claim while we look at it. After so many rounds we come
/// back later.
const ROUNDS: usize = 3;

/// Rights of a plugin by its claims.
#[derive(Debug, PartialEq, Eq)]
pub enum ClaimOutcome {
    /// All claims are held.
    Held,
    /// Those of the active revision are held, those of the spec are not.
    HeldByActive(Finding),
    /// The host of the spec serves another plugin of the id. Pods of another host stay if
    /// `keeps_pods`.
    Denied {
        /// The holder of the id.
        taken: Finding,
        /// The claim of the running pods is held.
        keeps_pods: bool,
    },
}

/// Takes what the plugin needs. Its id is in `status`, and so in the API server.
///
/// # Errors
/// When the API server fails, or the name of a claim belongs to something else.
pub async fn take(
    context: &Context,
    plugin: &Plugin,
    status: &PaperclipPluginStatus,
    revisions: &[PaperclipPluginRevision],
    deployment: Option<&Deployment>,
) -> Result<ClaimOutcome, ReconcileError> {
    let mut now = plugin.clone();
    now.status = Some(status.clone());
    let observed = Observed {
        plugin: Some(&now),
        is_admitted: true,
        revisions,
        deployment,
        pods: &[],
    };
    let host = now.host_reference();
    let of = |plugin_id: &str| Key {
        host: host.clone(),
        plugin_id: plugin_id.to_owned(),
    };
    let asked = status.plugin.as_ref().map(|summary| of(&summary.id));
    let ids = observed.ids(&now);
    let running = observed.running(&now);
    let mut needed: Vec<Key> = ids.iter().map(|id| of(id)).collect();
    needed.extend(running.clone().filter(|running| !needed.contains(running)));

    let ours = list(context, &now).await?;
    let mut lost: Vec<Claim> = Vec::new();
    for key in &needed {
        if !ours.iter().any(|(claim, _)| claim.key == *key) {
            lost.extend(acquire(context, &now.key, key).await?);
        }
    }
    let spare: Vec<_> = ours
        .iter()
        .filter(|(claim, _)| !needed.contains(&claim.key))
        .collect();
    if !spare.is_empty() {
        release(context, &now, &observed, &spare).await?;
    }

    Ok(outcome(
        &lost,
        asked.as_ref(),
        ids.len() > 1,
        running.as_ref(),
    ))
}

/// Rights of a plugin when others hold these claims. `has_other`: the active revision
/// has another id than what the spec asks for.
fn outcome(
    lost: &[Claim],
    asked: Option<&Key>,
    has_other: bool,
    running: Option<&Key>,
) -> ClaimOutcome {
    let Some(first) = lost.first() else {
        return ClaimOutcome::Held;
    };
    let taken = claim::taken(first);
    if has_other && lost.iter().all(|claim| Some(&claim.key) == asked) {
        return ClaimOutcome::HeldByActive(taken);
    }
    let is_lost = |key: &Key| lost.iter().any(|claim| claim.key == *key);
    ClaimOutcome::Denied {
        taken,
        keeps_pods: running.is_some_and(|running| !is_lost(running)),
    }
}

fn api(context: &Context) -> Api<ConfigMap> {
    Api::namespaced(context.client.clone(), &context.args.namespace)
}

/// Claims of a plugin.
async fn list(
    context: &Context,
    plugin: &Plugin,
) -> Result<Vec<(Claim, ConfigMap)>, ReconcileError> {
    let uid = &plugin.key.uid;
    let claims = select(context, &format!("{}={uid}", labels::PLUGIN_UID)).await?;
    Ok(claims
        .into_iter()
        .filter(|(claim, _)| claim.holder.uid == *uid)
        .collect())
}

/// Claims that a selector selects.
async fn select(
    context: &Context,
    selector: &str,
) -> Result<Vec<(Claim, ConfigMap)>, ReconcileError> {
    let selector = format!("{}={},{selector}", labels::COMPONENT, claim::COMPONENT);
    let found = api(context)
        .list(&ListParams::default().labels(&selector))
        .await
        .map_err(ReconcileError::request("listing claims"))?;
    let claims = found.items.into_iter();
    Ok(claims
        .filter_map(|object| Some((Claim::parse(&object)?, object)))
        .collect())
}

/// Removes the claims of plugins that are gone and whom nobody has followed.
///
/// # Errors
/// When the API server fails.
pub async fn sweep(context: &Context) -> Result<(), ReconcileError> {
    let ours = format!("{}={}", labels::MANAGED_BY, labels::OPERATOR);
    for (claim, object) in select(context, &ours).await? {
        if find(context, &claim.holder).await?.is_none() && !is_needed(context, &claim).await? {
            tracing::info!(
                claim = object.name_any(),
                "claim of a deleted plugin removed"
            );
            remove(context, &object).await?;
        }
    }
    Ok(())
}

/// The plugin that has a claim, unless it is gone or was made anew.
async fn find(
    context: &Context,
    ObjectKey {
        namespace,
        name,
        uid,
    }: &ObjectKey,
) -> Result<Option<Plugin>, ReconcileError> {
    let api: Api<PaperclipPlugin> = Api::namespaced(context.client.clone(), namespace);
    let found = api.get_opt(name).await;
    let found = found.map_err(ReconcileError::request(
        "reading the plugin that has the id",
    ))?;
    let found = found.filter(|plugin| plugin.uid().as_ref() == Some(uid));
    Ok(found.map(Plugin::parse).transpose()?)
}

/// Takes one claim, or says whose it is.
async fn acquire(
    context: &Context,
    us: &ObjectKey,
    key: &Key,
) -> Result<Option<Claim>, ReconcileError> {
    let name = key.name();
    let mut last = None;
    for _ in 0..ROUNDS {
        let object = api(context).get_opt(&name).await;
        let object = object.map_err(ReconcileError::request("reading a claim"))?;
        let existing = object.as_ref().map(|object| {
            let claim = Claim::parse(object).filter(|claim| claim.key == *key);
            claim.ok_or_else(|| ApplyError::Foreign {
                kind: "ConfigMap".into(),
                name: name.clone(),
            })
        });
        let existing = existing.transpose()?;
        let is_needed = match &existing {
            Some(claim) if claim.holder.uid != us.uid => is_needed(context, claim).await?,
            _ => false,
        };
        match claim::decide(existing.as_ref(), us, is_needed) {
            Decision::Ours => return Ok(None),
            Decision::Taken => return Ok(existing),
            Decision::TakeOver => {
                if let Some(object) = &object {
                    tracing::info!(claim = name, "taking over a claim that nobody needs");
                    remove(context, object).await?;
                }
            }
            Decision::Create => {}
        }
        if create(context, us, key).await? {
            return Ok(None);
        }
        last = existing;
    }
    Ok(last)
}

/// Makes a claim. False when another was faster.
async fn create(context: &Context, us: &ObjectKey, key: &Key) -> Result<bool, ReconcileError> {
    let claim = Claim {
        key: key.clone(),
        holder: us.clone(),
    };
    let object = claim.build(&context.args.namespace);
    match api(context).create(&PostParams::default(), &object).await {
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        created => {
            created.map_err(ReconcileError::request("creating a claim"))?;
            let name = object.name_any();
            tracing::info!(claim = name, id = key.plugin_id, "plugin id claimed");
            Ok(true)
        }
    }
}

/// Removes a claim as it was seen, and nothing that came after.
async fn remove(context: &Context, object: &ConfigMap) -> Result<(), ReconcileError> {
    let parameters = DeleteParams::default().preconditions(Preconditions {
        uid: object.uid(),
        resource_version: object.resource_version(),
    });
    match api(context).delete(&object.name_any(), &parameters).await {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        removed => removed
            .map(|_| ())
            .map_err(ReconcileError::request("removing a claim")),
    }
}

/// Gives back the claims that nothing of the plugin uses any more.
async fn release(
    context: &Context,
    plugin: &Plugin,
    observed: &Observed<'_>,
    spare: &[&(Claim, ConfigMap)],
) -> Result<(), ReconcileError> {
    let uid = &plugin.key.uid;
    context.pods.settled(uid).await;
    if !context.pods.are_listed() {
        return Ok(());
    }
    let observed = Observed {
        pods: &context.pods.of_plugin(uid),
        ..*observed
    };
    for (claim, object) in spare {
        if !observed.uses(plugin, &claim.key) {
            tracing::info!(claim = object.name_any(), "claim given back");
            remove(context, object).await?;
        }
    }
    Ok(())
}

/// Whether the holder of a claim, which is another plugin, still needs it.
async fn is_needed(context: &Context, claim: &Claim) -> Result<bool, ReconcileError> {
    let ObjectKey {
        namespace,
        name,
        uid,
    } = &claim.holder;
    context.pods.settled(uid).await;
    if !context.pods.are_listed() {
        return Ok(true);
    }
    let pods = context.pods.of_plugin(uid);
    let plugin = find(context, &claim.holder).await?;
    let Some(plugin) = plugin else {
        let gone = Observed {
            plugin: None,
            is_admitted: false,
            revisions: &[],
            deployment: None,
            pods: &pods,
        };
        return Ok(gone.needs(&claim.key));
    };
    let deployments: Api<Deployment> = Api::namespaced(context.client.clone(), namespace);
    let deployment = deployments.get_opt(&format!("pcp-{name}")).await;
    let deployment = deployment.map_err(ReconcileError::request(
        "reading the Deployment of the plugin that has the id",
    ))?;
    let observed = Observed {
        plugin: Some(&plugin),
        is_admitted: is_admitted(context, claim).await?,
        revisions: &rollout::list(context, &plugin).await?,
        deployment: deployment.as_ref(),
        pods: &pods,
    };
    Ok(observed.needs(&claim.key))
}

/// Whether the host lets the holder in. A host that is not there turns nobody away.
async fn is_admitted(context: &Context, claim: &Claim) -> Result<bool, ReconcileError> {
    let (namespace, name) = &claim.key.host;
    let hosts: Api<PaperclipHost> = Api::namespaced(context.client.clone(), namespace);
    let host = hosts.get_opt(name).await;
    let host = host.map_err(ReconcileError::request("reading the host"))?;
    Ok(host.is_none_or(|host| {
        let allowed = &host.spec.allowed_namespaces;
        allowed.allows(&claim.holder.namespace, namespace)
    }))
}
