//! Claims on plugin ids: one an id and host, and the rules by which it is held. Pure.
//!
//! The id is known only after packing, so no schema can keep two plugins apart. Both would
//! answer the calls of one host. A claim is a ConfigMap in the platform's namespace whose
//! name follows from host and id: the API server makes it once, for the plugin that came
//! first, and that plugin holds it while it may serve. A plugin that is deleted has no
//! finalizer, so the next one finds its claim and takes it over.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::{apps::v1::Deployment, core::v1::ConfigMap};
use kube::{ResourceExt, api::ObjectMeta};
use paperclip_crds::{
    ObjectKey, labels,
    v1alpha1::{PaperclipPluginRevision, Reason, RevisionState},
};
use paperclip_oci::Digest;
use serde_json::json;

use crate::{
    plugin::{Plugin, conditions::Finding, judge::is_over, revision},
    pods::ObservedPod,
};

/// Value of the component label on claims.
pub const COMPONENT: &str = "claim";

/// Subject of a claim: a plugin id on a host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Namespace and name of the `PaperclipHost`.
    pub host: (String, String),
    /// `id` of the plugin manifest.
    pub plugin_id: String,
}

impl Key {
    /// Name of the claim.
    #[must_use]
    pub fn name(&self) -> String {
        let Self {
            host: (namespace, name),
            plugin_id,
        } = self;
        let text = json!([namespace, name, plugin_id]).to_string();
        format!("claim-{}", Digest::of(text.as_bytes()).short(16))
    }

    fn host_text(&self) -> String {
        let (namespace, name) = &self.host;
        format!("{namespace}/{name}")
    }
}

/// A claim and its holder: a plugin that is created again under the same name is another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Subject of a claim: a plugin id on a host.
    pub key: Key,
    /// Its holder.
    pub holder: ObjectKey,
}

impl Claim {
    /// The object of the claim in the platform's namespace.
    #[must_use]
    pub fn build(&self, namespace: &str) -> ConfigMap {
        let Self { key, holder } = self;
        let texts = |texts: &[(&str, &str)]| -> BTreeMap<String, String> {
            let texts = texts.iter();
            texts
                .map(|&(key, text)| (key.into(), text.into()))
                .collect()
        };
        ConfigMap {
            metadata: ObjectMeta {
                name: Some(key.name()),
                namespace: Some(namespace.into()),
                labels: Some(texts(&[
                    (labels::MANAGED_BY, labels::OPERATOR),
                    (labels::COMPONENT, COMPONENT),
                    (labels::PLUGIN, &holder.name),
                    (labels::PLUGIN_NAMESPACE, &holder.namespace),
                    (labels::PLUGIN_UID, &holder.uid),
                ])),
                ..ObjectMeta::default()
            },
            data: Some(texts(&[
                ("namespace", &holder.namespace),
                ("name", &holder.name),
                ("uid", &holder.uid),
                ("host", &key.host_text()),
                ("pluginId", &key.plugin_id),
            ])),
            ..ConfigMap::default()
        }
    }

    /// The claim that an object is; none if it is something else.
    #[must_use]
    pub fn parse(object: &ConfigMap) -> Option<Self> {
        let data = object.data.as_ref()?;
        let text = |key: &str| data.get(key).cloned();
        let (namespace, name) = data.get("host")?.split_once('/')?;
        let claim = Self {
            key: Key {
                host: (namespace.into(), name.into()),
                plugin_id: text("pluginId")?,
            },
            holder: ObjectKey {
                namespace: text("namespace")?,
                name: text("name")?,
                uid: text("uid")?,
            },
        };
        (claim.key.name() == object.name_any()).then_some(claim)
    }
}

/// Decision about a claim that a plugin requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nobody has it: make it.
    Create,
    /// It is ours.
    Ours,
    /// Its holder no longer needs it: remove it and create ours.
    TakeOver,
    /// Another has it.
    Taken,
}

/// Decides on a claim as it was found. `is_needed` says whether a holder that is another
/// still needs it.
#[must_use]
pub fn decide(existing: Option<&Claim>, us: &ObjectKey, is_needed: bool) -> Decision {
    match existing {
        None => Decision::Create,
        Some(claim) if claim.holder.uid == us.uid => Decision::Ours,
        Some(_) if is_needed => Decision::Taken,
        Some(_) => Decision::TakeOver,
    }
}

/// A holder as it was observed.
pub struct Observed<'a> {
    /// The plugin; none when it is gone or was made anew.
    pub plugin: Option<&'a Plugin>,
    /// Whether the host lets plugins of its namespace in.
    pub is_admitted: bool,
    /// Its revisions.
    pub revisions: &'a [PaperclipPluginRevision],
    /// Its Deployment.
    pub deployment: Option<&'a Deployment>,
    /// Its pods.
    pub pods: &'a [ObservedPod],
}

impl Observed<'_> {
    /// Whether another must leave the claim alone. A plugin that is on its way from one id
    /// or host to another may return, and keeps both.
    #[must_use]
    pub fn needs(&self, key: &Key) -> bool {
        match self.plugin {
            Some(plugin) => is_unseen(plugin) || self.uses(plugin, key),
            None => self.pods.iter().any(|seen| lingers(seen, key)),
        }
    }

    /// Whether the plugin serves, or may come to serve, what the claim is for.
    #[must_use]
    pub fn uses(&self, plugin: &Plugin, key: &Key) -> bool {
        let is_pending = |revision| revision::state(revision) == RevisionState::Pending;
        let asks = self.is_admitted
            && plugin.host_reference() == key.host
            && self.ids(plugin).contains(key.plugin_id.as_str());
        let runs = |metadata| self.key_of(plugin, metadata).as_ref() == Some(key);
        asks || self.revisions.iter().any(is_pending)
            || self.deployment.and_then(template).is_some_and(runs)
            || self
                .pods
                .iter()
                .any(|seen| !is_over(&seen.pod) && runs(&seen.pod.metadata))
    }

    /// Key that the pods of a Deployment serve, if it has any.
    #[must_use]
    pub fn running(&self, plugin: &Plugin) -> Option<Key> {
        self.key_of(plugin, self.deployment.and_then(template)?)
    }

    /// Ids that the plugin asks for and that it serves.
    #[must_use]
    pub fn ids<'p>(&'p self, plugin: &'p Plugin) -> BTreeSet<&'p str> {
        let status = plugin.status.as_ref();
        let asked = status.and_then(|status| status.plugin.as_ref());
        let active = status.and_then(|status| status.active_revision.as_ref());
        let active = self
            .revisions
            .iter()
            .find(|revision| active.is_some_and(|active| active.number == revision.spec.number));
        let active = active.map(|active| &active.spec.summary);
        [asked, active]
            .into_iter()
            .flatten()
            .map(|summary| summary.id.as_str())
            .collect()
    }

    /// Key that a pod with this metadata serves. The revision of its activation says the id.
    fn key_of(&self, plugin: &Plugin, metadata: &ObjectMeta) -> Option<Key> {
        let activation = metadata.annotations.as_ref()?.get(labels::ACTIVATION)?;
        let revision = self
            .revisions
            .iter()
            .find(|revision| revision.spec.activation.to_string() == *activation)
            .map(|revision| &revision.spec.summary);
        let summary = revision.or(plugin.status.as_ref()?.plugin.as_ref())?;
        Some(Key {
            host: host_of(metadata)?,
            plugin_id: summary.id.clone(),
        })
    }
}

/// The spec moved on and no pass has ended since: what the plugin does is not known.
fn is_unseen(plugin: &Plugin) -> bool {
    let seen = plugin
        .status
        .as_ref()
        .and_then(|status| status.observed_generation);
    seen != plugin.metadata.generation
}

/// Whether a pod outlives its plugin: it is not told to stop, or still speaks.
fn lingers(seen: &ObservedPod, key: &Key) -> bool {
    let ObservedPod { pod, status } = seen;
    let is_told = pod.metadata.deletion_timestamp.is_some();
    let serves = host_of(&pod.metadata).as_ref() == Some(&key.host);
    serves && !is_over(pod) && (!is_told || status.is_some())
}

/// Namespace and name of the host that pods with this metadata serve.
#[must_use]
pub fn host_of(metadata: &ObjectMeta) -> Option<(String, String)> {
    let found = metadata.labels.as_ref()?;
    let label = |key| found.get(key).cloned();
    Some((label(labels::HOST_NAMESPACE)?, label(labels::HOST)?))
}

/// Metadata of a Deployment's pods, unless it has none.
#[must_use]
pub fn template(deployment: &Deployment) -> Option<&ObjectMeta> {
    let runs = deployment.spec.replicas != Some(0);
    let template = &deployment.spec.template;
    template.metadata.as_ref().filter(|_| runs)
}

/// Finding of the plugin that came later.
#[must_use]
pub fn taken(Claim { key, holder }: &Claim) -> Finding {
    let message = format!(
        "Plugin id {} is taken on PaperclipHost {} by PaperclipPlugin {}/{}; a host serves an id once.",
        key.plugin_id,
        key.host_text(),
        holder.namespace,
        holder.name
    );
    Finding::no(Reason::PluginIdTaken, message)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::plugin::{desired::Desired, fixtures, pod::build_deployment};
    use k8s_openapi::jiff::Timestamp;
    use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::Time};
    use paperclip_bridge::v1::WatchStatusResponse;
    use paperclip_crds::v1alpha1::{
        PaperclipPluginRevisionStatus, PaperclipPluginStatus, PluginSummary, RevisionStatus,
    };

    fn key(id: &str) -> Key {
        Key {
            host: ("paperclip".into(), "main".into()),
            plugin_id: id.into(),
        }
    }

    fn claim(uid: &str) -> Claim {
        Claim {
            key: key("example"),
            holder: ObjectKey {
                namespace: "shop".into(),
                name: "commerce".into(),
                uid: uid.into(),
            },
        }
    }

    fn summary(id: &str) -> PluginSummary {
        PluginSummary {
            id: id.into(),
            ..PluginSummary::default()
        }
    }

    /// A plugin that asks for `asked`, with an active revision 1 of id `active`.
    fn plugin(asked: &str) -> Plugin {
        let mut plugin = fixtures::plugin();
        plugin.metadata.generation = Some(1);
        plugin.status = Some(PaperclipPluginStatus {
            observed_generation: Some(1),
            plugin: Some(summary(asked)),
            active_revision: Some(RevisionStatus {
                name: "commerce-1".into(),
                number: 1,
                added_capabilities: Vec::new(),
            }),
            ..PaperclipPluginStatus::default()
        });
        plugin
    }

    fn revision(number: i64, id: &str, state: RevisionState) -> PaperclipPluginRevision {
        let mut spec = fixtures::revision(number, number);
        spec.summary = summary(id);
        let mut revision = PaperclipPluginRevision::new(&format!("commerce-{number}"), spec);
        revision.status = Some(PaperclipPluginRevisionStatus {
            state: Some(state),
            ..PaperclipPluginRevisionStatus::default()
        });
        revision
    }

    fn of<'a>(
        plugin: Option<&'a Plugin>,
        revisions: &'a [PaperclipPluginRevision],
    ) -> Observed<'a> {
        Observed {
            plugin,
            is_admitted: true,
            revisions,
            deployment: None,
            pods: &[],
        }
    }

    /// A Deployment of activation 3 on the host of the plugin.
    fn deployment(plugin: &Plugin) -> Deployment {
        let artifact = fixtures::packed();
        let wanted: Desired<'_> = fixtures::desired(plugin, &artifact);
        build_deployment(&wanted, &fixtures::args(), "")
    }

    fn pod_of(deployment: &Deployment) -> Pod {
        Pod {
            metadata: deployment.spec.template.metadata.clone().unwrap(),
            ..Pod::default()
        }
    }

    #[test]
    fn a_name_follows_from_host_and_id_and_parts_do_not_run_together() {
        assert_eq!(key("example").name(), key("example").name());
        assert_ne!(key("example").name(), key("example2").name());
        let mut other = key("example");
        other.host = ("paper".into(), "clipmain".into());
        assert_ne!(key("example").name(), other.name());
        let name = other.name();
        assert_eq!((&name[..6], name.len()), ("claim-", 22));
    }

    #[test]
    fn an_object_is_read_as_the_claim_it_was_made_from() {
        let object = claim("u").build("paperclip-system");
        assert_eq!(Claim::parse(&object), Some(claim("u")));
    }

    #[test]
    fn an_object_with_another_content_than_its_name_says_is_no_claim() {
        let mut object = claim("u").build("paperclip-system");
        let data = object.data.as_mut().unwrap();
        data.insert("pluginId".into(), "another".into());
        assert_eq!(Claim::parse(&object), None);
        assert_eq!(Claim::parse(&ConfigMap::default()), None);
    }

    #[test]
    fn the_first_has_a_claim_until_it_no_longer_needs_it() {
        let us = claim("us").holder;
        assert_eq!(decide(None, &us, false), Decision::Create);
        assert_eq!(decide(Some(&claim("us")), &us, false), Decision::Ours);
        assert_eq!(decide(Some(&claim("them")), &us, true), Decision::Taken);
        assert_eq!(decide(Some(&claim("them")), &us, false), Decision::TakeOver);
    }

    #[test]
    fn a_plugin_needs_the_id_it_asks_for_and_the_id_that_is_active() {
        let plugin = plugin("new");
        let revisions = [revision(1, "old", RevisionState::Active)];
        let observed = of(Some(&plugin), &revisions);
        assert!(observed.needs(&key("new")));
        assert!(observed.needs(&key("old")));
        assert!(!observed.needs(&key("third")));
    }

    #[test]
    fn a_plugin_on_its_way_or_not_yet_looked_at_keeps_what_it_has() {
        let mut plugin = plugin("new");
        let pending = [revision(2, "new", RevisionState::Pending)];
        assert!(of(Some(&plugin), &pending).needs(&key("old")));
        assert!(!of(Some(&plugin), &[]).needs(&key("old")));
        plugin.metadata.generation = Some(2);
        assert!(of(Some(&plugin), &[]).needs(&key("old")));
    }

    #[test]
    fn pods_that_are_left_to_a_former_host_keep_its_claim() {
        let mut plugin = plugin("example");
        let mut deployment = deployment(&plugin);
        plugin.spec.host.name = "elsewhere".into();
        assert!(!of(Some(&plugin), &[]).needs(&key("example")));
        let pods = [fixtures::seen(pod_of(&deployment))];
        let serving = Observed {
            pods: &pods,
            ..of(Some(&plugin), &[])
        };
        assert!(serving.needs(&key("example")));
        let needs = |deployment: &Deployment| {
            let observed = Observed {
                deployment: Some(deployment),
                ..of(Some(&plugin), &[])
            };
            observed.needs(&key("example"))
        };
        assert!(needs(&deployment));
        deployment.spec.replicas = Some(0);
        assert!(!needs(&deployment));
    }

    #[test]
    fn a_pod_of_a_former_revision_has_that_revisions_id() {
        let plugin = plugin("new");
        let deployment = deployment(&plugin);
        let revisions = [revision(3, "old", RevisionState::Superseded)];
        let pods = [fixtures::seen(pod_of(&deployment))];
        let draining = Observed {
            pods: &pods,
            ..of(Some(&plugin), &revisions)
        };
        assert!(draining.needs(&key("old")));
        assert!(!of(Some(&plugin), &revisions).needs(&key("old")));
    }

    #[test]
    fn a_plugin_that_its_host_turns_away_holds_no_id_there() {
        let plugin = plugin("example");
        let away = Observed {
            is_admitted: false,
            ..of(Some(&plugin), &[])
        };
        assert!(!away.needs(&key("example")));
    }

    #[test]
    fn a_deleted_plugin_needs_its_claim_while_a_pod_of_it_speaks() {
        let mut pod = pod_of(&deployment(&plugin("example")));
        let needs = |pod: &Pod, status: Option<WatchStatusResponse>| {
            let pods = [ObservedPod {
                pod: Arc::new(pod.clone()),
                status,
            }];
            let gone = Observed {
                pods: &pods,
                ..of(None, &[])
            };
            gone.needs(&key("example"))
        };
        assert!(needs(&pod, None), "nobody told it to stop");
        pod.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
        assert!(needs(&pod, Some(WatchStatusResponse::default())));
        assert!(!needs(&pod, None), "its node is lost, say");
        assert!(!of(None, &[]).needs(&key("example")));
    }
}
