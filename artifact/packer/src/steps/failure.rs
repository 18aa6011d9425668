//! The errors of steps as failures that a Job reports.

use paperclip_artifact::inspect::InspectError;
use paperclip_artifact::installed::InstalledError;
use paperclip_artifact::native::NativeError;
use paperclip_artifact::pull::PullError;
use paperclip_artifact::tree::TreeError;
use paperclip_error_chain::chain;
use paperclip_oci::client::StoreError;
use paperclip_oci::layout::LayoutError;
use paperclip_oci::source::SourceError;
use paperclip_packing_api::report::{Failure, FailureReason};
use reqwest::StatusCode;

use crate::npm::download::TarballError;
use crate::npm::error::InstallError;
use crate::npm::normalise::NormaliseError;
use crate::npm::registry::FetchError;
use crate::sandbox::evaluate::EvaluateError;
use crate::source::promote::PromoteError;
use crate::source::single_file::LayOutError;
use crate::source::tarball::TarballSourceError;
use crate::steps::error::PackError;

impl From<&PackError> for Failure {
    fn from(error: &PackError) -> Self {
        let reason = match error {
            PackError::Install(error) => reason_of_install(error),
            PackError::Lock(_)
            | PackError::SingleFile(LayOutError::Lock(_))
            | PackError::Native(NativeError::Foreign { .. })
            | PackError::Integrity { .. }
            | PackError::Served { .. }
            | PackError::Evidence(_)
            | PackError::Layer { .. } => FailureReason::PackageRefused,
            PackError::Normalise(NormaliseError::Tree(TreeError::Refused { .. }))
            | PackError::Tree(TreeError::Refused { .. }) => FailureReason::PackageRefused,
            PackError::Evaluate(EvaluateError::Seal(_)) => FailureReason::PackingFailed,
            PackError::Evaluate(EvaluateError::Read { .. }) => FailureReason::PackageRefused,
            PackError::Registry(error) => reason_of_fetch(error),
            PackError::Tarballs(error) => reason_of_tarball(error),
            PackError::TarballSource(error) => reason_of_tarball_source(error),
            PackError::Evaluate(EvaluateError::Missing(_)) => FailureReason::ManifestMissing,
            PackError::Evaluate(EvaluateError::Worker { .. }) => FailureReason::WorkerFileMissing,
            PackError::Manifests { .. }
            | PackError::SingleFile(LayOutError::SingleFile(_))
            | PackError::Evaluate(
                EvaluateError::Failed { .. }
                | EvaluateError::Unstable { .. }
                | EvaluateError::Invalid(_),
            ) => FailureReason::ManifestInvalid,
            PackError::Store(_) => FailureReason::StoreUnavailable,
            PackError::Normalise(_)
            | PackError::SingleFile(LayOutError::Write { .. })
            | PackError::Native(NativeError::Read { .. })
            | PackError::Tree(_)
            | PackError::Image(_)
            | PackError::Sbom(_)
            | PackError::LockRecorded { .. }
            | PackError::Work { .. } => FailureReason::PackingFailed,
        };
        Self {
            reason,
            message: chain(error),
        }
    }
}

fn reason_of_tarball(error: &TarballError) -> FailureReason {
    match error {
        TarballError::Refused(_) | TarballError::Total { .. } => FailureReason::PackageRefused,
        TarballError::Fetch { source, .. } => reason_of_fetch(source),
        TarballError::Store(_) => FailureReason::StoreUnavailable,
        TarballError::Cache { .. } | TarballError::Interrupted => FailureReason::PackingFailed,
    }
}

fn reason_of_tarball_source(error: &TarballSourceError) -> FailureReason {
    match error {
        TarballSourceError::Tarball(TarballError::Fetch {
            source: FetchError::Status { status, .. },
            ..
        }) if matches!(*status, StatusCode::NOT_FOUND | StatusCode::GONE) => {
            FailureReason::PackageNotFound
        }
        TarballSourceError::Tarball(error) => reason_of_tarball(error),
        TarballSourceError::Field { .. } | TarballSourceError::Description { .. } => {
            FailureReason::PackageRefused
        }
        TarballSourceError::Read { .. } => FailureReason::PackingFailed,
    }
}

impl From<&PromoteError> for Failure {
    fn from(error: &PromoteError) -> Self {
        let reason = match error {
            PromoteError::Look { source, .. } => reason_of_source(source),
            PromoteError::Inspect(InspectError::Read { source, .. }) => reason_of_source(source),
            PromoteError::Inspect(InspectError::Unpack(
                PullError::Write { .. } | PullError::Interrupted,
            )) => FailureReason::PackingFailed,
            PromoteError::Inspect(_) | PromoteError::Platforms { .. } => {
                FailureReason::PackageRefused
            }
            PromoteError::Store(_) => FailureReason::StoreUnavailable,
            PromoteError::Layout(_) | PromoteError::Work { .. } => FailureReason::PackingFailed,
        };
        Self {
            reason,
            message: chain(error),
        }
    }
}

/// What a registry that is not the store did.
fn reason_of_source(error: &SourceError) -> FailureReason {
    match error {
        SourceError::NoTag { .. } => FailureReason::VersionNotFound,
        SourceError::Store(error) => match error {
            StoreError::Refused { status, .. }
                if matches!(*status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) =>
            {
                FailureReason::RegistryAccessDenied
            }
            error if error.is_not_found() => FailureReason::PackageNotFound,
            StoreError::Mismatch { .. } => FailureReason::PackageRefused,
            StoreError::Write { .. } | StoreError::Credential { .. } => {
                FailureReason::PackingFailed
            }
            _ => FailureReason::RegistryUnavailable,
        },
        // The copy is ours, and what it holds is not.
        SourceError::Layout(LayoutError::Refused { .. }) => FailureReason::PackageRefused,
        SourceError::Layout(_) => FailureReason::PackingFailed,
    }
}

fn reason_of_install(error: &InstallError) -> FailureReason {
    match error {
        InstallError::PackageNotFound { .. } => FailureReason::PackageNotFound,
        InstallError::VersionNotFound { .. } => FailureReason::VersionNotFound,
        InstallError::Registry { .. } => FailureReason::RegistryUnavailable,
        InstallError::AccessDenied { .. } => FailureReason::RegistryAccessDenied,
        InstallError::Refused { .. }
        | InstallError::Platform { .. }
        | InstallError::Lock(_)
        | InstallError::Installed(InstalledError::Refused { .. }) => FailureReason::PackageRefused,
        InstallError::Fetch { source, .. } => reason_of_fetch(source),
        InstallError::Installed(InstalledError::Read { .. })
        | InstallError::Npm { .. }
        | InstallError::Work { .. } => FailureReason::PackingFailed,
    }
}

/// An answer that breaks a rule is the package's fault: the registry says of the package
/// what nobody may act on.
pub(super) fn reason_of_fetch(error: &FetchError) -> FailureReason {
    match error {
        FetchError::Forbidden { .. }
        | FetchError::TooLarge { .. }
        | FetchError::Encoding { .. } => FailureReason::PackageRefused,
        FetchError::Status { status, .. }
            if matches!(*status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) =>
        {
            FailureReason::RegistryAccessDenied
        }
        error if error.is_transient() => FailureReason::RegistryUnavailable,
        FetchError::Status { .. } => FailureReason::PackageRefused,
        _ => FailureReason::PackingFailed,
    }
}
