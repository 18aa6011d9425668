//! The lock that a package is installed from.

use paperclip_artifact::inputs::{Inputs, LOCK_MEDIA_TYPE};
use paperclip_artifact::limits;
use paperclip_artifact::lock::{Lock, MissingPeer};
use paperclip_oci::client::{StoreClient, StoreError};

use crate::npm::install::Npm;
use crate::steps::error::PackError;
use crate::steps::package::Package;
use crate::steps::work::LockOrigin;

pub(super) async fn choose_lock(
    package: &Package<'_>,
    inputs: &Inputs,
    (npm, peers): (&Npm<'_>, Vec<MissingPeer>),
    store: Option<(&StoreClient, &str)>,
) -> Result<(Lock, LockOrigin), PackError> {
    let Package {
        name,
        version,
        lock,
        relock,
        ..
    } = *package;
    if let Some(text) = lock {
        return Ok((
            Lock::parse(text.as_bytes(), name, version)?,
            LockOrigin::Request,
        ));
    }
    if let Some((store, repository)) = store
        && let Some(text) = recorded_lock(store, repository, &inputs.lock_tag(relock)).await?
    {
        return Ok((Lock::parse(&text, name, version)?, LockOrigin::Recorded));
    }
    tracing::info!("no lock is recorded: resolving a new one");
    Ok((
        npm.resolve(name, version, peers).await?,
        LockOrigin::Resolved,
    ))
}

pub(super) async fn recorded_lock(
    store: &StoreClient,
    repository: &str,
    tag: &str,
) -> Result<Option<bytes::Bytes>, StoreError> {
    store
        .artifact(repository, LOCK_MEDIA_TYPE, tag, limits::LOCK)
        .await
}
