//! All plugins this host has heard of.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use super::{Plugin, PluginId};

/// How a request names a plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector<'a> {
    /// UID of the `PaperclipPlugin`, or its plugin key.
    UidOrKey(&'a str),
    /// `<namespace>:<name>`.
    Name(&'a str, &'a str),
}

impl<'a> Selector<'a> {
    /// Reads the `{id}` of a path. Neither a UID nor a plugin key holds a colon.
    pub fn parse(text: &'a str) -> Self {
        match text.split_once(':') {
            Some((namespace, name)) => Self::Name(namespace, name),
            None => Self::UidOrKey(text),
        }
    }
}

/// Plugins by UID, each with its place in the order in which the host came to know them.
#[derive(Debug, Default)]
pub struct Registry(RwLock<HashMap<String, (usize, Arc<Plugin>)>>);

impl Registry {
    /// The plugin of this UID, made by `make` if it is new.
    pub fn get_or_insert(&self, id: &PluginId, make: impl FnOnce() -> Arc<Plugin>) -> Arc<Plugin> {
        if let Some(plugin) = self.get(&id.uid) {
            return plugin;
        }
        let mut plugins = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let place = plugins.len();
        let (_, plugin) = plugins
            .entry(id.uid.clone())
            .or_insert_with(|| (place, make()));
        Arc::clone(plugin)
    }

    /// The plugin of this UID.
    pub fn get(&self, uid: &str) -> Option<Arc<Plugin>> {
        let plugins = self.0.read().unwrap_or_else(PoisonError::into_inner);
        plugins.get(uid).map(|(_, plugin)| Arc::clone(plugin))
    }

    /// All plugins, those that the host has known longest first.
    pub fn all(&self) -> Vec<Arc<Plugin>> {
        let plugins = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = plugins.values().collect();
        all.sort_unstable_by_key(|(place, _)| *place);
        all.into_iter()
            .map(|(_, plugin)| Arc::clone(plugin))
            .collect()
    }

    /// The plugin a request names. Where a deleted plugin and a later one share key or name, the one
    /// with pods is meant, and the later one while neither has any: a host that was restarted
    /// remembers both, and knows of no pod yet.
    pub fn find(&self, selector: &Selector<'_>) -> Option<Arc<Plugin>> {
        if let Selector::UidOrKey(uid) = selector
            && let Some(plugin) = self.get(uid)
        {
            return Some(plugin);
        }
        self.all()
            .into_iter()
            .filter(|plugin| match selector {
                Selector::UidOrKey(key) => plugin
                    .release()
                    .is_some_and(|release| release.manifest.id == *key),
                Selector::Name(namespace, name) => {
                    plugin.id().namespace == *namespace && plugin.id().name == *name
                }
            })
            .max_by_key(|plugin| {
                (
                    plugin.serves(),
                    plugin.is_wanted(),
                    !plugin.pods().is_empty(),
                )
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{metrics::Holds, plugins::hold::QUEUE};

    #[tokio::test]
    async fn of_many_lives_of_a_plugin_without_pods_the_last_is_meant() {
        let registry = Registry::default();
        for life in 0..20 {
            let id: PluginId = format!("shop/acme/uid-{life}").parse().unwrap();
            let make = || Arc::new(Plugin::new(id.clone(), None, Holds::default(), QUEUE));
            let plugin = registry.get_or_insert(&id, make);
            assert!(Arc::ptr_eq(&plugin, &registry.get_or_insert(&id, make)));
            let found = registry.find(&Selector::Name("shop", "acme")).unwrap();
            assert_eq!(found.id().uid, format!("uid-{life}"));
        }
        assert_eq!(registry.all().len(), 20);
    }
}
