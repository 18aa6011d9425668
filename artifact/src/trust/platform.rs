//! The platform's own signature: what its packing Job pushed, it signed.
//!
//! The layout is that of cosign's tag, which cosign and the usual admission controllers read,
//! and which takes one request to find and no list. What the artifact was
//! made from stands in the signed text, so that it cannot be attached to another.

use bytes::Bytes;
use paperclip_artifact_format::annotations;
use paperclip_oci::client::{StoreClient, StoreError};
use paperclip_oci::digest::Digest;
use serde_json::{Map, Value};

use super::cosign::{annotated_payload, check_simple};
use super::evidence::SimpleSignature;
use super::keys::{InvalidSigningKey, PublicKey, SigningKey};
use super::{Refusal, any_of, cosign_tag};

use crate::failure::FailureReason;

/// Times a signature is pushed before giving up against others that write the same tag: a
/// registry has no conditional write.
const ROUNDS: usize = 5;

/// What an artifact was made from, as the signed text says it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// Where it came from: a registry's URL, a tarball's, or an image with its digest.
    pub source: String,
    /// Integrity of the package's tarball, or the image's digest.
    pub integrity: String,
    /// Digest of the evidence that is attached to the artifact.
    pub evidence: Option<Digest>,
}

/// Why an artifact was not signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The key is none.
    #[error(transparent)]
    Key(#[from] InvalidSigningKey),
    /// The store failed.
    #[error("cannot sign artifact {artifact}")]
    Store {
        /// The artifact.
        artifact: Digest,
        /// The cause.
        source: Box<StoreError>,
    },
}

/// Why an artifact does not pass for one that the platform packed.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// It carries no signature that holds, by none of the keys.
    #[error("artifact {artifact} in {repository} is refused: {refusal}")]
    Refused {
        /// The artifact.
        artifact: Digest,
        /// Its repository.
        repository: String,
        /// What was found and what was wanted.
        refusal: Refusal,
    },
    /// The store failed.
    #[error("cannot read the signature of artifact {artifact}")]
    Store {
        /// The artifact.
        artifact: Digest,
        /// The cause.
        source: Box<StoreError>,
    },
}

/// Signs an artifact, unless this key has signed it before. Gives the id of the key.
///
/// # Errors
/// When the store or the key fails.
pub async fn sign(
    store: &StoreClient,
    repository: &str,
    artifact: &Digest,
    origin: &Origin,
    key: &SigningKey,
) -> Result<Digest, SignError> {
    let id = key.public().id();
    let failed = |source| SignError::Store {
        artifact: artifact.clone(),
        source: Box::new(source),
    };
    let is_ours =
        |signature: &SimpleSignature| check_simple(signature, key.public(), artifact).is_ok();
    for _ in 0..ROUNDS {
        let there = cosign_tag::read(store, repository, artifact).await;
        if there.map_err(failed)?.iter().any(is_ours) {
            return Ok(id);
        }
        let reference = format!("{}/{repository}", store.address());
        let payload = annotated_payload(&reference, artifact, &describe(origin));
        let signature = key.sign(&payload)?;
        let payload = Bytes::from(payload);
        let added = cosign_tag::add(store, repository, artifact, payload, &signature);
        added.await.map_err(failed)?;
        tracing::info!(%artifact, key = %id, "artifact signed");
    }
    Err(failed(
        store.mismatch("its signature", "others write it all the time"),
    ))
}

fn describe(origin: &Origin) -> Value {
    let Origin {
        source,
        integrity,
        evidence,
    } = origin;
    let facts = [
        (annotations::SOURCE, Some(source.as_str())),
        (annotations::INTEGRITY, Some(integrity.as_str())),
        (annotations::EVIDENCE, evidence.as_ref().map(Digest::as_str)),
    ];
    let named = facts
        .into_iter()
        .filter_map(|(name, fact)| fact.map(|fact| (name.to_owned(), Value::from(fact))));
    Value::Object(Map::from_iter(named))
}

/// Checks that one of the keys signed the artifact, and gives that key's id. Nobody is asked
/// but the store.
///
/// # Errors
/// When the store fails, or holds no signature by one of the keys.
pub async fn check(
    store: &StoreClient,
    repository: &str,
    artifact: &Digest,
    keys: &[PublicKey],
) -> Result<Digest, CheckError> {
    let found = cosign_tag::read(store, repository, artifact).await;
    let found = found.map_err(|source| CheckError::Store {
        artifact: artifact.clone(),
        source: Box::new(source),
    })?;
    let candidates: Vec<_> = found
        .iter()
        .flat_map(|signature| keys.iter().map(move |key| (signature, key)))
        .collect();
    let held = any_of(
        &candidates,
        || missing(keys),
        |(signature, key)| {
            check_simple(signature, key, artifact)?;
            Ok(key.id())
        },
    );
    held.map_err(|refusal| CheckError::Refused {
        artifact: artifact.clone(),
        repository: repository.to_owned(),
        refusal,
    })
}

fn missing(keys: &[PublicKey]) -> String {
    let keys: Vec<_> = keys.iter().map(|key| key.id().to_string()).collect();
    format!(
        "it has no signature of the platform, wanted one by {}",
        keys.join(" or ")
    )
}

impl CheckError {
    /// Whether the store answered, and what it holds is not signed as wanted.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused { refusal, .. } if refusal.reason != FailureReason::PolicyInvalid)
    }
}
