//! Packs on this machine, without a cluster: the same steps, the same Node and npm, and so
//! the same digest.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use paperclip_artifact_format::platform::Platforms;
use paperclip_oci::layout::{Layout, LayoutError};
use paperclip_packing_api::naming::is_package_name;
use paperclip_packing_api::report::{Failure, FailureReason};
use paperclip_packing_api::request::{self, InvalidRequest};
use paperclip_packing_api::single_file::SingleFile;

use crate::npm::registry::Registry;
use crate::npm::toolchain::{Toolchain, ToolchainError};
use crate::sandbox::evaluate::Evaluator;
use crate::steps::assemble::Assembled;
use crate::steps::error::PackError;
use crate::steps::package::Package;
use crate::steps::work::Work;

/// The lock's file beside the layout, to pack from again.
pub const LOCK_FILE: &str = "package-lock.json";

/// How to pack here.
#[derive(Clone, Debug)]
pub struct Local<'a> {
    /// The npm registry.
    pub registry: &'a Registry,
    /// Folder that keeps the pinned Node and npm between runs.
    pub cache: &'a Path,
    /// A program that has [`crate::sandbox::evaluate::SEAL_COMMAND`].
    pub program: PathBuf,
}

/// The progress of a packing, for whoever waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The pinned Node and npm are brought.
    Toolchain,
    /// npm resolves and installs.
    Fetch,
    /// The plugin manifest is evaluated.
    Evaluate,
    /// The image is put together.
    Assemble,
}

/// Why packing here failed.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// The request makes no sense.
    #[error("`{found}` is not {wanted}")]
    Input {
        /// What was given.
        found: String,
        /// What is wanted.
        wanted: &'static str,
    },
    /// The registry's URL is none that npm may ask, or a platform is none to pack for.
    #[error(transparent)]
    Registry(#[from] InvalidRequest),
    /// Node and npm.
    #[error(transparent)]
    Toolchain(#[from] ToolchainError),
    /// A step.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// The folder of the steps.
    #[error("cannot make a work folder")]
    Work(#[source] io::Error),
    /// The layout.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

impl From<&LocalError> for Failure {
    fn from(error: &LocalError) -> Self {
        match error {
            LocalError::Pack(error) => error.into(),
            other => Self {
                reason: FailureReason::PackingFailed,
                message: paperclip_error_chain::chain(other),
            },
        }
    }
}

impl Local<'_> {
    /// Fetches, evaluates and assembles a package in a folder that is gone afterwards.
    ///
    /// # Errors
    /// When the registry fails, or package or lock break a rule.
    pub async fn pack(
        &self,
        package: &Package<'_>,
        progress: impl Fn(Progress),
    ) -> Result<Assembled, LocalError> {
        check(package, self.registry)?;
        progress(Progress::Toolchain);
        let toolchain = Toolchain::provision(self.cache, self.registry).await?;
        let folder = tempfile::tempdir().map_err(LocalError::Work)?;
        let work = Work::at(folder.path());
        progress(Progress::Fetch);
        work.fetch(package, self.registry, &toolchain, None).await?;
        self.finish(&work, toolchain, progress)
    }

    /// Packs a plugin of one file.
    ///
    /// # Errors
    /// When its plugin manifest breaks a rule.
    pub async fn pack_single_file(
        &self,
        single_file: &SingleFile,
        progress: impl Fn(Progress),
    ) -> Result<Assembled, LocalError> {
        progress(Progress::Toolchain);
        let toolchain = Toolchain::provision(self.cache, self.registry).await?;
        let folder = tempfile::tempdir().map_err(LocalError::Work)?;
        let work = Work::at(folder.path());
        work.lay_out(single_file, &Platforms::default())?;
        self.finish(&work, toolchain, progress)
    }

    fn finish(
        &self,
        work: &Work,
        toolchain: Toolchain,
        progress: impl Fn(Progress),
    ) -> Result<Assembled, LocalError> {
        progress(Progress::Evaluate);
        let evaluator = Evaluator {
            packer: self.program.clone(),
            toolchain,
        };
        work.evaluate(&evaluator)?;
        progress(Progress::Assemble);
        Ok(work.assemble()?)
    }
}

fn check(package: &Package<'_>, registry: &Registry) -> Result<(), LocalError> {
    let refuse = |found: &str, wanted| {
        Err(LocalError::Input {
            found: found.chars().take(200).collect(),
            wanted,
        })
    };
    if !is_package_name(package.name) {
        return refuse(package.name, "the name of an npm package");
    }
    if semver::Version::parse(package.version).is_err() {
        return refuse(package.version, "an exact version such as 1.2.3");
    }
    request::check_platforms(package.platforms)?;
    Ok(request::check_registry(&registry.url)?)
}

/// Writes an artifact with its referrers as an OCI image layout, and its lock beside it.
///
/// # Errors
/// When a file cannot be written.
pub fn write(assembled: &Assembled, folder: &Path) -> Result<Layout, LocalError> {
    let layout = Layout::write(
        folder,
        assembled.packed(),
        assembled.referrers(),
        &assembled.version_tag(),
    )?;
    let path = folder.join(LOCK_FILE);
    fs::write(&path, assembled.lock()).map_err(|source| LayoutError::Write { path, source })?;
    Ok(layout)
}

/// The folder for [`Local::cache`] where none is named: one of the user's cache.
#[must_use]
pub fn user_cache() -> Option<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    Some(base.or_else(home)?.join("paperclip-kubernetes"))
}
