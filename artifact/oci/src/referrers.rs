//! Referrers: what is attached to an artifact in its repository, by the artifact's digest.
//!
//! Each is an OCI manifest with a `subject`, an `artifactType`, the empty config and one
//! blob. A registry that knows referrers lists them itself and says so when one is pushed.
//! For one that does not, as the CNCF distribution registry, an index under the tag
//! `sha256-<hex of the subject>` lists them, as the OCI distribution specification 1.1 has it.
//!
//! Pushing again adds what is missing and nothing twice. The index is read, completed,
//! written and read again until all is in it, because such a registry has no conditional
//! write; two different artifacts never share an index. Two writers of different entries at
//! the same instant may still lose one, until it is pushed again.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::canonical;
use crate::client::{StoreClient, StoreError};
use crate::digest::Digest;
use crate::image::{
    Descriptor, EMPTY_MEDIA_TYPE, INDEX_MEDIA_TYPE, MANIFEST_MEDIA_TYPE, Manifest, to_json,
};

/// The empty config's bytes.
const EMPTY: &[u8] = b"{}";

/// Most referrers of one artifact that are looked at.
pub const MAX_REFERRERS: usize = 1000;

/// Times an index is written before giving up against others that write it too.
const ROUNDS: usize = 5;

/// A referrer that is ready to be pushed. Equal content gives equal bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Referrer {
    listed: Listed,
    manifest: Bytes,
    content: Bytes,
}

impl Referrer {
    /// Attaches content of a type to an artifact.
    #[must_use]
    pub fn new(
        artifact_type: &str,
        annotations: BTreeMap<String, String>,
        subject: Descriptor,
        content: Bytes,
    ) -> Self {
        let manifest = to_json(&Manifest {
            schema_version: 2,
            media_type: MANIFEST_MEDIA_TYPE.into(),
            artifact_type: Some(artifact_type.into()),
            config: Descriptor::of(EMPTY_MEDIA_TYPE, EMPTY),
            layers: vec![Descriptor::of(artifact_type, &content)],
            subject: Some(subject),
            annotations: annotations.clone(),
        });
        let listed = Listed {
            descriptor: Descriptor::of(MANIFEST_MEDIA_TYPE, &manifest),
            artifact_type: artifact_type.into(),
            annotations,
        };
        Self {
            listed,
            manifest,
            content,
        }
    }

    /// The referrer as an index lists it.
    #[must_use]
    pub fn listed(&self) -> &Listed {
        &self.listed
    }

    /// Bytes of its manifest.
    #[must_use]
    pub fn manifest(&self) -> &Bytes {
        &self.manifest
    }

    /// What is attached.
    #[must_use]
    pub fn content(&self) -> &Bytes {
        &self.content
    }

    /// Every blob that the manifest names.
    pub fn blobs(&self) -> impl Iterator<Item = (Digest, Bytes)> + '_ {
        let blobs = [Bytes::from_static(EMPTY), self.content.clone()];
        blobs.into_iter().map(|blob| (Digest::of(&blob), blob))
    }
}

/// A referrer as an index lists it.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Listed {
    /// Its manifest.
    #[serde(flatten)]
    pub descriptor: Descriptor,
    /// What it is; empty where whoever listed it did not say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub artifact_type: String,
    /// Annotations of its manifest.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// The tag that lists the referrers of `subject` where the registry does not.
#[must_use]
pub fn fallback_tag(subject: &Digest) -> String {
    subject.as_str().replace(':', "-")
}

/// A referrer as it was read from elsewhere, whoever made it.
#[derive(Clone, Debug)]
pub struct Foreign {
    /// The referrer as an index lists it.
    pub listed: Listed,
    /// Bytes of its manifest.
    pub manifest: Bytes,
    /// Every blob that the manifest names.
    pub blobs: Vec<(Digest, Bytes)>,
}

impl From<&Referrer> for Foreign {
    fn from(referrer: &Referrer) -> Self {
        Self {
            listed: referrer.listed.clone(),
            manifest: referrer.manifest.clone(),
            blobs: referrer.blobs().collect(),
        }
    }
}

/// Pushes referrers of `subject` that are missing, and has all of them listed.
///
/// # Errors
/// When the registry cannot be reached or refuses, or its index is none.
pub async fn push(
    store: &StoreClient,
    repository: &str,
    subject: &Digest,
    referrers: &[Referrer],
) -> Result<(), StoreError> {
    let referrers: Vec<_> = referrers.iter().map(Foreign::from).collect();
    push_foreign(store, repository, subject, &referrers).await
}

/// As [`push`], for referrers that were made elsewhere.
///
/// # Errors
/// As [`push`].
pub async fn push_foreign(
    store: &StoreClient,
    repository: &str,
    subject: &Digest,
    referrers: &[Foreign],
) -> Result<(), StoreError> {
    let mut unlisted = Vec::new();
    for Foreign {
        listed,
        manifest,
        blobs,
    } in referrers
    {
        for (digest, blob) in blobs {
            store.push_blob(repository, digest, blob.clone()).await?;
        }
        let digest = listed.descriptor.digest.as_str();
        let is_listed = store
            .put_manifest(repository, digest, MANIFEST_MEDIA_TYPE, manifest.clone())
            .await?;
        if !is_listed {
            unlisted.push(listed);
        }
    }
    list_under_tag(store, repository, subject, &unlisted).await
}

async fn list_under_tag(
    store: &StoreClient,
    repository: &str,
    subject: &Digest,
    referrers: &[&Listed],
) -> Result<(), StoreError> {
    if referrers.is_empty() {
        return Ok(());
    }
    let tag = fallback_tag(subject);
    for _ in 0..ROUNDS {
        let current = store.tagged_bytes(repository, &tag).await?;
        let completed = complete(current.as_deref(), referrers)
            .map_err(|why| store.mismatch(&format!("tag {tag}"), &why))?;
        let Some(index) = completed else {
            return Ok(());
        };
        store
            .put_manifest(repository, &tag, INDEX_MEDIA_TYPE, index.into())
            .await?;
    }
    Err(store.mismatch(&format!("tag {tag}"), "others write it all the time"))
}

/// The index with these referrers in it, or `None` if they are. What others listed stays as it is.
fn complete(index: Option<&[u8]>, referrers: &[&Listed]) -> Result<Option<Vec<u8>>, String> {
    let mut index = match index {
        Some(text) => parse_index(text)?,
        None => Map::from_iter([
            ("schemaVersion".into(), 2.into()),
            ("mediaType".into(), INDEX_MEDIA_TYPE.into()),
            ("manifests".into(), json!([])),
        ]),
    };
    let Some(Value::Array(listed)) = index.get_mut("manifests") else {
        return Err("it has no list of manifests".into());
    };
    let before = listed.len();
    for referrer in referrers {
        let digest = referrer.descriptor.digest.as_str();
        if !listed.iter().any(|one| one["digest"] == digest) {
            listed.push(json!(referrer));
        }
    }
    let is_changed = listed.len() != before;
    Ok(is_changed.then(|| canonical::compact(&Value::Object(index))))
}

fn parse_index(text: &[u8]) -> Result<Map<String, Value>, String> {
    let index: Map<String, Value> =
        serde_json::from_slice(text).map_err(|e| format!("it is no JSON object: {e}"))?;
    let media_type = index.get("mediaType").unwrap_or(&Value::Null);
    if media_type != INDEX_MEDIA_TYPE {
        return Err(format!(
            "it is {media_type:.100}, wanted {INDEX_MEDIA_TYPE}"
        ));
    }
    Ok(index)
}

/// The manifests that an index lists.
///
/// # Errors
/// When the text is no index, or lists more than [`MAX_REFERRERS`].
pub fn parse_listed(index: &[u8]) -> Result<Vec<Listed>, String> {
    let mut index = parse_index(index)?;
    let manifests = index.remove("manifests").unwrap_or_default();
    let listed: Vec<Listed> = serde_json::from_value(manifests).map_err(|e| e.to_string())?;
    if listed.len() > MAX_REFERRERS {
        return Err(format!("more than {MAX_REFERRERS} entries"));
    }
    Ok(listed)
}

/// The referrers of `subject`: those the registry lists, else those under the tag.
///
/// # Errors
/// When the registry cannot be reached or refuses, or its answer is no index.
pub async fn list(
    store: &StoreClient,
    repository: &str,
    subject: &Digest,
) -> Result<Vec<Listed>, StoreError> {
    let refused = |why: String| store.mismatch(&format!("referrers of {subject}"), &why);
    let mut found = Vec::new();
    let mut next = None;
    loop {
        let Some((page, following)) = store.referrers_page(repository, subject, next).await? else {
            break;
        };
        let page = parse_listed(&page).map_err(refused)?;
        let is_last = following.is_none() || page.is_empty();
        found.extend(page);
        if found.len() > MAX_REFERRERS {
            return Err(refused(format!("more than {MAX_REFERRERS}")));
        }
        if is_last {
            return Ok(found);
        }
        next = following;
    }
    let tag = fallback_tag(subject);
    match store.tagged_bytes(repository, &tag).await? {
        Some(index) => parse_listed(&index).map_err(refused),
        None => Ok(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn referrer(content: &'static str) -> Referrer {
        let subject = Descriptor::of(MANIFEST_MEDIA_TYPE, b"image");
        Referrer::new("application/x", BTreeMap::new(), subject, content.into())
    }

    #[test]
    fn index_gains_what_is_missing_once_and_keeps_what_others_listed() {
        let (one, two) = (referrer("1"), referrer("2"));
        let foreign = json!({
            "schemaVersion": 2, "mediaType": INDEX_MEDIA_TYPE, "annotations": {"by": "others"},
            "manifests": [{"mediaType": "x", "digest": Digest::of(b"theirs"), "size": 3, "urls": ["u"]}],
        });
        let foreign = foreign.to_string();
        let both = [&one.listed, &two.listed];
        let first = complete(Some(foreign.as_bytes()), &both[..1])
            .unwrap()
            .unwrap();
        let second = complete(Some(&first), &both).unwrap().unwrap();
        assert_eq!(complete(Some(&second), &both), Ok(None));
        let index: Value = serde_json::from_slice(&second).unwrap();
        assert_eq!(index["annotations"]["by"], "others");
        assert_eq!(index["manifests"][0]["urls"], json!(["u"]));
        let listed = parse_listed(&second).unwrap();
        assert_eq!(listed[1..], [one.listed, two.listed]);
    }

    #[test]
    fn something_else_under_the_tag_is_refused() {
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST_MEDIA_TYPE}).to_string();
        assert!(complete(Some(manifest.as_bytes()), &[]).is_err());
        assert!(complete(Some(b"[]"), &[]).is_err());
        assert!(parse_listed(b"{}").is_err());
    }
}
