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
use crate::digest::Digest;
use crate::image::{
    Descriptor, EMPTY_MEDIA_TYPE, INDEX_MEDIA_TYPE, MANIFEST_MEDIA_TYPE, Manifest, to_json,
};
use crate::inputs::{LOCK_MEDIA_TYPE, PACKER};
use crate::store::{StoreClient, StoreError};
use crate::trust::{evidence, record};
use crate::{provenance, sbom};

/// Annotation of a referrer that a packer of this project made.
pub const PACKER_ANNOTATION: &str = "ing.paperclip.plugins.packer";

/// Annotation by which others find a statement's predicate type without its blob.
const PREDICATE_ANNOTATION: &str = "in-toto.io/predicate-type";

/// The empty config's bytes.
const EMPTY: &[u8] = b"{}";

/// Most referrers of one artifact that are looked at.
pub const MAX_REFERRERS: usize = 1000;

/// Times an index is written before giving up against others that write it too.
const ROUNDS: usize = 5;

/// What programs of this project attach to artifacts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The CycloneDX bill of materials.
    Sbom,
    /// The SLSA provenance.
    Provenance,
    /// The lock it was installed from.
    Lock,
    /// What the registry said of the package's signatures.
    Evidence,
    /// Which policies it met.
    Verification,
}

impl Kind {
    /// Those that every artifact has, in the order in which they are pushed.
    pub const ALL: [Self; 3] = [Self::Sbom, Self::Provenance, Self::Lock];

    /// All of them.
    const KNOWN: [Self; 5] = [
        Self::Sbom,
        Self::Provenance,
        Self::Lock,
        Self::Evidence,
        Self::Verification,
    ];

    /// Media type of the blob, and artifact type of the manifest.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Sbom => sbom::MEDIA_TYPE,
            Self::Provenance => provenance::MEDIA_TYPE,
            Self::Lock => LOCK_MEDIA_TYPE,
            Self::Evidence => evidence::MEDIA_TYPE,
            Self::Verification => record::MEDIA_TYPE,
        }
    }

    /// What a person calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sbom => "SBOM",
            Self::Provenance => "provenance",
            Self::Lock => "lock",
            Self::Evidence => "evidence of signatures",
            Self::Verification => "record of a verification",
        }
    }

    /// The kind of a referrer that a packer of this project made.
    #[must_use]
    pub fn of(artifact_type: &str, annotations: &BTreeMap<String, String>) -> Option<Self> {
        let kind = Self::KNOWN
            .into_iter()
            .find(|kind| kind.media_type() == artifact_type);
        kind.filter(|_| annotations.contains_key(PACKER_ANNOTATION))
    }

    fn annotations(self) -> BTreeMap<String, String> {
        let mut annotations = BTreeMap::from([(PACKER_ANNOTATION.into(), PACKER.into())]);
        if self == Self::Provenance {
            annotations.insert(
                PREDICATE_ANNOTATION.into(),
                provenance::PREDICATE_TYPE.into(),
            );
        }
        annotations
    }
}

/// A referrer that is ready to be pushed. Equal content gives equal bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Referrer {
    listed: Listed,
    manifest: Bytes,
    content: Bytes,
}

impl Referrer {
    /// Attaches content to an artifact.
    #[must_use]
    pub fn new(kind: Kind, subject: Descriptor, content: Bytes) -> Self {
        let annotations = kind.annotations();
        let manifest = to_json(&Manifest {
            schema_version: 2,
            media_type: MANIFEST_MEDIA_TYPE.into(),
            artifact_type: Some(kind.media_type().into()),
            config: Descriptor::of(EMPTY_MEDIA_TYPE, EMPTY),
            layers: vec![Descriptor::of(kind.media_type(), &content)],
            subject: Some(subject),
            annotations: annotations.clone(),
        });
        let listed = Listed {
            descriptor: Descriptor::of(MANIFEST_MEDIA_TYPE, &manifest),
            artifact_type: kind.media_type().into(),
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
pub(crate) struct Foreign {
    pub(crate) listed: Listed,
    pub(crate) manifest: Bytes,
    pub(crate) blobs: Vec<(Digest, Bytes)>,
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
pub(crate) async fn push_foreign(
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
pub(crate) fn parse_listed(index: &[u8]) -> Result<Vec<Listed>, String> {
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
        Referrer::new(Kind::Sbom, subject, content.into())
    }

    #[test]
    fn bytes_of_a_referrer_are_pinned() {
        let one = referrer("{}");
        assert_eq!(one, referrer("{}"));
        assert_eq!(
            String::from_utf8_lossy(one.manifest()),
            format!(
                concat!(
                    r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","artifactType":"application/vnd.cyclonedx+json","#,
                    r#""config":{{"mediaType":"application/vnd.oci.empty.v1+json","digest":"{empty}","size":2}},"#,
                    r#""layers":[{{"mediaType":"application/vnd.cyclonedx+json","digest":"{empty}","size":2}}],"#,
                    r#""subject":{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{image}","size":5}},"#,
                    r#""annotations":{{"ing.paperclip.plugins.packer":"{packer}"}}}}"#
                ),
                empty = Digest::of(b"{}"),
                image = Digest::of(b"image"),
                packer = PACKER,
            )
        );
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
