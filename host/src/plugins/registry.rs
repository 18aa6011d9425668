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

/// Plugins by UID.
#[derive(Debug, Default)]
pub struct Registry(RwLock<HashMap<String, Arc<Plugin>>>);

impl Registry {
    /// The plugin of this UID, made by `make` if it is new.
    pub fn get_or_insert(&self, id: &PluginId, make: impl FnOnce() -> Arc<Plugin>) -> Arc<Plugin> {
        if let Some(plugin) = self.get(&id.uid) {
            return plugin;
        }
        let mut plugins = self.0.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(plugins.entry(id.uid.clone()).or_insert_with(make))
    }

    /// The plugin of this UID.
    pub fn get(&self, uid: &str) -> Option<Arc<Plugin>> {
        let plugins = self.0.read().unwrap_or_else(PoisonError::into_inner);
        plugins.get(uid).map(Arc::clone)
    }

    /// All plugins.
    pub fn all(&self) -> Vec<Arc<Plugin>> {
        let plugins = self.0.read().unwrap_or_else(PoisonError::into_inner);
        plugins.values().map(Arc::clone).collect()
    }

    /// The plugin a request names. Where a deleted plugin and a later one share key or name, the one
    /// with pods is meant.
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
