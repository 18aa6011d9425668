//! What a person does about a reason. Goes into the message of `Ready` and into the CLI.

use super::Reason;

impl Reason {
    /// What to do next, as a sentence. `None` where there is nothing to do but wait, and
    /// where the message itself says it.
    #[must_use]
    pub const fn advice(self) -> Option<&'static str> {
        Some(match self {
            Self::PackageNotFound => {
                "Correct spec.source to a package that its registry or URL has."
            }
            Self::VersionNotFound => "Correct spec.source to a version or a tag that is published.",
            Self::RegistryUnavailable => {
                "It is tried again by itself. See the place that spec.source names, or the registry of the platform's value npm.registry."
            }
            Self::RegistryAccessDenied => {
                "It is tried again by itself. Correct the Secret that spec.source names, or the npmrc in that of the platform's value npm.caSecret."
            }
            Self::PackageRefused
            | Self::ManifestMissing
            | Self::ManifestInvalid
            | Self::WorkerFileMissing => "Use another version of the package, or tell its author.",
            Self::ManifestMismatch => {
                "Review what the package says, then correct spec.manifest or go back to the version that was reviewed."
            }
            Self::PackingFailed => {
                "It is tried again by itself. See the log of the packing Job in the platform's namespace."
            }
            Self::StoreUnavailable | Self::DeliveryFailed => {
                "It is tried again by itself. See the artifact store in the platform's namespace."
            }
            Self::ReferenceMissing => "Make it, or correct the reference.",
            Self::ConfigInvalid | Self::ConfigRejected => "Correct spec.config.",
            Self::CapabilitiesAdded => {
                "Review them, then name them in spec.manifest.capabilities or stay with the version that runs."
            }
            Self::RolledBack => {
                "Correct the spec. The same revision is not tried again unless a restart is asked for."
            }
            Self::DeadlineExceeded => "Remove the cause, and it goes on by itself.",
            Self::QuotaExceeded => {
                "Raise the quota or free what it counts, and the pod comes by itself."
            }
            Self::AdmissionRefused => "Have the policy let the pod in, and it comes by itself.",
            Self::Unschedulable => {
                "Make room on a node, add one or open one, and the pod is placed by itself."
            }
            Self::PodRefused => "See the events of the plugin's pod with kubectl describe.",
            Self::ImageUnavailable => {
                "See the platform's values global.imageRegistry, image, images and imagePullSecrets."
            }
            Self::WorkerExited | Self::WorkerUnresponsive => {
                "It is started again by itself. See its log with kubectl paperclip logs."
            }
            Self::InitializeFailed => {
                "It is started again by itself. See its log with kubectl paperclip logs, and the config that its setup reads."
            }
            Self::HostAbsent | Self::WaitingForHost => "See that a pod of the host runs.",
            Self::HostNotFound => "Make the PaperclipHost, or correct spec.host.",
            Self::HostForbidden => {
                "Have the host allow this namespace, or name another host in spec.host."
            }
            Self::PluginIdTaken => {
                "Delete one of the two, or attach one to another host; this one then starts by itself."
            }
            Self::NoPolicyMatches => {
                "Have an administrator make a PaperclipTrustPolicy that is for it, or use another package."
            }
            Self::SignatureMissing
            | Self::SignatureInvalid
            | Self::IdentityMismatch
            | Self::KeyExpired => {
                "Use a version that is signed as the policy wants, or have an administrator review the policy."
            }
            Self::PolicyInvalid => "Have an administrator correct the PaperclipTrustPolicy.",
            Self::VerificationFailed => {
                "It is tried again by itself. See the log of the verifying Job in the platform's namespace."
            }
            Self::ApplyFailed => {
                "It is tried again by itself. Where an object of another has the name, delete or rename that object."
            }
            Self::Succeeded
            | Self::Pending
            | Self::Packing
            | Self::SecretUnavailable
            | Self::Implicit
            | Self::Suspended
            | Self::Progressing
            | Self::NotEnforced
            | Self::Skipped
            | Self::Verifying => return None,
        })
    }
}
