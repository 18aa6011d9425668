//! Reading `PaperclipPlugin` objects.

use kube::{
    Api, ResourceExt,
    api::{ApiResource, DynamicObject, ListParams},
};
use paperclip_crds::v1alpha1::{ConditionType, PaperclipPlugin};

use crate::{args::PluginName, cluster::Cluster, error::Error};

/// How many objects to ask for at a time.
const PAGE: u32 = 500;

/// A plugin as the API server has it, with fields this program does not know, and parsed.
#[derive(Clone, Debug)]
pub struct Plugin {
    /// The whole object, for `-o json` and `-o yaml`.
    pub object: DynamicObject,
    /// The object as this release knows it.
    pub parsed: PaperclipPlugin,
}

impl Plugin {
    fn parse(mut object: DynamicObject) -> Result<Self, Error> {
        object.metadata.managed_fields = None;
        let parsed = object
            .clone()
            .try_parse()
            .map_err(|source| Error::Encoding {
                doing: format!("read PaperclipPlugin {}", object.name_any()),
                source: Box::new(source),
            })?;
        Ok(Self { object, parsed })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> String {
        self.parsed.name_any()
    }

    /// Its namespace.
    #[must_use]
    pub fn namespace(&self) -> String {
        self.parsed.namespace().unwrap_or_default()
    }

    /// `NAMESPACE/NAME`.
    #[must_use]
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.namespace(), self.name())
    }

    /// Its UID, which is the plugin's id on a host.
    #[must_use]
    pub fn uid(&self) -> String {
        self.parsed.uid().unwrap_or_default()
    }

    /// Status, reason and message of the condition `Ready`.
    #[must_use]
    pub fn ready(&self) -> (&str, &str, &str) {
        self.parsed
            .condition(ConditionType::Ready)
            .map_or(("Unknown", "", ""), |condition| {
                (&condition.status, &condition.reason, &condition.message)
            })
    }

    /// The id in the plugin's manifest.
    ///
    /// # Errors
    /// When the operator has not read the manifest yet.
    pub fn key(&self) -> Result<&str, Error> {
        let status = self.parsed.status.as_ref();
        if let Some(summary) = status.and_then(|status| status.plugin.as_ref()) {
            return Ok(&summary.id);
        }
        let (ready, reason, message) = self.ready();
        Err(Error::NotReady {
            what: format!(
                "PaperclipPlugin {} has no manifest in its status yet (Ready is {ready}, {reason}: {message})",
                self.full_name()
            ),
            hint: format!(
                "wait with `kubectl wait --for=condition=Ready -n {} paperclipplugin/{}`",
                self.namespace(),
                self.name()
            ),
        })
    }
}

fn resource() -> ApiResource {
    ApiResource::erase::<PaperclipPlugin>(&())
}

/// Reads one plugin.
///
/// # Errors
/// When it does not exist or the API server does not show it.
pub async fn read(cluster: &Cluster, name: &PluginName) -> Result<Plugin, Error> {
    let namespace = cluster.namespace_of(name)?;
    let api: Api<DynamicObject> =
        Api::namespaced_with(cluster.client.clone(), &namespace, &resource());
    let doing = format!("read PaperclipPlugin {namespace}/{}", name.name);
    let object = api
        .get_opt(&name.name)
        .await
        .map_err(|source| Error::cluster(&doing, source))?
        .ok_or_else(|| Error::NotFound {
            what: format!("no PaperclipPlugin {} in namespace {namespace}", name.name),
            hint: "`kubectl paperclip list -A` shows all plugins".into(),
        })?;
    Plugin::parse(object)
}

/// Lists plugins of one namespace, or of all without one, sorted by namespace and name.
///
/// # Errors
/// When the API server refuses the list.
pub async fn list(cluster: &Cluster, namespace: Option<&str>) -> Result<Vec<Plugin>, Error> {
    let client = cluster.client.clone();
    let api: Api<DynamicObject> = match namespace {
        Some(namespace) => Api::namespaced_with(client, namespace, &resource()),
        None => Api::all_with(client, &resource()),
    };
    let mut plugins = Vec::new();
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let list = api
            .list(&page)
            .await
            .map_err(|source| Error::cluster("list PaperclipPlugins", source))?;
        for mut object in list.items {
            // Items of a list carry no kind of their own.
            object.types = Some(kube::api::TypeMeta::resource::<PaperclipPlugin>());
            plugins.push(Plugin::parse(object)?);
        }
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => break,
        }
    }
    plugins.sort_by_key(|plugin| (plugin.namespace(), plugin.name()));
    Ok(plugins)
}
