//! Resolution of a source: the exact version as it is written, as the lock file has it, or as its
//! registry answered last.
//!
//! A registry is asked where the answer moves (a range, a tag), where nobody else knows it (a
//! tarball), and with a registry or a credential of the plugin's own: what another's credential
//! opened is no answer then.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use paperclip_crds::v1alpha1::{PaperclipPluginStatus, Reason, ResolutionStatus};
use paperclip_packing_api::resolve::{ResolveRequest, Resolved, Wanted};

use super::{
    Plugin,
    artifact::{self, Stage},
    conditions::{Finding, rfc3339},
    credential::Access,
    error::ReconcileError,
    packing::{self, Progress},
    unfinished::Unfinished,
};
use crate::context::Context;

/// Resolves a source. Asks its registry, by a Job, where that is due; meanwhile, and when that
/// fails, the last resolution goes on.
///
/// # Errors
/// Blocked while there is no resolution, failed where the API server fails.
pub async fn resolve(
    context: &Context,
    plugin: &Plugin,
    status: &mut PaperclipPluginStatus,
    wanted: Wanted,
    access: Option<&Access>,
) -> Result<Resolved, Unfinished<Stage>> {
    let asked = plugin.spec.source.asked().unwrap_or_default();
    let known = status.resolution.take();
    let known = known.filter(|known| known.source == asked && is_of(known, &wanted));
    let interval = plugin.spec.source.resolve_interval_seconds();
    let requested = status.last_handled_reconcile_at.clone();
    let credential = access.map(|access| access.tenant.credential.as_str());
    if let Some(known) = &known
        && known.credential.as_deref() == credential
        && !is_due(known, interval, requested.as_ref(), context.now())
    {
        status.resolution = Some(known.clone());
        return Ok(resolved(known));
    }
    let request = ResolveRequest {
        wanted,
        round: round(known.as_ref(), requested.as_deref()),
        tenant: access.map(|access| access.tenant.clone()),
    };
    if let Err(error) = request.validate() {
        let finding = Finding::no(Reason::PackageRefused, error.to_string());
        return Err(Unfinished::Blocked(Stage::stalled(finding)));
    }
    let name = request.job_name();
    if status.failed_request.as_ref() == Some(&name)
        && let Some(finding) = artifact::recorded_failure(plugin)
    {
        return Err(Unfinished::Blocked(Stage::stalled(finding)));
    }
    let (failure, stalled) = match ask(context, plugin, &request, &asked, access).await? {
        Progress::Done(resolved) => {
            let version = &resolved.version;
            tracing::info!(source = asked, version, "source resolved");
            status.resolution = Some(ResolutionStatus {
                credential: credential.map(str::to_owned),
                ..resolution(asked, resolved.clone(), requested, context.now())
            });
            return Ok(resolved);
        }
        Progress::Under(finding) => (finding, false),
        Progress::Failed(finding, at_fault) => (finding, at_fault),
    };
    if let Some(mut known) = known {
        known.failure = (failure.reason != Reason::Packing).then_some(failure.message);
        status.resolution = Some(known.clone());
        return Ok(resolved(&known));
    }
    if stalled {
        status.failed_request = Some(name);
        return Err(Unfinished::Blocked(Stage::stalled(failure)));
    }
    let failure = artifact::still_failing(plugin, failure);
    Err(Unfinished::Blocked(Stage::under_way(failure)))
}

/// Whether what is known is of the same tarball; what else is wanted stands in `source`.
fn is_of(known: &ResolutionStatus, wanted: &Wanted) -> bool {
    match wanted {
        Wanted::Tarball { integrity, .. } => known.integrity == *integrity,
        Wanted::Npm { .. } | Wanted::Image { .. } => true,
    }
}

fn resolved(known: &ResolutionStatus) -> Resolved {
    Resolved {
        package: known.package.clone(),
        version: known.version.clone(),
        integrity: known.integrity.clone(),
    }
}

async fn ask(
    context: &Context,
    plugin: &Plugin,
    request: &ResolveRequest,
    asked: &str,
    access: Option<&Access>,
) -> Result<Progress<Resolved>, ReconcileError> {
    if let Some(obstacle) = access.and_then(Access::obstacle) {
        return Ok(Progress::Under(obstacle.clone()));
    }
    let name = request.job_name();
    if let Some(job) = artifact::job(context, &name, access).await? {
        let pods = context.pods.of_job(&context.args.namespace, &name);
        return Ok(packing::resolve_progress(&job, asked, &pods));
    }
    let job = packing::build_resolve_job(request, asked, &context.args);
    let job = job.map_err(ReconcileError::Encode)?;
    artifact::create(context, plugin, &job, asked, access).await
}

fn resolution(
    source: String,
    resolved: Resolved,
    request: Option<String>,
    now: Timestamp,
) -> ResolutionStatus {
    ResolutionStatus {
        source,
        package: resolved.package,
        version: resolved.version,
        integrity: resolved.integrity,
        credential: None,
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

/// Whether the place is to be asked again.
fn is_due(
    known: &ResolutionStatus,
    interval: Option<i32>,
    requested: Option<&String>,
    now: Timestamp,
) -> bool {
    // What never moves is asked once.
    let Some(interval) = interval else {
        return false;
    };
    known.request.as_ref() != requested || left(known, interval, now).is_zero()
}

/// Time for which a resolution stays good. A time to come, from a clock that was wrong, does not.
fn left(known: &ResolutionStatus, interval: i32, now: Timestamp) -> Duration {
    let interval = u64::try_from(interval).unwrap_or(0);
    let interval = Duration::from_secs(interval);
    let Ok(since) = known.resolved_at.parse::<Timestamp>() else {
        return Duration::ZERO;
    };
    match Duration::try_from(now.duration_since(since)) {
        Ok(age) => interval.saturating_sub(age),
        Err(_) => Duration::ZERO,
    }
}

/// When the place is to be asked again; `None` where the answer never moves.
#[must_use]
pub fn due_in(plugin: &Plugin, status: &PaperclipPluginStatus, now: Timestamp) -> Option<Duration> {
    let source = &plugin.spec.source;
    let interval = source.resolve_interval_seconds()?;
    let known = status.resolution.as_ref()?;
    let soon = Duration::from_secs(1);
    (source.asked().as_ref() == Some(&known.source)).then(|| left(known, interval, now).max(soon))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::fixtures;
    use paperclip_crds::v1alpha1::{NpmSource, PluginSource};

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
        let interval = Some(source().resolve_interval_seconds);
        is_due(&known(), interval, requested.as_ref(), now.parse().unwrap())
    }

    #[test]
    fn what_never_moves_is_asked_once() {
        let (asked, now) = ("b".to_owned(), "2030-01-01T00:00:00Z".parse().unwrap());
        assert!(!is_due(&known(), None, Some(&asked), now));
    }

    #[test]
    fn another_integrity_is_another_tarball() {
        let of = |integrity: &str| Wanted::Tarball {
            url: "https://files.example/x.tgz".into(),
            integrity: integrity.into(),
        };
        let known = ResolutionStatus {
            integrity: "sha512-a".into(),
            ..known()
        };
        assert!(is_of(&known, &of("sha512-a")) && !is_of(&known, &of("sha512-b")));
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
