//! Reconciles `PaperclipHost`: issues its client certificate as a Secret of its namespace.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt, future::ready};
use k8s_openapi::{
    api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::OwnerReference, jiff::Timestamp,
};
use kube::{
    Api, Resource, ResourceExt,
    api::ObjectMeta,
    runtime::{Controller, controller::Action, watcher},
};
use paperclip_crds::{
    Keyed, MalformedObject, ObjectKey, labels,
    v1alpha1::{Condition, ConditionType, PaperclipHost, PaperclipHostStatus, Reason},
};
use paperclip_identity::Identity;
use paperclip_identity_issue::{Subject, expiry};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use crate::{
    apply::{ApplyError, apply},
    backoff::{self, Backoff},
    context::Context,
    errors::{chain, is_namespace_terminating},
    plugin::{Finding, condition, rfc3339},
    secrets::{self, SecretError},
    status,
};

const NAME: &str = "papercliphost";
const RESYNC: Duration = Duration::from_secs(600);

/// Cause of a reconcile that did not end.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The API server refused, or could not be reached.
    #[error("reading or reporting the host")]
    Request(#[from] kube::Error),
    /// The host has no namespace, name or uid.
    #[error(transparent)]
    Malformed(#[from] MalformedObject),
    /// The Secret could not be applied.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// The Secret could not be read or made.
    #[error(transparent)]
    Secret(#[from] SecretError),
}

impl HostError {
    fn needs_a_person(&self) -> bool {
        matches!(
            self,
            Self::Apply(ApplyError::Foreign { .. })
                | Self::Secret(SecretError::Apply(ApplyError::Foreign { .. }))
        )
    }
}

/// A host with its key.
type Host = Keyed<PaperclipHost>;

/// Reconciles hosts until told to stop.
pub async fn run(context: Arc<Context>, stop: CancellationToken) {
    let api: Api<PaperclipHost> = Api::all(context.client.clone());
    let backoff = Arc::new(Backoff::default());
    let (failures, passes) = (backoff.clone(), backoff.clone());
    Controller::new(api, watcher::Config::default())
        .graceful_shutdown_on(stop.cancelled_owned())
        .run(
            move |host, context| measured(host, context, backoff.clone()),
            move |host, error, _| after_failure(&host, error, &failures),
            context,
        )
        .for_each(|pass| {
            passes.ended(&pass);
            ready(())
        })
        .await;
}

async fn measured(
    host: Arc<PaperclipHost>,
    context: Arc<Context>,
    backoff: Arc<Backoff>,
) -> Result<Action, HostError> {
    let started = Instant::now();
    let result = reconcile(&host, &context).await;
    context
        .metrics
        .reconciled(NAME, started.elapsed(), result.is_err());
    if result.is_ok() {
        backoff.succeeded(&backoff::key(&*host));
    }
    result
}

fn after_failure(host: &PaperclipHost, error: &HostError, backoff: &Backoff) -> Action {
    let key = backoff::key(host);
    let wait = backoff.failed(&key);
    tracing::warn!(
        host = key,
        error = chain(error),
        ?wait,
        "reconcile of a host failed"
    );
    Action::requeue(wait)
}

/// Issues or renews the certificate of one host, and reports it.
///
/// # Errors
/// When the API server refuses, or an object of another has the Secret's name.
pub async fn reconcile(cached: &PaperclipHost, context: &Context) -> Result<Action, HostError> {
    let ObjectKey {
        namespace, name, ..
    } = ObjectKey::of(cached)?;
    let api: Api<PaperclipHost> = Api::namespaced(context.client.clone(), &namespace);
    let found = api.get_opt(&name).await?;
    let Some(host) = found.filter(|host| host.metadata.deletion_timestamp.is_none()) else {
        return Ok(Action::await_change());
    };
    let host = announce(Keyed::parse(host)?, context).await?;
    let outcome = certificate(&host, context).await;
    if let Err(error) = &outcome
        && is_namespace_terminating(error)
    {
        return Ok(Action::await_change());
    }
    let (found, expires) = match &outcome {
        Ok(expires) => (Outcome::Issued, expires.clone()),
        Err(error) => (Outcome::Failed(chain(error), error.needs_a_person()), None),
    };
    report(&host, context, &found, expires).await?;
    outcome.map(|_| Action::requeue(RESYNC))
}

/// Before anything is done about it, a new host says that it was seen.
async fn announce(mut host: Host, context: &Context) -> Result<Host, HostError> {
    if host
        .status
        .as_ref()
        .is_none_or(|status| status.conditions.is_empty())
    {
        host.status = Some(report(&host, context, &Outcome::Begun, None).await?);
    }
    Ok(host)
}

/// Issues the client certificate if it is due; when it ends.
async fn certificate(host: &Host, context: &Context) -> Result<Option<String>, HostError> {
    let ObjectKey {
        namespace, name, ..
    } = host.key.clone();
    let api: Api<Secret> = Api::namespaced(context.client.clone(), &namespace);
    let secret = format!("{name}-client-tls");
    let metadata = build_metadata(host, &secret);
    let subject = Subject::Identity(Identity::Host { namespace, name });
    let now = OffsetDateTime::now_utc();
    let due = secrets::leaf(&api, metadata, &subject, &context.authority, now).await?;
    let secret = match due {
        Some(desired) => apply(&api, &desired).await?,
        None => api.get(&secret).await?,
    };
    let end = expiry(&secrets::text(&secret, "tls.crt")?);
    let end = end.and_then(|end| Timestamp::from_second(end.unix_timestamp()).ok());
    Ok(end.map(rfc3339))
}

fn build_metadata(host: &PaperclipHost, name: &str) -> ObjectMeta {
    // Blocking the owner's deletion would need a right on its finalizers.
    let owner = host.controller_owner_ref(&()).map(|owner| OwnerReference {
        block_owner_deletion: None,
        ..owner
    });
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: host.namespace(),
        labels: Some(BTreeMap::from([
            (labels::MANAGED_BY.into(), labels::OPERATOR.into()),
            (labels::HOST.into(), host.name_any()),
        ])),
        owner_references: owner.map(|owner| vec![owner]),
        ..ObjectMeta::default()
    }
}

/// Outcome of a reconcile.
enum Outcome {
    /// It has only begun.
    Begun,
    /// The certificate is there.
    Issued,
    /// It failed with this message; whether only a person can help.
    Failed(String, bool),
}

impl Outcome {
    /// The status of `Ready`, what all conditions say, and the one beside `Ready`.
    fn conditions(&self) -> (&'static str, Finding, Option<ConditionType>) {
        match self {
            Self::Begun => {
                let message = "The operator has seen the resource.";
                let finding = Finding::no(Reason::Pending, message.into());
                ("Unknown", finding, Some(ConditionType::Reconciling))
            }
            Self::Issued => (
                "True",
                Finding::yes("The client certificate is issued."),
                None,
            ),
            Self::Failed(words, needs_a_person) => {
                let beside = if *needs_a_person {
                    ConditionType::Stalled
                } else {
                    ConditionType::Reconciling
                };
                let finding = Finding::no(Reason::ApplyFailed, words.clone());
                ("False", finding, Some(beside))
            }
        }
    }
}

fn conditions(host: &PaperclipHost, found: &Outcome, now: Timestamp) -> Vec<Condition> {
    let generation = host.metadata.generation;
    let previous = host
        .status
        .as_ref()
        .map(|status| &status.conditions[..])
        .unwrap_or_default();
    let (ready, finding, beside) = found.conditions();
    let of = |type_, status| condition(type_, status, finding.clone(), generation, previous, now);
    let beside = beside.map(|type_| of(type_, "True"));
    [of(ConditionType::Ready, ready)]
        .into_iter()
        .chain(beside)
        .collect()
}

/// Writes the status if it is new, and gives it.
async fn report(
    host: &Host,
    context: &Context,
    found: &Outcome,
    certificate_expires: Option<String>,
) -> Result<PaperclipHostStatus, HostError> {
    let before = host.status.clone().unwrap_or_default();
    let status = PaperclipHostStatus {
        observed_generation: host.metadata.generation,
        conditions: conditions(host, found, Timestamp::now()),
        certificate_expires: certificate_expires.or_else(|| before.certificate_expires.clone()),
    };
    if host.status.as_ref() != Some(&status) {
        let transition = [&before.conditions[..], &status.conditions];
        let warning = matches!(found, Outcome::Failed(..));
        status::write(context, host, &status, transition, warning).await?;
    }
    Ok(status)
}
