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

    /// What is wrong with it, unless it is Ready.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let name = self.full_name();
        match self.ready() {
            ("True", ..) => None,
            (_, "", _) => Some(format!(
                "the operator has not reconciled PaperclipPlugin {name} yet"
            )),
            (_, reason, message) => Some(format!(
                "PaperclipPlugin {name} is not Ready ({reason}): {message}"
            )),
        }
    }

    /// A tool's name without the plugin's prefix.
    #[must_use]
    pub fn bare_tool<'a>(&self, tool: &'a str) -> &'a str {
        let status = self.parsed.status.as_ref();
        status
            .and_then(|status| status.plugin.as_ref())
            .and_then(|summary| tool.strip_prefix(&summary.id)?.strip_prefix(':'))
            .unwrap_or(tool)
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn plugin(ready: &str) -> Plugin {
        let object = json!({
            "apiVersion": "plugins.paperclip.ing/v1alpha1", "kind": "PaperclipPlugin",
            "metadata": {"name": "tea", "namespace": "shop", "managedFields": [{}]},
            "spec": {"source": {"npm": {"package": "tea", "version": "1.0.0"}}, "host": {"name": "main"}, "later": 1},
            "status": {
                "conditions": [{"type": "Ready", "status": ready, "reason": "Packing", "message": "the Job runs", "lastTransitionTime": "2026-11-21T10:00:00Z"}],
                "plugin": {"id": "example.tea", "version": "1.0.0", "displayName": "Tea"},
            },
        });
        Plugin::parse(serde_json::from_value(object).unwrap()).unwrap()
    }

    #[test]
    fn fields_of_a_later_release_are_shown() {
        let plugin = plugin("True");
        assert_eq!(plugin.object.data["spec"]["later"], 1);
        assert!(plugin.object.metadata.managed_fields.is_none());
    }

    #[test]
    fn a_tool_is_named_with_or_without_the_prefix() {
        let plugin = plugin("True");
        assert_eq!(plugin.bare_tool("example.tea:brew"), "brew");
        assert_eq!(plugin.bare_tool("brew"), "brew");
        assert_eq!(plugin.bare_tool("other:brew"), "other:brew");
    }

    #[test]
    fn a_plugin_that_is_not_ready_says_why() {
        assert_eq!(plugin("True").trouble(), None);
        assert_eq!(
            plugin("False").trouble().as_deref(),
            Some("PaperclipPlugin shop/tea is not Ready (Packing): the Job runs")
        );
    }
}
