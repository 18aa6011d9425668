//! Version `v1alpha1`.

mod conditions;
mod host;
mod limits;
mod plugin;
mod reasons;
mod revision;
mod trust;

pub use conditions::{Condition, ConditionType};
pub use host::{
    AllowedNamespaces, HostReference, NamespacesFrom, PaperclipHost, PaperclipHostSpec,
    PaperclipHostStatus, ServiceReference,
};
pub use limits::{PluginLimits, RateLimit, ResourceAmounts, RestartLimit, WorkerResources};
pub use plugin::{
    ANY_PLATFORM, ArtifactStatus, CapabilityStatus, ConfigMapKey, DeclaredJob, DeclaredTool,
    DeclaredWebhook, EgressPort, EgressRule, FailurePolicy, HttpSource, LockChange, LockChanges,
    NpmSource, OciSource, PaperclipPlugin, PaperclipPluginSpec, PaperclipPluginStatus,
    PluginConfig, PluginSecret, PluginSource, PluginSummary, PortProtocol, ResolutionStatus,
    RevisionStatus, SecretKey, SecretUse, UpgradePolicy, UpgradeStrategy, VerificationStatus,
    WorkerSpec,
};
pub use reasons::{Class, Reason};
pub use revision::{
    Grant, GrantOrigin, PaperclipPluginRevision, PaperclipPluginRevisionSpec,
    PaperclipPluginRevisionStatus, RevisionArtifact, RevisionState, SecretVersion,
};
pub use trust::{
    CosignRequirement, IdentityRequirement, NamespaceMatch, NpmRegistryKey,
    NpmSignatureRequirement, PaperclipTrustPolicy, PaperclipTrustPolicySpec,
    PaperclipTrustPolicyStatus, PolicyMatch, PolicySubject, TrustRequirement, TrustRootSource,
};
