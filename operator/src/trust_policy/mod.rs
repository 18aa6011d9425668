//! Reconciles `PaperclipTrustPolicy`: whether it can be used, and for how many plugins it is.
//!
//! What a policy means for a plugin is decided when that plugin is reconciled; the status
//! here is for the person who wrote the policy.

mod policy;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt, future::ready};
use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, Resource, ResourceExt,
    api::{ListParams, Patch, PatchParams},
    runtime::{Controller, controller::Action, watcher},
};
use paperclip_artifact::inputs;
use paperclip_crds::{
    labels,
    v1alpha1::{
        Condition, ConditionType, PaperclipPlugin, PaperclipTrustPolicy,
        PaperclipTrustPolicyStatus, PluginSource, PolicySubject,
    },
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

pub use self::policy::{PolicyError, resolve};
use crate::{
    backoff::{self, Backoff},
    context::Context,
    errors::chain,
    plugin::{Finding, condition},
};

const NAME: &str = "papercliptrustpolicy";
/// Longest delay after which a changed ConfigMap or number of plugins is seen.
const RESYNC: Duration = Duration::from_secs(60);

/// Reconciles policies until told to stop.
pub async fn run(context: Arc<Context>, stop: CancellationToken) {
    let api: Api<PaperclipTrustPolicy> = Api::all(context.client.clone());
    let backoff = Arc::new(Backoff::default());
    let (failures, passes) = (backoff.clone(), backoff.clone());
    Controller::new(api, watcher::Config::default())
        .graceful_shutdown_on(stop.cancelled_owned())
        .run(
            move |policy, context| measured(policy, context, backoff.clone()),
            move |policy, error, _| after_failure(&policy, error, &failures),
            context,
        )
        .for_each(|pass| {
            passes.ended(&pass);
            ready(())
        })
        .await;
}

async fn measured(
    policy: Arc<PaperclipTrustPolicy>,
    context: Arc<Context>,
    backoff: Arc<Backoff>,
) -> Result<Action, PolicyError> {
    let started = Instant::now();
    let result = reconcile(&policy, &context).await;
    context
        .metrics
        .reconciled(NAME, started.elapsed(), result.is_err());
    if result.is_ok() {
        backoff.succeeded(&backoff::key(&*policy));
    }
    result
}

fn after_failure(policy: &PaperclipTrustPolicy, error: &PolicyError, backoff: &Backoff) -> Action {
    let wait = backoff.failed(&backoff::key(policy));
    tracing::warn!(
        policy = policy.name_any(),
        error = chain(error),
        ?wait,
        "reconcile of a trust policy failed"
    );
    Action::requeue(wait)
}

/// Checks one policy, counts its plugins, and reports both.
///
/// # Errors
/// When the API server refuses.
pub async fn reconcile(
    policy: &PaperclipTrustPolicy,
    context: &Context,
) -> Result<Action, PolicyError> {
    if policy.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let (status, finding) = match resolve(context, policy).await {
        Ok(_) => ("True", Finding::yes("The policy can be checked.")),
        Err(PolicyError::Unusable(finding)) => ("False", finding),
        Err(error) => return Err(error),
    };
    let plugins = count(context, policy).await?;
    let previous = policy.status.as_ref();
    let previous = previous.map_or(&[][..], |status| &status.conditions);
    let observed = PaperclipTrustPolicyStatus {
        observed_generation: policy.metadata.generation,
        conditions: conditions(policy, status, &finding, previous, context.now()),
        plugins: Some(plugins),
    };
    if policy.status.as_ref() != Some(&observed) {
        report(context, policy, &observed).await?;
    }
    Ok(Action::requeue(RESYNC))
}

/// `Ready`, and `Stalled` beside it where a person must correct the policy.
fn conditions(
    policy: &PaperclipTrustPolicy,
    status: &str,
    finding: &Finding,
    previous: &[Condition],
    now: Timestamp,
) -> Vec<Condition> {
    let generation = policy.metadata.generation;
    let of = |type_, status| condition(type_, status, finding.clone(), generation, previous, now);
    let mut conditions = vec![of(ConditionType::Ready, status)];
    if !finding.holds {
        conditions.push(of(ConditionType::Stalled, "True"));
    }
    conditions
}

async fn report(
    context: &Context,
    policy: &PaperclipTrustPolicy,
    status: &PaperclipTrustPolicyStatus,
) -> Result<(), PolicyError> {
    let api: Api<PaperclipTrustPolicy> = Api::all(context.client.clone());
    let patch = json!({
        "apiVersion": PaperclipTrustPolicy::api_version(&()),
        "kind": PaperclipTrustPolicy::kind(&()),
        "metadata": { "name": policy.name_any() },
        "status": status,
    });
    let parameters = PatchParams::apply(labels::OPERATOR).force();
    match api
        .patch_status(&policy.name_any(), &parameters, &Patch::Apply(&patch))
        .await
    {
        // It is gone.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        written => written.map(|_| ()).map_err(PolicyError::from),
    }
}

/// Number of plugins of the cluster that the policy is for.
async fn count(context: &Context, policy: &PaperclipTrustPolicy) -> Result<i64, PolicyError> {
    let plugins: Api<PaperclipPlugin> = Api::all(context.client.clone());
    // A number for people: what the API server has in memory will do.
    let lately = ListParams::default().match_any();
    let plugins = plugins.list(&lately).await?;
    let mut namespaces: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    let mut count = 0;
    for plugin in &plugins {
        let Some(namespace) = plugin.namespace() else {
            continue;
        };
        if !namespaces.contains_key(&namespace) {
            let found = context.reflectors.labels_of(&namespace).await?;
            namespaces.insert(namespace.clone(), found);
        }
        let Some(labels) = namespaces.get(&namespace) else {
            continue;
        };
        let (package, registry) = origin(context, plugin);
        let subject = PolicySubject {
            namespace: &namespace,
            labels,
            package: &package,
            registry: &registry,
        };
        count += i64::from(policy.spec.matches.includes(&subject));
    }
    Ok(count)
}

/// Package and registry of a plugin, by which policies match. A tarball and an artifact of
/// another cluster name their package themselves, so no policy goes by that name: they are of
/// no package, and of the place they come from.
#[must_use]
pub fn origin(context: &Context, plugin: &PaperclipPlugin) -> (String, String) {
    match &plugin.spec.source {
        PluginSource::Npm(source) => {
            let own = source.registry.as_ref();
            let registry = own.unwrap_or(&context.args.npm_registry);
            (source.package.clone(), registry.clone())
        }
        PluginSource::Http(source) => {
            let url = url::Url::parse(&source.url);
            let place = url.map_or_else(
                |_| source.url.clone(),
                |url| url.origin().ascii_serialization(),
            );
            (String::new(), place)
        }
        PluginSource::Oci(source) => (String::new(), source.repository.clone()),
        PluginSource::ConfigMap(_) => {
            let id = plugin.spec.manifest.as_ref().and_then(|it| it.get("id"));
            let id = id.and_then(|id| id.as_str()).unwrap_or_default();
            (id.to_owned(), inputs::CONFIG_MAP.to_owned())
        }
    }
}
