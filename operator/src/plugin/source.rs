//! The exact version of a source: as it is written, as the lock has it, or what its range
//! stood for when the registry was last asked.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use paperclip_artifact::resolve::{ResolveRequest, Resolved, locked};
use paperclip_crds::v1alpha1::{
    NpmSource, PaperclipPlugin, PaperclipPluginStatus, PluginSource, Reason, ResolutionStatus,
};

use super::{
    artifact::{self, Stage},
    conditions::{Finding, rfc3339},
    packing::{self, Progress},
    reconcile::ReconcileError,
};
use crate::context::Context;

/// The version to pack, or why there is none yet. Asks the registry, by a Job, where a range
/// is due; meanwhile, and when that fails, the version it stood for goes on.
pub async fn version(
    context: &Context,
    plugin: &PaperclipPlugin,
    status: &mut PaperclipPluginStatus,
    source: &NpmSource,
    lock: Option<&str>,
) -> Result<Result<String, Stage>, ReconcileError> {
    let Some(range) = &source.range else {
        status.resolution = None;
        return Ok(Ok(source.version.clone().unwrap_or_default()));
    };
    if let Some(lock) = lock {
        status.resolution = None;
        return Ok(locked(lock, &source.package).ok_or_else(|| {
            let message = format!(
                "The lock under spec.source.npm.lock has no package {}.",
                source.package
            );
            Stage::stalled(Finding::no(Reason::PackageRefused, message))
        }));
    }
    let asked = source.asked();
    let known = status.resolution.take();
    let known = known.filter(|known| known.source == asked);
    let requested = status.last_handled_reconcile_at.clone();
    if let Some(known) = &known
        && !is_due(known, source, requested.as_ref(), context.now())
    {
        let version = known.version.clone();
        status.resolution = Some(known.clone());
        return Ok(Ok(version));
    }
    let request = ResolveRequest {
        registry: context.args.npm_registry.clone(),
        package: source.package.clone(),
        range: range.clone(),
        round: round(known.as_ref(), requested.as_deref()),
    };
    if let Err(error) = request.validate() {
        let finding = Finding::no(Reason::PackageRefused, error.to_string());
        return Ok(Err(Stage::stalled(finding)));
    }
    let name = request.job_name();
    if status.failed_request.as_ref() == Some(&name)
        && let Some(finding) = artifact::recorded_failure(plugin)
    {
        return Ok(Err(Stage::stalled(finding)));
    }
    let (failure, stalled) = match look_up(context, plugin, &request).await? {
        Progress::Done(resolved) => {
            tracing::info!(source = asked, version = resolved.version, "range resolved");
            let version = resolved.version.clone();
            status.resolution = Some(resolution(asked, resolved, requested, context.now()));
            return Ok(Ok(version));
        }
        Progress::Under(finding) => (finding, false),
        Progress::Failed(finding, at_fault) => (finding, at_fault),
    };
    if let Some(mut known) = known {
        let version = known.version.clone();
        known.failure = (failure.reason != Reason::Packing).then_some(failure.message);
        status.resolution = Some(known);
        return Ok(Ok(version));
    }
    if stalled {
        status.failed_request = Some(name);
        return Ok(Err(Stage::stalled(failure)));
    }
    let failure = artifact::still_failing(plugin, failure);
    Ok(Err(Stage::under_way(failure)))
}

async fn look_up(
    context: &Context,
    plugin: &PaperclipPlugin,
    request: &ResolveRequest,
) -> Result<Progress<Resolved>, ReconcileError> {
    let name = request.job_name();
    let package = format!("{}@{}", request.package, request.range);
    if let Some(job) = artifact::job(context, &name).await? {
        let pods = context.pods.of_job(&context.args.namespace, &name);
        return Ok(packing::resolve_progress(&job, &package, &pods));
    }
    let job = packing::build_resolve_job(request, &context.args);
    let job = job.map_err(ReconcileError::Encode)?;
    artifact::create(context, plugin, &job, &package).await
}

fn resolution(
    source: String,
    resolved: Resolved,
    request: Option<String>,
    now: Timestamp,
) -> ResolutionStatus {
    ResolutionStatus {
        source,
        version: resolved.version,
        integrity: resolved.integrity,
        resolved_at: rfc3339(now),
        request,
        failure: None,
    }
}

/// Names one look at the registry: the same while it is under way, whichever operator asks.
fn round(known: Option<&ResolutionStatus>, requested: Option<&str>) -> String {
    let since = known.map(|known| known.resolved_at.as_str());
    let parts = [since, requested].map(Option::unwrap_or_default);
    parts.join(" ")
}

/// Whether the registry is to be asked again.
fn is_due(
    known: &ResolutionStatus,
    source: &NpmSource,
    requested: Option<&String>,
    now: Timestamp,
) -> bool {
    known.request.as_ref() != requested || left(known, source, now).is_zero()
}

/// How long what is known stays good. A time to come, from a clock that was wrong, does not.
fn left(known: &ResolutionStatus, source: &NpmSource, now: Timestamp) -> Duration {
    let interval = u64::try_from(source.resolve_interval_seconds).unwrap_or(0);
    let interval = Duration::from_secs(interval);
    let Ok(since) = known.resolved_at.parse::<Timestamp>() else {
        return Duration::ZERO;
    };
    match Duration::try_from(now.duration_since(since)) {
        Ok(age) => interval.saturating_sub(age),
        Err(_) => Duration::ZERO,
    }
}

/// When the registry is to be asked again; `None` for an exact version.
#[must_use]
pub fn due_in(
    plugin: &PaperclipPlugin,
    status: &PaperclipPluginStatus,
    now: Timestamp,
) -> Option<Duration> {
    let PluginSource::Npm(source) = &plugin.spec.source else {
        return None;
    };
    let known = status.resolution.as_ref()?;
    let soon = Duration::from_secs(1);
    (known.source == source.asked()).then(|| left(known, source, now).max(soon))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::fixtures;

    const THEN: &str = "2026-01-01T00:00:00Z";

    fn source() -> NpmSource {
        NpmSource {
            version: None,
            range: Some("^1.0.0".into()),
            resolve_interval_seconds: 600,
            ..fixtures::npm()
        }
    }

    fn known() -> ResolutionStatus {
        ResolutionStatus {
            source: source().asked(),
            version: "1.2.3".into(),
            resolved_at: THEN.into(),
            request: Some("a".into()),
            ..ResolutionStatus::default()
        }
    }

    fn due(requested: Option<&str>, now: &str) -> bool {
        let requested = requested.map(str::to_owned);
        is_due(
            &known(),
            &source(),
            requested.as_ref(),
            now.parse().unwrap(),
        )
    }

    #[test]
    fn a_range_is_due_after_its_interval_on_request_and_when_the_clock_was_wrong() {
        assert!(!due(Some("a"), "2026-01-01T00:09:59Z"));
        assert!(due(Some("a"), "2026-01-01T00:10:00Z"));
        assert!(due(Some("b"), "2026-01-01T00:00:01Z"));
        assert!(due(Some("a"), "2025-01-01T00:00:00Z"));
    }

    #[test]
    fn a_look_has_one_name_until_it_ends() {
        assert_eq!(
            round(Some(&known()), Some("a")),
            round(Some(&known()), Some("a"))
        );
        let later = ResolutionStatus {
            resolved_at: "2026-01-01T00:10:00Z".into(),
            ..known()
        };
        assert_ne!(
            round(Some(&known()), Some("a")),
            round(Some(&later), Some("a"))
        );
        assert_ne!(
            round(Some(&known()), Some("a")),
            round(Some(&known()), Some("b"))
        );
        assert_ne!(round(Some(&known()), None), round(None, None));
    }

    #[test]
    fn the_next_look_is_planned() {
        let mut plugin = fixtures::plugin();
        plugin.spec.source = PluginSource::Npm(source());
        let mut status = PaperclipPluginStatus::default();
        assert_eq!(due_in(&plugin, &status, THEN.parse().unwrap()), None);
        status.resolution = Some(known());
        let after = "2026-01-01T00:04:00Z".parse().unwrap();
        let planned = due_in(&plugin, &status, after);
        assert_eq!(planned, Some(Duration::from_secs(360)));
    }
}
