//! The trees of an artifact: one for each variant of the lock.

use std::path::Path;

use paperclip_artifact::lock::Lock;
use paperclip_artifact::native::{self, NativeError};
use paperclip_artifact::tree::Entry;
use paperclip_artifact_format::platform::Platforms;
use paperclip_error_chain::chain;

use crate::npm::error::InstallError;
use crate::npm::install::Npm;
use crate::npm::normalise;
use crate::steps::error::PackError;
use crate::steps::work::{Planted, Tree, Work, work_error};

impl Work {
    /// Has npm make the trees, one after the other, and leaves them as the steps after this
    /// want them. A platform that the package is not for is left out.
    pub(super) async fn plant(
        &self,
        npm: &Npm<'_>,
        lock: &Lock,
        platforms: &Platforms,
    ) -> Result<Planted, PackError> {
        let mut trees = Vec::new();
        let mut left_out = Vec::new();
        let mut everywhere = false;
        for variant in lock.variants(platforms) {
            let Some(first) = variant.first() else {
                continue;
            };
            let folder = self.tree_for(first);
            match npm.for_platform(first, &folder)?.install(lock).await {
                Err(error @ InstallError::Platform { .. }) => {
                    left_out.push((variant, PackError::from(error)));
                    continue;
                }
                installed => installed?,
            }
            tracing::info!(platform = %first, "npm has made the tree");
            let root = folder.clone();
            let normalised = tokio::task::spawn_blocking(move || normalise::normalise(&root)).await;
            let entries = normalised.map_err(|e| work_error(&folder, e))??;
            let mut fitting = Vec::new();
            for platform in variant {
                match native::check(&folder, &entries, &platform) {
                    Ok(()) => fitting.push(platform),
                    Err(error @ NativeError::Foreign { .. }) => {
                        left_out.push((vec![platform], error.into()));
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            if !fitting.is_empty() {
                everywhere = fits_everywhere(&folder, &entries, lock)?;
                trees.push(Tree {
                    folder,
                    platforms: fitting,
                });
            }
        }
        for (platforms, why) in &left_out {
            let platforms: Platforms = platforms.iter().cloned().collect();
            tracing::warn!(%platforms, why = chain(why), "the package is not for these platforms");
        }
        match left_out.into_iter().next() {
            Some((_, why)) if trees.is_empty() => Err(why),
            _ => Ok(Planted {
                trees,
                bound: !everywhere,
            }),
        }
    }
}

/// Whether npm makes the tree alike for every platform of this release, and it has addons for
/// all of them.
fn fits_everywhere(tree: &Path, entries: &[Entry], lock: &Lock) -> Result<bool, NativeError> {
    let supported = Platforms::supported();
    if lock.variants(&supported).len() > 1 {
        return Ok(false);
    }
    for platform in supported.iter() {
        match native::check(tree, entries, platform) {
            Ok(()) => {}
            Err(NativeError::Foreign { .. }) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}
