//! What stands beside an image in the registry it comes from: cosign's signatures, under its
//! tag and as bundles that refer to the image.
//!
//! As with npm, nothing is judged, and a registry that holds none is no fault. All of it was
//! written by others, so every count and every size has a bound, and what breaks one is
//! passed over.

use paperclip_oci::client::{StoreClient, StoreError};
use paperclip_oci::digest::Digest;
use paperclip_oci::image::Descriptor;
use paperclip_oci::referrers::{self, Listed};
use serde::Deserialize;
use serde_json::value::RawValue;

use paperclip_artifact::trust::cosign_tag::{self, unless_transient};
use paperclip_artifact::trust::evidence::{Evidence, MAX_BUNDLE, MAX_SIGNATURES, Subject};

/// Start of the media types of Sigstore's bundles; the version follows.
const BUNDLE_TYPE: &str = "application/vnd.dev.sigstore.bundle";

/// Most referrers whose manifest is read to find bundles.
const MAX_LOOKS: usize = 2 * MAX_SIGNATURES;

/// Bytes of all bundles of one image, as for the attestations of npm.
const MAX_BUNDLES: usize = 2 * 1024 * 1024;

/// A referrer, as far as it is read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    layers: Vec<Descriptor>,
    subject: Option<Descriptor>,
}

/// Evidence of the image that `subject` says it came from.
///
/// # Errors
/// When the registry does not answer for now.
pub async fn of_image(
    client: &StoreClient,
    repository: &str,
    subject: Subject,
) -> Result<Evidence, StoreError> {
    let Some(image) = &subject.source_digest else {
        return Ok(Evidence {
            subject,
            ..Evidence::default()
        });
    };
    Ok(Evidence {
        simple_signatures: cosign_tag::read(client, repository, image).await?,
        bundles: bundles(client, repository, image).await?,
        subject,
        ..Evidence::default()
    })
}

async fn bundles(
    client: &StoreClient,
    repository: &str,
    image: &Digest,
) -> Result<Vec<Box<RawValue>>, StoreError> {
    let listed = referrers::list(client, repository, image).await;
    let listed = unless_transient(listed)?.unwrap_or_default();
    let mut found: Vec<Box<RawValue>> = Vec::new();
    let mut left = MAX_BUNDLES;
    for one in listed.iter().filter(may_be_bundle).take(MAX_LOOKS) {
        if found.len() == MAX_SIGNATURES {
            break;
        }
        let limit = left.min(MAX_BUNDLE);
        if let Some(bundle) = bundle(client, repository, image, one, limit).await? {
            left -= bundle.get().len();
            found.push(bundle);
        }
    }
    Ok(found)
}

/// Whoever lists a referrer under a tag need not say what it is.
fn may_be_bundle(listed: &&Listed) -> bool {
    listed.artifact_type.is_empty() || listed.artifact_type.starts_with(BUNDLE_TYPE)
}

async fn bundle(
    client: &StoreClient,
    repository: &str,
    image: &Digest,
    listed: &Listed,
    limit: usize,
) -> Result<Option<Box<RawValue>>, StoreError> {
    let manifest = client.manifest_bytes(repository, &listed.descriptor.digest);
    let Some(manifest) = unless_transient(manifest.await)? else {
        return Ok(None);
    };
    let Ok(Manifest { layers, subject }) = serde_json::from_slice(&manifest) else {
        return Ok(None);
    };
    let [blob] = &layers[..] else {
        return Ok(None);
    };
    let is_meant = subject.is_some_and(|subject| subject.digest == *image);
    if !is_meant || !blob.media_type.starts_with(BUNDLE_TYPE) {
        return Ok(None);
    }
    let content = unless_transient(client.blob(repository, blob, limit as u64).await)?;
    Ok(content.and_then(|content| serde_json::from_slice(&content).ok()))
}
