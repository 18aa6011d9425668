//! Why a step of packing fails.

use std::path::PathBuf;

use paperclip_artifact::limits;
use paperclip_artifact::lock::LockError;
use paperclip_artifact::native::NativeError;
use paperclip_artifact::sbom::SbomError;
use paperclip_artifact::tree::TreeError;
use paperclip_artifact::trust::Refusal;
use paperclip_artifact_format::platform::Platforms;
use paperclip_oci::client::StoreError;
use paperclip_oci::digest::Digest;
use paperclip_oci::image::ImageError;

use crate::npm::download::TarballError;
use crate::npm::error::InstallError;
use crate::npm::normalise::NormaliseError;
use crate::npm::registry::FetchError;
use crate::sandbox::evaluate::EvaluateError;
use crate::source::single_file::LayOutError;
use crate::source::tarball::TarballSourceError;

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// npm or the lock.
    #[error(transparent)]
    Install(#[from] InstallError),
    /// The lock alone.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A plugin of one file.
    #[error(transparent)]
    SingleFile(#[from] LayOutError),
    /// The tree.
    #[error(transparent)]
    Normalise(#[from] NormaliseError),
    /// The tree, listed again.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A native addon.
    #[error(transparent)]
    Native(#[from] NativeError),
    /// The manifest.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    /// The package is another plugin on another CPU.
    #[error(
        "the plugin manifest is not the same in the trees for {platforms}: wanted one for the whole artifact"
    )]
    Manifests {
        /// Two platforms with different ones.
        platforms: Platforms,
    },
    /// The image.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The bill of materials.
    #[error(transparent)]
    Sbom(#[from] SbomError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The client of the registry.
    #[error(transparent)]
    Registry(#[from] FetchError),
    /// The tarballs, from the store or the registry.
    #[error(transparent)]
    Tarballs(#[from] TarballError),
    /// A tarball that was given by its URL.
    #[error(transparent)]
    TarballSource(#[from] TarballSourceError),
    /// The registry has changed its mind about a version.
    #[error(
        "{package}: the registry serves integrity {served}, and wanted is {wanted}, which it served when it was looked up"
    )]
    Served {
        /// Package and version.
        package: String,
        /// What the registry says now.
        served: String,
        /// What it said before.
        wanted: String,
    },
    /// The lock names another tarball than the registry.
    #[error("{package}: the lock has integrity {locked}, and the registry {served}")]
    Integrity {
        /// Package and version.
        package: String,
        /// What the lock says.
        locked: String,
        /// What the registry says.
        served: String,
    },
    /// The packed tree is larger than anything would pull.
    #[error(
        "the packed package tree breaks the rule `layer-size`: found {found} bytes, wanted at most {}",
        limits::LAYER
    )]
    Layer {
        /// Its size.
        found: u64,
    },
    /// What the registry sent for signatures.
    #[error(transparent)]
    Evidence(#[from] Refusal),
    /// Another packing recorded a lock in the meantime.
    #[error(
        "another packing recorded lock {recorded} first, and this tree is of {ours}; pack again from the recorded one"
    )]
    LockRecorded {
        /// The recorded lock.
        recorded: Digest,
        /// This packing's.
        ours: Digest,
    },
    /// The work folder could not be used.
    #[error("cannot use {}: {why}", path.display())]
    Work {
        /// The file.
        path: PathBuf,
        /// The cause.
        why: String,
    },
}
