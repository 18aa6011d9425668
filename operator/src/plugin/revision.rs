//! Revisions of a plugin: which one the spec asks for, and what follows. Pure.

use k8s_openapi::jiff::{Timestamp, ToSpan};
use kube::{ResourceExt, api::ObjectMeta};
use paperclip_crds::v1alpha1::{
    ArtifactStatus, Grant, GrantOrigin, HostReference, PaperclipPluginRevision,
    PaperclipPluginRevisionSpec, PluginSummary, RevisionArtifact, RevisionState, SecretVersion,
    WorkerResources,
};
use serde_json::{Map, Value};

use super::Plugin;

/// Seconds in which an operator that has just started has heard every pod that speaks.
const HEARING: i64 = 30;

/// Request of the spec, with everything resolved.
#[derive(Clone, Debug)]
pub struct Target {
    /// The artifact that runs.
    pub artifact: RevisionArtifact,
    /// SHA-256 of the plugin manifest in canonical JSON.
    pub manifest_digest: String,
    /// The plugin manifest in short.
    pub summary: PluginSummary,
    /// Hash of what the pod template is made from.
    pub template_hash: String,
    /// Hash of the config.
    pub config_hash: String,
    /// Versions of the Secrets.
    pub secrets: Vec<SecretVersion>,
    /// Granted capabilities.
    pub grant: Grant,
    /// Namespace and name of the host.
    pub host: (String, String),
    /// CPU and memory of the worker, as far as they are asked for.
    pub resources: WorkerResources,
}

impl Target {
    /// Whether a revision is the target.
    #[must_use]
    pub fn is(&self, revision: &PaperclipPluginRevision) -> bool {
        let spec = &revision.spec;
        spec.template_hash == self.template_hash
            && spec.config_hash == self.config_hash
            && spec.secrets == self.secrets
    }
}

/// Capabilities that are granted to a plugin, and those that its manifest requests beyond them.
///
/// Pinned capabilities are the grant. Else it is what the first revision was granted, which
/// is `recorded`, or what it asks for while there is none.
#[must_use]
pub fn grant(
    pins: Option<&Map<String, Value>>,
    recorded: Option<&[String]>,
    asked: &[String],
) -> (Grant, Vec<String>) {
    let pinned = pins.and_then(|pins| pins.get("capabilities")?.as_array());
    let sorted = |mut capabilities: Vec<String>| {
        capabilities.sort();
        capabilities.dedup();
        capabilities
    };
    let grant = match pinned {
        Some(pinned) => Grant {
            origin: GrantOrigin::Pinned,
            capabilities: sorted(
                pinned
                    .iter()
                    .filter_map(Value::as_str)
                    .map(Into::into)
                    .collect(),
            ),
        },
        None => Grant {
            origin: GrantOrigin::FirstRevision,
            capabilities: sorted(recorded.unwrap_or(asked).to_vec()),
        },
    };
    let added = asked.iter().filter(|one| !grant.capabilities.contains(one));
    let added = sorted(added.cloned().collect());
    (grant, added)
}

/// The revision that the spec asks for, of those that are there, oldest first: the active
/// one, else the newest. What an older one had is asked for anew under a new number, so
/// that numbers tell the order of what ran.
#[must_use]
pub fn find<'a>(
    target: &Target,
    revisions: &'a [PaperclipPluginRevision],
    active: Option<i64>,
) -> Option<&'a PaperclipPluginRevision> {
    let active = revisions
        .iter()
        .find(|revision| Some(revision.spec.number) == active);
    let candidates = [active, revisions.last()];
    candidates
        .into_iter()
        .flatten()
        .find(|revision| target.is(revision))
}

/// The highest numbers that were given before.
#[derive(Clone, Copy, Debug, Default)]
pub struct Recorded {
    /// Of a revision.
    pub number: i64,
    /// Of an activation.
    pub activation: i64,
}

/// The host that a revision is attached to; that of the spec for one that does not say.
#[must_use]
pub fn host(revision: &PaperclipPluginRevisionSpec, plugin: &Plugin) -> (String, String) {
    let recorded = revision.host.clone();
    let recorded = recorded.and_then(|host| Some((host.namespace?, host.name)));
    recorded.unwrap_or_else(|| plugin.host_reference())
}

/// The next revision. It shares the activation of a revision with the same template, or
/// gets the next number.
#[must_use]
pub fn build(
    plugin: &Plugin,
    target: Target,
    revisions: &[PaperclipPluginRevision],
    active: Option<&PaperclipPluginRevision>,
    recorded: &Recorded,
    metadata: ObjectMeta,
) -> PaperclipPluginRevision {
    let newest = revisions.last().map_or(0, |newest| newest.spec.number);
    let number = newest.max(recorded.number) + 1;
    let shared = active.filter(|active| active.spec.template_hash == target.template_hash);
    let highest = revisions
        .iter()
        .map(|revision| revision.spec.activation)
        .chain([recorded.activation])
        .max()
        .unwrap_or(0);
    let Target {
        artifact,
        manifest_digest,
        summary,
        template_hash,
        config_hash,
        secrets,
        grant,
        host: (host_namespace, host),
        resources,
    } = target;
    let name = format!("{}-{number}", plugin.name_any());
    let mut revision = PaperclipPluginRevision::new(
        &name,
        PaperclipPluginRevisionSpec {
            plugin: plugin.name_any(),
            number,
            artifact,
            manifest_digest,
            summary,
            activation: shared.map_or(highest + 1, |active| active.spec.activation),
            template_hash,
            config_hash,
            secrets,
            grant,
            host: Some(HostReference {
                name: host,
                namespace: Some(host_namespace),
            }),
            resources,
        },
    );
    revision.metadata = ObjectMeta {
        name: Some(name),
        ..metadata
    };
    revision
}

/// The artifact of a revision, as status tells of one.
#[must_use]
pub fn artifact(found: &ArtifactStatus) -> RevisionArtifact {
    RevisionArtifact {
        source: found.source.clone(),
        version: found.version.clone(),
        repository: found.repository.clone(),
        digest: found.digest.clone(),
        marker: found.marker.clone(),
        signed_by: found.signed_by.clone(),
        size_bytes: found.size_bytes,
        platforms: found.platforms.clone(),
    }
}

/// State of a revision; one without status was only just made.
#[must_use]
pub fn state(revision: &PaperclipPluginRevision) -> RevisionState {
    let status = revision.status.as_ref();
    status
        .and_then(|status| status.state)
        .unwrap_or(RevisionState::Pending)
}

/// When a revision must serve: so long after it could begin, and not before an operator
/// that has only started has heard its pods. None before it began.
#[must_use]
pub fn deadline(
    revision: &PaperclipPluginRevision,
    seconds: i32,
    started: Timestamp,
) -> Option<Timestamp> {
    let seconds = i64::from(seconds);
    let begun: Timestamp = revision
        .status
        .as_ref()?
        .rolled_out_at
        .as_ref()?
        .parse()
        .ok()?;
    let deadline = begun.checked_add(seconds.seconds()).ok()?;
    let heard = started.checked_add(seconds.min(HEARING).seconds()).ok()?;
    Some(deadline.max(heard))
}

/// Names of revisions that history has no room for: the oldest beside those that are needed.
#[must_use]
pub fn surplus(revisions: &[PaperclipPluginRevision], needed: &[i64], limit: i32) -> Vec<String> {
    let old: Vec<_> = revisions
        .iter()
        .filter(|revision| !needed.contains(&revision.spec.number))
        .collect();
    let kept = usize::try_from(limit).unwrap_or(0);
    let surplus = old.len().saturating_sub(kept);
    old[..surplus]
        .iter()
        .map(|revision| revision.name_any())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::fixtures;

    fn target(template: &str, config: &str) -> Target {
        Target {
            artifact: artifact(&fixtures::artifact()),
            manifest_digest: "sha256:m".into(),
            summary: PluginSummary::default(),
            template_hash: template.into(),
            config_hash: config.into(),
            secrets: Vec::new(),
            grant: Grant {
                origin: GrantOrigin::FirstRevision,
                capabilities: vec!["a".into()],
            },
            host: ("paperclip".into(), "main".into()),
            resources: WorkerResources::default(),
        }
    }

    fn built(
        target: Target,
        before: &[PaperclipPluginRevision],
        active: Option<usize>,
    ) -> PaperclipPluginRevision {
        let active = active.map(|index| &before[index]);
        build(
            &fixtures::plugin(),
            target,
            before,
            active,
            &Recorded::default(),
            ObjectMeta::default(),
        )
    }

    fn capabilities(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.into()).collect()
    }

    #[test]
    fn another_template_is_another_activation_and_another_config_is_not() {
        let first = built(target("t", "c"), &[], None);
        assert_eq!((first.spec.number, first.spec.activation), (1, 1));
        let before = [first];
        let config = built(target("t", "d"), &before, Some(0));
        assert_eq!((config.spec.number, config.spec.activation), (2, 1));
        let template = built(target("u", "c"), &before, Some(0));
        assert_eq!((template.spec.number, template.spec.activation), (2, 2));
        assert_eq!(template.name_any(), "commerce-2");
    }

    #[test]
    fn numbers_are_not_used_twice_even_when_their_revision_is_gone() {
        let plugin = fixtures::plugin();
        let made = build(
            &plugin,
            target("t", "c"),
            &[],
            None,
            &Recorded {
                number: 4,
                activation: 7,
            },
            ObjectMeta::default(),
        );
        assert_eq!((made.spec.number, made.spec.activation), (5, 8));
    }

    #[test]
    fn the_active_revision_is_found_again_and_an_older_one_is_not() {
        let first = built(target("t", "c"), &[], None);
        let second = built(target("u", "c"), std::slice::from_ref(&first), Some(0));
        let all = [first, second];
        let number =
            |target: &Target, active| find(target, &all, active).map(|found| found.spec.number);
        assert_eq!(number(&target("t", "c"), Some(1)), Some(1));
        assert_eq!(number(&target("u", "c"), Some(1)), Some(2));
        assert_eq!(number(&target("t", "c"), Some(2)), None);
    }

    #[test]
    fn what_the_first_revision_asked_for_is_granted_and_more_is_not() {
        let (first, added) = grant(None, None, &capabilities(&["b", "a"]));
        assert_eq!(
            (first.capabilities, added),
            (capabilities(&["a", "b"]), Vec::new())
        );
        let before = capabilities(&["a"]);
        let (later, added) = grant(None, Some(&before), &capabilities(&["a", "z"]));
        assert_eq!(
            (later.capabilities, added),
            (capabilities(&["a"]), capabilities(&["z"]))
        );
    }

    #[test]
    fn pinned_capabilities_are_the_grant() {
        let pins = serde_json::json!({"capabilities": ["z", "a"]});
        let before = capabilities(&["a"]);
        let (pinned, added) = grant(pins.as_object(), Some(&before), &capabilities(&["a", "z"]));
        assert_eq!(
            (pinned.origin, pinned.capabilities),
            (GrantOrigin::Pinned, capabilities(&["a", "z"]))
        );
        assert_eq!(added, Vec::<String>::new());
    }

    #[test]
    fn history_keeps_what_is_needed_and_the_newest_of_the_rest() {
        let mut all: Vec<PaperclipPluginRevision> = Vec::new();
        for number in 0..5 {
            let next = built(target(&number.to_string(), "c"), &all, None);
            all.push(next);
        }
        assert_eq!(surplus(&all, &[1, 5], 2), ["commerce-2"]);
    }
}
