//! What is sent to a registry: blobs, then manifests, then tags.

use backon::Retryable as _;
use bytes::Bytes;
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, LOCATION};

use crate::client::StoreClient;
use crate::client::StoreError;
use crate::client::send::backoff;
use crate::digest::Digest;
use crate::image::{Descriptor, EMPTY_MEDIA_TYPE, Image, MANIFEST_MEDIA_TYPE, Manifest, to_json};
use crate::index::Packed;

/// Header by which a registry says that it lists a referrer by itself.
const SUBJECT_HEADER: &str = "oci-subject";

impl StoreClient {
    /// Pushes an image and then its tags. What is there already is not sent again.
    ///
    /// # Errors
    /// When the registry cannot be reached or refuses.
    pub async fn push_image(
        &self,
        repository: &str,
        image: &Image,
        tags: &[&str],
    ) -> Result<Digest, StoreError> {
        for (digest, content) in image.blobs() {
            self.push_blob(repository, &digest, content).await?;
        }
        let digest = image.digest();
        let by_digest = std::iter::once(digest.as_str());
        for reference in by_digest.chain(tags.iter().copied()) {
            self.push_manifest(repository, reference, image.manifest().clone())
                .await?;
        }
        Ok(digest)
    }

    /// Pushes an artifact: its images, and the index over them if there is one. What is there
    /// already is not sent again.
    ///
    /// # Errors
    /// When the registry cannot be reached or refuses.
    pub async fn push_packed(
        &self,
        repository: &str,
        packed: &Packed,
    ) -> Result<Digest, StoreError> {
        for image in packed.images() {
            self.push_image(repository, image, &[]).await?;
        }
        let digest = packed.digest();
        if matches!(packed, Packed::Index { .. }) {
            self.tag_packed(repository, packed, digest.as_str()).await?;
        }
        Ok(digest)
    }

    /// Puts an artifact that was pushed under a tag.
    ///
    /// # Errors
    /// When the registry cannot be reached or refuses.
    pub async fn tag_packed(
        &self,
        repository: &str,
        packed: &Packed,
        tag: &str,
    ) -> Result<(), StoreError> {
        let media_type = packed.descriptor().media_type;
        let content = packed.manifest().clone();
        let put = self.put_manifest(repository, tag, &media_type, content);
        put.await.map(drop)
    }

    /// Pushes one blob as an artifact that is no image, under a tag.
    ///
    /// # Errors
    /// When the registry cannot be reached or refuses.
    pub async fn push_artifact(
        &self,
        repository: &str,
        media_type: &str,
        content: Bytes,
        tag: &str,
    ) -> Result<Digest, StoreError> {
        let empty = Bytes::from_static(b"{}");
        let manifest = Manifest {
            schema_version: 2,
            media_type: MANIFEST_MEDIA_TYPE.into(),
            artifact_type: Some(media_type.to_owned()),
            config: Descriptor::of(EMPTY_MEDIA_TYPE, &empty),
            layers: vec![Descriptor::of(media_type, &content)],
            subject: None,
            annotations: std::collections::BTreeMap::new(),
        };
        for blob in [empty, content] {
            self.push_blob(repository, &Digest::of(&blob), blob).await?;
        }
        let manifest = to_json(&manifest);
        let digest = Digest::of(&manifest);
        self.push_manifest(repository, tag, manifest).await?;
        Ok(digest)
    }

    /// Pushes a blob unless it is there.
    ///
    /// # Errors
    /// When the registry cannot be reached or refuses.
    pub async fn push_blob(
        &self,
        repository: &str,
        digest: &Digest,
        content: Bytes,
    ) -> Result<(), StoreError> {
        if self.has_blob(repository, digest).await? {
            return Ok(());
        }
        // An upload cannot be resumed after a fault: a retry begins a new one.
        let upload = || self.upload(repository, digest, content.clone());
        upload.retry(backoff()).when(StoreError::is_transient).await
    }

    async fn upload(
        &self,
        repository: &str,
        digest: &Digest,
        content: Bytes,
    ) -> Result<(), StoreError> {
        let start = self.url(&format!("{repository}/blobs/uploads/"))?;
        let action = format!("push blob {digest}");
        let begun = self
            .send_once(&action, self.request(Method::POST, start.clone()))
            .await?;
        let mut location = begun
            .headers()
            .get(LOCATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| start.join(value).ok())
            .ok_or_else(|| self.mismatch(&action, "no usable Location for the upload"))?;
        if location.origin() != self.base.origin() {
            // The credential would go there too.
            return Err(self.mismatch(&action, "the upload is to go to another host"));
        }
        location
            .query_pairs_mut()
            .append_pair("digest", digest.as_str());
        let request = self
            .request(Method::PUT, location)
            .header(CONTENT_TYPE, "application/octet-stream")
            .body(content);
        self.send_once(&action, request).await.map(drop)
    }

    /// Puts a manifest under a tag or its digest.
    ///
    /// # Errors
    /// When the registry cannot be reached or refuses.
    pub async fn push_manifest(
        &self,
        repository: &str,
        reference: &str,
        content: Bytes,
    ) -> Result<(), StoreError> {
        self.put_manifest(repository, reference, MANIFEST_MEDIA_TYPE, content)
            .await
            .map(drop)
    }

    /// Puts a manifest or an index under a tag or its digest. Gives whether the registry says
    /// that it lists it with its subject, which the tag schema does otherwise.
    ///
    /// # Errors
    /// When the registry cannot be reached or refuses.
    pub async fn put_manifest(
        &self,
        repository: &str,
        reference: &str,
        media_type: &str,
        content: Bytes,
    ) -> Result<bool, StoreError> {
        let url = self.url(&format!("{repository}/manifests/{reference}"))?;
        let action = format!("push manifest {repository}:{reference}");
        let request = || {
            self.request(Method::PUT, url.clone())
                .header(CONTENT_TYPE, media_type)
                .body(content.clone())
        };
        let answer = self.send(&action, request).await?;
        Ok(answer.headers().contains_key(SUBJECT_HEADER))
    }
}
