//! Version `v1alpha1`.

mod conditions;
mod host;
mod plugin;

pub use conditions::{Condition, ConditionType, Reason};
pub use host::{
    AllowedNamespaces, HostReference, NamespacesFrom, PaperclipHost, PaperclipHostSpec,
    PaperclipHostStatus, ServiceReference,
};
pub use plugin::{
    ArtifactStatus, ConfigMapKey, DeclaredJob, DeclaredTool, DeclaredWebhook, NpmSource,
    PaperclipPlugin, PaperclipPluginSpec, PaperclipPluginStatus, PluginConfig, PluginSource,
    PluginSummary,
};
