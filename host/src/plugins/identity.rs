//! Which `PaperclipPlugin` is meant.

use std::{fmt, str::FromStr};

use paperclip_identity::Identity;

/// A `PaperclipPlugin`: its names, and the UID that tells it from one that had the names before.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PluginId {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
}

impl PluginId {
    /// The identity its pods must show.
    pub fn identity(&self) -> Identity {
        Identity::Plugin {
            namespace: self.namespace.clone(),
            name: self.name.clone(),
        }
    }
}

impl fmt::Display for PluginId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}/{}", self.namespace, self.name, self.uid)
    }
}

/// A text that names no plugin.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no plugin, wanted <namespace>/<name>/<uid>")]
pub struct ParsePluginIdError(String);

impl FromStr for PluginId {
    type Err = ParsePluginIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split('/').collect::<Vec<_>>()[..] {
            [namespace, name, uid]
                if !namespace.is_empty() && !name.is_empty() && !uid.is_empty() =>
            {
                Ok(Self {
                    namespace: namespace.to_owned(),
                    name: name.to_owned(),
                    uid: uid.to_owned(),
                })
            }
            _ => Err(ParsePluginIdError(text.to_owned())),
        }
    }
}
