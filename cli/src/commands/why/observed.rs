//! What was read of a plugin and of what it hangs on. Every read of `why` is here.

use std::{collections::BTreeSet, fmt::Debug};

use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::ReplicaSet,
        batch::v1::Job,
        core::v1::{ConfigMap, Event, Pod, Secret},
    },
    jiff::Timestamp,
};
use kube::{Api, Resource, ResourceExt, api::ListParams};
use paperclip_crds::{
    labels,
    v1alpha1::{
        ConditionType, ConfigMapKey, PaperclipHost, PaperclipPlugin, PaperclipPluginRevision,
        PluginSource,
    },
};
use serde::de::DeserializeOwned;

use super::super::{Session, revisions};
use crate::{error::Error, plugin::Plugin};

/// Label that the Job controller puts on a Job's pods.
const JOB_NAME: &str = "batch.kubernetes.io/job-name";

/// Observed state of a plugin and of all that it depends on.
#[derive(Debug)]
pub(super) struct Observed {
    pub plugin: PaperclipPlugin,
    pub revisions: Vec<PaperclipPluginRevision>,
    pub pods: Vec<Pod>,
    /// Packing Jobs of the plugin's package and version.
    pub packing: Vec<Packing>,
    /// Warnings on the plugin, its pods and what makes them.
    pub events: Vec<Event>,
    /// ConfigMaps and Secrets that the spec names.
    pub references: Vec<Reference>,
    pub host: Lookup<PaperclipHost>,
    /// What could not be read, and why.
    pub not_read: Vec<String>,
    pub now: Timestamp,
}

/// A packing Job with its pods.
#[derive(Debug)]
pub(super) struct Packing {
    pub job: Job,
    pub pods: Vec<Pod>,
}

/// An object that was asked for by name.
#[derive(Debug)]
pub(super) enum Lookup<T> {
    Found(T),
    Missing,
    NotRead,
}

/// A ConfigMap or Secret that a field of the spec names.
#[derive(Debug)]
pub(super) struct Reference {
    /// The field, as in `spec.secrets token`.
    pub field: String,
    pub kind: Kind,
    pub name: String,
    /// None where one of several keys will do.
    pub key: Option<String>,
    pub lookup: Lookup<Outline>,
}

/// What a reference leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    ConfigMap,
    Secret,
}

/// What may be known of a ConfigMap or Secret: everything but its values.
#[derive(Debug, Default)]
pub(super) struct Outline {
    pub keys: BTreeSet<String>,
    /// Whether it carries the label that opens a Secret to plugins.
    pub is_open: bool,
}

impl Observed {
    /// Observed of a plugin of which nothing else was read.
    pub(super) fn of(plugin: PaperclipPlugin, now: Timestamp) -> Self {
        Self {
            plugin,
            revisions: Vec::new(),
            pods: Vec::new(),
            packing: Vec::new(),
            events: Vec::new(),
            references: Vec::new(),
            host: Lookup::NotRead,
            not_read: Vec::new(),
            now,
        }
    }

    /// Whether the plugin is Ready as its spec is now.
    pub(super) fn is_ready(&self) -> bool {
        let ready = self.plugin.condition(ConditionType::Ready);
        self.is_observed() && ready.is_some_and(|ready| ready.status == "True")
    }

    /// Whether the operator has looked at the spec as it is now.
    pub(super) fn is_observed(&self) -> bool {
        let status = self.plugin.status.as_ref();
        let observed = status.and_then(|status| status.observed_generation);
        observed == self.plugin.metadata.generation
    }
}

/// Reads what explains a plugin; of a Ready one nothing more. What the API server refuses is
/// noted, for the rest explains much all the same.
pub(super) async fn read(session: &Session, plugin: &Plugin) -> Observed {
    let observed = Observed::of(plugin.parsed.clone(), Timestamp::now());
    if observed.is_ready() {
        return observed;
    }
    let mut reader = Reader {
        session,
        plugin,
        refused: Vec::new(),
    };
    let revisions = revisions::list(session, plugin).await;
    let revisions = reader.kept(revisions).unwrap_or_default();
    let pods: Vec<Pod> = reader.own().await;
    let sets: Vec<ReplicaSet> = reader.own().await;
    let packing = reader.packing().await;
    let mut uids: BTreeSet<String> = BTreeSet::from([plugin.uid()]);
    uids.extend(pods.iter().filter_map(ResourceExt::uid));
    uids.extend(sets.iter().filter_map(ResourceExt::uid));
    for Packing { job, pods } in &packing {
        uids.extend(job.uid());
        uids.extend(pods.iter().filter_map(ResourceExt::uid));
    }
    let mut namespaces = BTreeSet::from([plugin.namespace()]);
    namespaces.extend(packing.iter().filter_map(|packing| packing.job.namespace()));
    Observed {
        revisions,
        pods,
        packing,
        events: reader.events(&namespaces, &uids).await,
        references: reader.references().await,
        host: reader.host().await,
        not_read: reader.refused,
        ..observed
    }
}

/// Reads, and notes what it was refused.
struct Reader<'a> {
    session: &'a Session,
    plugin: &'a Plugin,
    refused: Vec<String>,
}

impl Reader<'_> {
    fn kept<T>(&mut self, answer: Result<T, Error>) -> Option<T> {
        match answer {
            Ok(answer) => Some(answer),
            Err(error) => {
                let report = error.report();
                let report = report.trim_start_matches("error: ");
                self.refused.push(report.to_owned());
                None
            }
        }
    }

    fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.session.cluster.client.clone(), namespace)
    }

    async fn list<K>(&mut self, api: Api<K>, wanted: ListParams, place: &str) -> Vec<K>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        let doing = format!("list {} {place}", K::plural(&()));
        let found = api.list(&wanted).await;
        let found = found.map_err(|source| Error::cluster(doing, source));
        self.kept(found)
            .map(|found| found.items)
            .unwrap_or_default()
    }

    /// The plugin's objects of a kind.
    async fn own<K>(&mut self) -> Vec<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Debug,
    {
        let namespace = self.plugin.namespace();
        let selector = format!("{}={}", labels::PLUGIN_UID, self.plugin.uid());
        let wanted = ListParams::default().labels(&selector);
        let place = format!("in namespace {namespace}");
        self.list(self.api(&namespace), wanted, &place).await
    }

    /// Packing Jobs are in the platform's namespace, whose name is not ours to know.
    async fn packing(&mut self) -> Vec<Packing> {
        let packages = self.plugin.parsed.packages();
        let selector = format!(
            "{}={},{}=packer",
            labels::MANAGED_BY,
            labels::OPERATOR,
            labels::COMPONENT
        );
        let api: Api<Job> = Api::all(self.session.cluster.client.clone());
        let wanted = ListParams::default().labels(&selector);
        let jobs = self.list(api, wanted, "in all namespaces").await;
        let mut packing = Vec::new();
        for job in jobs {
            let package = job.annotations().get(labels::PACKAGE);
            if !package.is_some_and(|package| packages.contains(package)) {
                continue;
            }
            let namespace = job.namespace().unwrap_or_default();
            let wanted = ListParams::default().labels(&format!("{JOB_NAME}={}", job.name_any()));
            let place = format!("of the packing Job in namespace {namespace}");
            let pods = self.list(self.api(&namespace), wanted, &place).await;
            packing.push(Packing { job, pods });
        }
        packing
    }

    async fn events(
        &mut self,
        namespaces: &BTreeSet<String>,
        uids: &BTreeSet<String>,
    ) -> Vec<Event> {
        let mut events = Vec::new();
        for namespace in namespaces {
            let wanted = ListParams::default().fields("type=Warning");
            let place = format!("in namespace {namespace}");
            let found: Vec<Event> = self.list(self.api(namespace), wanted, &place).await;
            let is_ours = |event: &Event| {
                let about = event.involved_object.uid.as_ref();
                about.is_some_and(|uid| uids.contains(uid))
            };
            events.extend(found.into_iter().filter(is_ours));
        }
        events
    }

    async fn references(&mut self) -> Vec<Reference> {
        let spec = &self.plugin.parsed.spec;
        let source = match &spec.source {
            PluginSource::Npm(source) => source
                .lock
                .as_ref()
                .map(|key| ("spec.source.npm.lock", key)),
            PluginSource::Http(_) | PluginSource::Oci(_) => None,
            PluginSource::ConfigMap(key) => Some(("spec.source.configMap", key)),
        };
        let config = spec.config.iter().flat_map(|config| &config.default_from);
        let config = config.map(|key| ("spec.config.defaultFrom", key));
        let mut references = Vec::new();
        for (field, ConfigMapKey { name, key }) in source.into_iter().chain(config) {
            references.push(Reference {
                field: field.to_owned(),
                kind: Kind::ConfigMap,
                name: name.clone(),
                key: Some(key.clone()),
                lookup: self.named(name, outline_of_map).await,
            });
        }
        if let Some((field, name)) = spec.source.credential() {
            references.push(Reference {
                field: field.to_owned(),
                kind: Kind::Secret,
                name: name.to_owned(),
                key: None,
                lookup: self.named(name, outline_of_secret).await,
            });
        }
        for secret in &spec.secrets {
            references.push(Reference {
                field: format!("spec.secrets {}", secret.name),
                kind: Kind::Secret,
                name: secret.secret_ref.name.clone(),
                key: Some(secret.secret_ref.key.clone()),
                lookup: self.named(&secret.secret_ref.name, outline_of_secret).await,
            });
        }
        references
    }

    /// An object of the plugin's namespace by name, reduced at once to what may be known of it.
    async fn named<K>(&mut self, name: &str, outline: fn(K) -> Outline) -> Lookup<Outline>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Debug,
    {
        let namespace = self.plugin.namespace();
        match self.get(&namespace, name).await {
            Lookup::Found(found) => Lookup::Found(outline(found)),
            Lookup::Missing => Lookup::Missing,
            Lookup::NotRead => Lookup::NotRead,
        }
    }

    async fn host(&mut self) -> Lookup<PaperclipHost> {
        let (namespace, name) = self.plugin.parsed.host_reference();
        self.get(&namespace, &name).await
    }

    async fn get<K>(&mut self, namespace: &str, name: &str) -> Lookup<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Debug,
    {
        let doing = format!("read {} {namespace}/{name}", K::kind(&()));
        let found = self.api(namespace).get_opt(name).await;
        match self.kept(found.map_err(|source| Error::cluster(doing, source))) {
            Some(Some(found)) => Lookup::Found(found),
            Some(None) => Lookup::Missing,
            None => Lookup::NotRead,
        }
    }
}

fn outline_of_map(map: ConfigMap) -> Outline {
    Outline {
        keys: map.data.into_iter().flatten().map(|(key, _)| key).collect(),
        is_open: true,
    }
}

fn outline_of_secret(secret: Secret) -> Outline {
    let label = secret.labels().get(labels::ALLOW_PLUGINS);
    let is_open = label.is_some_and(|value| value == "true");
    Outline {
        is_open,
        keys: secret
            .data
            .into_iter()
            .flatten()
            .map(|(key, _)| key)
            .collect(),
    }
}
