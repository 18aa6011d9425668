//! What an earlier packing of a request left in the store.

use paperclip_artifact::trust::PublicKey;
use paperclip_artifact::trust::platform::{self, CheckError};
use paperclip_artifact_format::annotations;
use paperclip_error_chain::chain;
use paperclip_oci::client::{StoreClient, StoreError};
use paperclip_oci::digest::Digest;
use paperclip_oci::index::Top;

use crate::report::Pushed;
use crate::request::PackRequest;

/// What an earlier packing of this request left in the store, and which of the keys signed it.
/// What none of them signed is passed over: a store may hold, and tag, what it likes.
///
/// # Errors
/// When the store fails, or holds something under the tag that is no artifact of ours.
pub async fn find(
    store: &StoreClient,
    request: &PackRequest,
    keys: &[PublicKey],
) -> Result<Option<(Pushed, Digest)>, StoreError> {
    let Some(found) = find_unsigned(store, request).await? else {
        return Ok(None);
    };
    match platform::check(store, &found.repository, &found.digest, keys).await {
        Ok(key) => Ok(Some((found, key))),
        Err(CheckError::Store { source, .. }) => Err(*source),
        Err(refused @ CheckError::Refused { .. }) => {
            tracing::info!(
                why = chain(&refused),
                "an artifact in the store is passed over"
            );
            Ok(None)
        }
    }
}

/// As [`find`], whoever signed it.
///
/// # Errors
/// As [`find`].
pub async fn find_unsigned(
    store: &StoreClient,
    request: &PackRequest,
) -> Result<Option<Pushed>, StoreError> {
    let tag = request.tag();
    let Some(content) = store.tagged_bytes(&request.repository, &tag).await? else {
        return Ok(None);
    };
    let mismatch = |why: &str| store.mismatch(&format!("tag {tag}"), why);
    let top = Top::parse(&content).map_err(|why| mismatch(&why))?;
    let annotation = |name: &str| {
        let found = top.annotations().get(name);
        found.ok_or_else(|| mismatch(&format!("it has no {name}")))
    };
    let (platforms, size_bytes) = match &top {
        Top::Image(manifest) => (Vec::new(), manifest.size()),
        Top::Index(index) => {
            let images = index.images().map_err(|why| mismatch(&why))?;
            let mut size = 0;
            for image in images.values() {
                let manifest = store.manifest(&request.repository, &image.digest);
                size += manifest.await?.size();
            }
            (images.into_keys().collect(), size)
        }
    };
    // A tag is the store's word; what the manifest says is under the digest that is signed.
    for (name, wanted) in [
        (annotations::PACKAGE, &request.package),
        (annotations::VERSION, &request.version),
    ] {
        let found = annotation(name)?;
        if found != wanted {
            let why = format!("its {name} is {found:.200}, wanted {wanted}");
            return Err(store.mismatch(&format!("tag {tag}"), &why));
        }
    }
    let lock_digest = annotation(annotations::LOCK_DIGEST)?;
    Ok(Some(Pushed {
        repository: request.repository.clone(),
        marker: annotation(annotations::MARKER)?.clone(),
        size_bytes,
        lock_digest: lock_digest
            .parse()
            .map_err(|_| mismatch("its lock digest is none"))?,
        digest: Digest::of(&content),
        platforms,
    }))
}
