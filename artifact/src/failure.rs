//! Reasons why a package is not packed, or an artifact is not trusted, and the class of each.

use serde::{Deserialize, Serialize};

/// A reason, by which people and programs tell failures apart; each is the text of a `Reason` of
/// the API.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, Hash)]
pub enum FailureReason {
    /// The package is not in the registry.
    PackageNotFound,
    /// The package is in the registry, and this version of it is not.
    VersionNotFound,
    /// The npm registry could not be reached, or failed.
    RegistryUnavailable,
    /// The npm registry refused the platform's credential, or wants one.
    RegistryAccessDenied,
    /// The package breaks a rule of packing; the message names the rule.
    PackageRefused,
    /// The package has no plugin manifest.
    ManifestMissing,
    /// The plugin manifest cannot be evaluated, or breaks a rule of Paperclip.
    ManifestInvalid,
    /// The worker file that the plugin manifest names is not in the package.
    WorkerFileMissing,
    /// Packing failed for another cause.
    PackingFailed,
    /// The artifact store could not be reached or refused us.
    StoreUnavailable,
    /// The artifact carries no signature of the kind that a policy wants.
    SignatureMissing,
    /// A signature does not hold, or is of something else.
    SignatureInvalid,
    /// A signature holds, and somebody else made it than a policy wants.
    IdentityMismatch,
    /// The key that signed had expired when the package was published.
    KeyExpired,
    /// A key, pattern or trust root of a policy cannot be read.
    PolicyInvalid,
}

/// The class of a reason: who can do something about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureClass {
    /// The package is at fault: the same again fails again.
    Package,
    /// A policy is not met, or is none: the same again fails again.
    Trust,
    /// A credential is refused or lacks: a person may mend it meanwhile.
    Access,
    /// The same may succeed a little later.
    Transient,
}

impl FailureReason {
    /// The class of the reason.
    #[must_use]
    pub fn class(self) -> FailureClass {
        match self {
            Self::PackageNotFound
            | Self::VersionNotFound
            | Self::PackageRefused
            | Self::ManifestMissing
            | Self::ManifestInvalid
            | Self::WorkerFileMissing => FailureClass::Package,
            Self::SignatureMissing
            | Self::SignatureInvalid
            | Self::IdentityMismatch
            | Self::KeyExpired
            | Self::PolicyInvalid => FailureClass::Trust,
            Self::RegistryAccessDenied => FailureClass::Access,
            Self::RegistryUnavailable | Self::StoreUnavailable | Self::PackingFailed => {
                FailureClass::Transient
            }
        }
    }

    /// Whether trying the same again can only fail again.
    #[must_use]
    pub fn is_fault_of_package(self) -> bool {
        matches!(self.class(), FailureClass::Package | FailureClass::Trust)
    }
}
