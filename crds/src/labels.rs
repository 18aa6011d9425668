//! Labels and annotations that our programs share. One home for each name.

/// Recommended label `app.kubernetes.io/managed-by`, on every object we own.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Value of [`MANAGED_BY`] and field manager of the operator.
pub const OPERATOR: &str = "paperclip-operator";
/// Recommended label `app.kubernetes.io/name`.
pub const NAME: &str = "app.kubernetes.io/name";
/// Recommended label `app.kubernetes.io/component`.
pub const COMPONENT: &str = "app.kubernetes.io/component";

/// Name of the `PaperclipPlugin` an object belongs to. A plugin name is a DNS label
/// of at most 50 characters, so it always fits a label value.
pub const PLUGIN: &str = "plugins.paperclip.ing/plugin";
/// Namespace of the `PaperclipPlugin`, on objects in another namespace (packing Jobs).
pub const PLUGIN_NAMESPACE: &str = "plugins.paperclip.ing/plugin-namespace";
/// UID of the `PaperclipPlugin` an object belongs to.
pub const PLUGIN_UID: &str = "plugins.paperclip.ing/plugin-uid";
/// Name of the `PaperclipHost` a plugin's Service is for. The EndpointSlice
/// controller copies Service labels to the slices, so a host finds its pods by
/// selecting slices on this and [`HOST_NAMESPACE`].
pub const HOST: &str = "plugins.paperclip.ing/host";
/// Namespace of the `PaperclipHost` a plugin's Service is for.
pub const HOST_NAMESPACE: &str = "plugins.paperclip.ing/host-namespace";

/// Annotation on the Deployment and its pods: the activation number, as decimal text.
pub const ACTIVATION: &str = "plugins.paperclip.ing/activation";
/// Annotation on pods: digest of the artifact they run.
pub const ARTIFACT_DIGEST: &str = "plugins.paperclip.ing/artifact-digest";
/// Annotation on what the operator applied: hash of what it asked for.
pub const APPLIED: &str = "plugins.paperclip.ing/applied";
/// Annotation on the Deployment: hash of what its pods were made from.
pub const INPUTS: &str = "plugins.paperclip.ing/inputs";
/// Annotation on the Deployment: release of the operator that rendered it.
pub const RENDERED_BY: &str = "plugins.paperclip.ing/rendered-by";
/// Annotation on packing Jobs: the package, as in `name@1.2.3`.
pub const PACKAGE: &str = "plugins.paperclip.ing/package";
/// Annotation on pods: `facts.json` for the sidecar, which reads it through the downward API.
pub const FACTS: &str = "plugins.paperclip.ing/facts";
/// Annotation on pods: number of the newest revision whose config they were handed. A change
/// of it makes the kubelet refresh the config volume at once.
pub const CONFIG_REVISION: &str = "plugins.paperclip.ing/config-revision";
/// Annotation on pods: hash of the limits they were handed. A change of it does the same for them.
pub const LIMITS: &str = "plugins.paperclip.ing/limits";
/// Annotation on a plugin: any new value makes a new revision with new pods, and with the
/// sidecar of the operator's release.
pub const RESTARTED_AT: &str = "plugins.paperclip.ing/restarted-at";
/// Annotation on a plugin: any new value makes the operator look again at once, also at a
/// package that failed. It is echoed in `status.lastHandledReconcileAt`.
pub const RECONCILE_REQUESTED_AT: &str = "plugins.paperclip.ing/reconcile-requested-at";

/// Annotation of a plugin: a new value has its dependencies resolved anew, where no lock is
/// given. It stays, since the artifact follows from it.
pub const RELOCK_REQUESTED_AT: &str = "plugins.paperclip.ing/relock-requested-at";
/// Label on a Secret, with value `true`: plugins of its namespace may use it.
pub const ALLOW_PLUGINS: &str = "plugins.paperclip.ing/allow-plugins";
