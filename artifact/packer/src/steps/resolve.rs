//! The step before packing: the version that a source stands for.

use paperclip_artifact_format::platform::Platform;
use paperclip_packing_api::resolve::Resolved;

use crate::npm::install::Npm;
use crate::npm::registry::{Registry, RegistryClient};
use crate::npm::toolchain::Toolchain;
use crate::steps::error::PackError;
use crate::steps::package::RemoteTarball;
use crate::steps::work::Work;

impl Work {
    /// The version that npm would take for a range or a dist-tag.
    ///
    /// # Errors
    /// When the registry fails, or has no such version.
    pub async fn look_up(
        &self,
        package: &str,
        range: &str,
        registry: &Registry,
        toolchain: &Toolchain,
    ) -> Result<Resolved, PackError> {
        let platform = Platform::default();
        let client = RegistryClient::new(registry)?;
        let tree = self.tree();
        let npm = Npm::new(toolchain, client, &platform, &self.folder, &tree).await?;
        Ok(npm.look_up(package, range).await?)
    }

    /// The package in a tarball.
    ///
    /// # Errors
    /// When it cannot be had, has another integrity, breaks a rule, or is no package.
    pub async fn look_up_tarball(
        &self,
        tarball: RemoteTarball<'_>,
        integrity: &str,
    ) -> Result<Resolved, PackError> {
        let package = self.download_package(tarball, integrity).await?;
        Ok(Resolved {
            package: Some(package.name),
            version: package.version,
            integrity: integrity.to_owned(),
        })
    }
}
