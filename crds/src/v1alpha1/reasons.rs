//! Reasons of conditions and events: API, listed in `docs/conditions.md`, never renamed.
//!
//! One table has all that is known of a reason: its class, from which everything that reacts to
//! a reason decides; its meaning, which is its documentation, too; and its advice.

use super::conditions::words;

/// Kind of a reason. Requeues, events, and `Stalled` follow from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// As it should be, or work under way: no news for anybody.
    Calm,
    /// A service outside the cluster's API fails. It is tried again by itself, and no watch says
    /// when it is over.
    Transient,
    /// An object that the spec names is missing or closed. Work goes on once it is there.
    Reference,
    /// Trouble of the plugin's pods. The cluster or the sidecar tries again, and the watch of
    /// pods says when it is over.
    Workload,
    /// The package is at fault: the same package can only fail again.
    Package,
    /// A trust policy is not met, or cannot be read: the same artifact can only fail again.
    Policy,
    /// A person has to decide or to correct something.
    Person,
}

const OTHER_VERSION: &str = "Use another version of the package, or tell its author.";
const SEE_STORE: &str =
    "It is tried again by itself. See the artifact store in the platform's namespace.";
const CORRECT_CONFIG: &str = "Correct spec.config.";
const SEE_LOG: &str = "It is started again by itself. See its log with kubectl paperclip logs.";
const SEE_HOST: &str = "See that a pod of the host runs.";
const SIGNED_VERSION: &str =
    "Use a version that is signed as the policy wants, or have an administrator review the policy.";

/// Rows of `Reason: Class = meaning => advice;`.
macro_rules! reasons {
    (@advice) => { None };
    (@advice $advice:expr) => { Some($advice) };
    ($($word:ident: $class:ident = $meaning:literal $(=> $advice:expr)?;)+) => {
        words! {
            /// Reasons of conditions and events.
            Reason { $($word = $meaning,)+ }
        }

        impl Reason {
            /// Its class.
            #[must_use]
            pub const fn class(self) -> Class {
                match self {
                    $(Self::$word => Class::$class,)+
                }
            }

            /// The next step of a person, as a sentence: part of the message of `Ready` and of
            /// the CLI's answers. `None` where there is nothing to do but wait, and where the
            /// message itself says it.
            #[must_use]
            pub const fn advice(self) -> Option<&'static str> {
                match self {
                    $(Self::$word => reasons!(@advice $($advice)?),)+
                }
            }
        }
    };
}

reasons! {
    Succeeded: Calm = "All is as it should be.";
    Pending: Calm = "The resource was seen and nothing is known yet.";
    Packing: Calm = "A packing Job runs.";
    PackageNotFound: Package = "The package is not in the registry."
        => "Correct spec.source to a package that its registry or URL has.";
    VersionNotFound: Package = "The package is in the registry, and this version of it is not."
        => "Correct spec.source to a version or a tag that is published.";
    RegistryUnavailable: Transient = "The registry, or the place of the package, could not be reached, or failed."
        => "It is tried again by itself. See the place that spec.source names, or the registry of the platform's value npm.registry.";
    RegistryAccessDenied: Transient = "The registry, or the place of the package, refused the credential, or wants one."
        => "It is tried again by itself. Correct the Secret that spec.source names, or the npmrc in that of the platform's value npm.caSecret.";
    PackageRefused: Package = "The package breaks a rule of packing; the message names the rule."
        => OTHER_VERSION;
    ManifestMissing: Package = "The package has no plugin manifest."
        => OTHER_VERSION;
    ManifestInvalid: Package = "The package's plugin manifest cannot be evaluated, or breaks a rule of Paperclip."
        => OTHER_VERSION;
    WorkerFileMissing: Package = "The worker file that the plugin manifest names is not in the package."
        => OTHER_VERSION;
    ManifestMismatch: Person = "A field of `spec.manifest` is not what the package says."
        => "Review what the package says, then correct spec.manifest or go back to the version that was reviewed.";
    PackingFailed: Transient = "The packing Job failed for another cause."
        => "It is tried again by itself. See the log of the packing Job in the platform's namespace.";
    StoreUnavailable: Transient = "The artifact store could not be reached or refused us."
        => SEE_STORE;
    ReferenceMissing: Reference = "A ConfigMap or a key that the spec names is missing."
        => "Create it, or correct the reference.";
    SecretUnavailable: Reference = "A Secret or a key that the spec names is missing, or the Secret lacks the label that opens it to plugins.";
    ConfigInvalid: Person = "The config breaks the plugin manifest's `instanceConfigSchema`, or a source of it is no object."
        => CORRECT_CONFIG;
    ConfigRejected: Person = "The worker's `validateConfig` refused the config."
        => CORRECT_CONFIG;
    CapabilitiesAdded: Person = "The package requests capabilities that were not granted."
        => "Review them, then name them in spec.manifest.capabilities or stay with the version that runs.";
    Implicit: Calm = "Granted without a reviewer's grant: by `spec.manifest.capabilities`, or by the request of the first revision.";
    Suspended: Calm = "`spec.suspend` is set.";
    RolledBack: Person = "The revision did not come to serve in time, and the one that served last runs again."
        => "Correct the spec. The same revision is not tried again unless a restart is requested.";
    DeadlineExceeded: Person = "The revision did not come to serve in time."
        => "Remove the cause, and it goes on by itself.";
    QuotaExceeded: Workload = "A ResourceQuota leaves no room for the pod."
        => "Raise the quota or free what it counts, and the pod comes by itself.";
    AdmissionRefused: Workload = "An admission policy or webhook of the cluster refuses the pod."
        => "Have the policy let the pod in, and it comes by itself.";
    Unschedulable: Workload = "No node has room for the pod, or none fits it."
        => "Make room on a node, add one or open one, and the pod is placed by itself.";
    Progressing: Calm = "The pods of the new template are being started.";
    PodRefused: Workload = "The kubelet or the cluster refused the pod for another cause."
        => "See the events of the plugin's pod with kubectl describe.";
    ImageUnavailable: Transient = "An image of the pod cannot be pulled."
        => "See the platform's values global.imageRegistry, image, images and imagePullSecrets.";
    DeliveryFailed: Workload = "The artifact could not be delivered to the pod."
        => SEE_STORE;
    WorkerExited: Workload = "The worker exited or was killed."
        => SEE_LOG;
    InitializeFailed: Workload = "The worker did not answer `initialize`, or answered it with an error."
        => "It is started again by itself. See its log with kubectl paperclip logs, and the config that its setup reads.";
    WorkerUnresponsive: Workload = "The worker does not answer `health`."
        => SEE_LOG;
    WaitingForHost: Calm = "The worker's set-up waits for a host to answer."
        => SEE_HOST;
    HostAbsent: Calm = "No session with the host pings both ways."
        => SEE_HOST;
    HostNotFound: Reference = "The `PaperclipHost` does not exist."
        => "Create the PaperclipHost, or correct spec.host.";
    HostForbidden: Person = "The `PaperclipHost` does not allow plugins of this namespace."
        => "Have the host allow this namespace, or name another host in spec.host.";
    PluginIdTaken: Person = "Another plugin of the same host has the id of the plugin manifest."
        => "Delete one of the two, or attach one to another host; this one then starts by itself.";
    NotEnforced: Person = "The cluster's network lets the pod connect where no policy allows it.";
    Skipped: Calm = "The check was not requested.";
    Verifying: Calm = "A Job checks the signatures of the artifact.";
    NoPolicyMatches: Person = "There are trust policies, and none is for this package in this namespace."
        => "Have an administrator create a PaperclipTrustPolicy that is for it, or use another package.";
    SignatureMissing: Policy = "The artifact carries no signature of the kind that a policy wants, or it was packed before signatures were recorded."
        => SIGNED_VERSION;
    SignatureInvalid: Policy = "A signature does not hold, or is of something else."
        => SIGNED_VERSION;
    IdentityMismatch: Policy = "A signature holds, and somebody else made it than a policy wants."
        => SIGNED_VERSION;
    KeyExpired: Policy = "The key that signed had expired when the package was published."
        => SIGNED_VERSION;
    PolicyInvalid: Policy = "A key, pattern or trust root of a policy cannot be read."
        => "Have an administrator correct the PaperclipTrustPolicy.";
    VerificationFailed: Transient = "The signatures could not be checked for another cause."
        => "It is tried again by itself. See the log of the verifying Job in the platform's namespace.";
    ApplyFailed: Transient = "The API server refused a write of the operator."
        => "It is tried again by itself. Where an object of another has the name, delete or rename that object.";
}
