//! Signatures under cosign's tag: one manifest for an image, and in it a layer for each
//! signature, with the signed text as its blob and the signature as its annotation.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use paperclip_oci::canonical;
use paperclip_oci::client::{StoreClient, StoreError};
use paperclip_oci::digest::Digest;
use paperclip_oci::image::{CONFIG_MEDIA_TYPE, Descriptor, MANIFEST_MEDIA_TYPE};
use serde::Deserialize;
use serde_json::{Value, json};

use super::cosign::{MAX_PAYLOAD, signature_tag};
use super::evidence::{LoggedCertificate, MAX_ANNOTATION, MAX_SIGNATURES, SimpleSignature};
use super::keys::MAX_SIGNATURE;

/// Media type of a signed text.
const PAYLOAD_MEDIA_TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

/// Annotation of a layer that holds the signature, in base64.
const SIGNATURE_ANNOTATION: &str = "dev.cosignproject.cosign/signature";

/// Annotation with the certificate of who signed without a key of their own, as PEM.
const CERTIFICATE_ANNOTATION: &str = "dev.sigstore.cosign/certificate";

/// Annotation with what the log said of such a signature, as JSON.
const LOG_ANNOTATION: &str = "dev.sigstore.cosign/bundle";

/// All signed texts of an image together.
const MAX_PAYLOADS: u64 = 512 * 1024;

/// A layer, as far as it is read.
#[derive(Deserialize)]
struct Layer {
    #[serde(flatten)]
    blob: Descriptor,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// The signatures of an image. What is none, or larger than a signature is, is passed over:
/// whoever may write the tag may write anything.
///
/// # Errors
/// When the registry does not answer for now.
pub async fn read(
    client: &StoreClient,
    repository: &str,
    image: &Digest,
) -> Result<Vec<SimpleSignature>, StoreError> {
    let tag = signature_tag(image);
    let Some(manifest) = unless_transient(client.tagged_bytes(repository, &tag).await)?.flatten()
    else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    let mut left = MAX_PAYLOADS;
    for layer in layers(&manifest).into_iter().take(MAX_SIGNATURES) {
        let Ok(Layer { blob, annotations }) = serde_json::from_value::<Layer>(layer) else {
            continue;
        };
        let Some(signature) = annotations.get(SIGNATURE_ANNOTATION) else {
            continue;
        };
        if blob.media_type != PAYLOAD_MEDIA_TYPE || signature.len() > MAX_SIGNATURE {
            continue;
        }
        // In base64 it is a third longer.
        let limit = left.min((MAX_PAYLOAD / 4 * 3) as u64);
        if let Some(payload) = unless_transient(client.blob(repository, &blob, limit).await)? {
            left -= blob.size;
            found.push(SimpleSignature {
                payload: STANDARD.encode(payload),
                signature: signature.clone(),
                vouched: vouched(&annotations),
            });
        }
    }
    Ok(found)
}

/// Certificate and log entry, where both are there and no larger than such things are. Those of
/// a signature by a key may lack or be odd: it counts without.
fn vouched(annotations: &BTreeMap<String, String>) -> Option<LoggedCertificate> {
    let bounded = |name| {
        let text = annotations.get(name)?;
        (text.len() <= MAX_ANNOTATION).then(|| text.clone())
    };
    Some(LoggedCertificate {
        certificate: bounded(CERTIFICATE_ANNOTATION)?,
        log_entry: bounded(LOG_ANNOTATION)?,
    })
}

/// What a registry answered; nothing where it has no such thing, or something else.
///
/// # Errors
/// When the same request may succeed a little later.
pub fn unless_transient<T>(answer: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is_transient() => Err(error),
        Err(error) => {
            tracing::debug!(%error, "a signature is passed over");
            Ok(None)
        }
    }
}

fn layers(manifest: &[u8]) -> Vec<Value> {
    let mut manifest: Value = serde_json::from_slice(manifest).unwrap_or_default();
    match manifest["layers"].take() {
        Value::Array(layers) => layers,
        _ => Vec::new(),
    }
}

/// Puts a signature beside those that are there.
///
/// # Errors
/// When the registry cannot be reached or refuses.
pub(crate) async fn add(
    client: &StoreClient,
    repository: &str,
    image: &Digest,
    payload: Bytes,
    signature: &str,
) -> Result<(), StoreError> {
    let tag = signature_tag(image);
    let before = client.tagged_bytes(repository, &tag).await?;
    let mut all = before.map_or_else(Vec::new, |manifest| layers(&manifest));
    let mut layer = json!(Descriptor::of(PAYLOAD_MEDIA_TYPE, &payload));
    layer["annotations"] = json!({ SIGNATURE_ANNOTATION: signature });
    all.push(layer);
    // The oldest go once there are more than anybody reads.
    let surplus = all.len().saturating_sub(MAX_SIGNATURES);
    all.drain(..surplus);
    let config = Bytes::from(canonical::compact(&config(&all)));
    let manifest = canonical::compact(&json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST_MEDIA_TYPE,
        "config": Descriptor::of(CONFIG_MEDIA_TYPE, &config),
        "layers": all,
    }));
    for blob in [config, payload] {
        client
            .push_blob(repository, &Digest::of(&blob), blob)
            .await?;
    }
    client
        .push_manifest(repository, &tag, manifest.into())
        .await
}

/// The config of an image that runs nowhere; payloads are not compressed.
fn config(layers: &[Value]) -> Value {
    let digests: Vec<_> = layers.iter().map(|layer| &layer["digest"]).collect();
    json!({
        "architecture": "",
        "config": {},
        "created": "0001-01-01T00:00:00Z",
        "os": "",
        "rootfs": { "type": "layers", "diff_ids": digests },
    })
}
