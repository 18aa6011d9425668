//! What is read of a registry.

use std::path::Path;

use backon::Retryable as _;
use bytes::Bytes;
use reqwest::header::{ACCEPT, LINK};
use reqwest::{Method, Response, Url};

use crate::client::StoreClient;
use crate::client::StoreError;
use crate::client::send::backoff;
use crate::digest::{Digest, Hashing};
use crate::image::{Descriptor, INDEX_MEDIA_TYPE, MANIFEST_MEDIA_TYPE, Manifest};
use crate::limits;

impl StoreClient {
    /// The one blob of an artifact pushed by [`Self::push_artifact`], or `None` without the tag.
    ///
    /// # Errors
    /// When the registry cannot be reached, refuses, or holds something else under the tag.
    pub async fn artifact(
        &self,
        repository: &str,
        media_type: &str,
        tag: &str,
        limit: u64,
    ) -> Result<Option<Bytes>, StoreError> {
        let Some((_, manifest)) = self.tagged_manifest(repository, tag).await? else {
            return Ok(None);
        };
        let [blob] = &manifest.layers[..] else {
            return Err(self.mismatch(&format!("tag {tag}"), "wanted exactly one blob"));
        };
        if manifest.artifact_type.as_deref() != Some(media_type) || blob.media_type != media_type {
            return Err(self.mismatch(&format!("tag {tag}"), &format!("wanted {media_type}")));
        }
        self.blob(repository, blob, limit).await.map(Some)
    }

    /// Whether the registry holds a blob.
    ///
    /// # Errors
    /// When the registry cannot be reached or refuses.
    pub async fn has_blob(&self, repository: &str, digest: &Digest) -> Result<bool, StoreError> {
        let url = self.url(&format!("{repository}/blobs/{digest}"))?;
        let action = format!("look for blob {digest}");
        match self
            .send(&action, || self.request(Method::HEAD, url.clone()))
            .await
        {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The manifest of this digest.
    ///
    /// # Errors
    /// When the registry cannot be reached, refuses or sends other bytes.
    pub async fn manifest(
        &self,
        repository: &str,
        digest: &Digest,
    ) -> Result<Manifest, StoreError> {
        let content = self.manifest_bytes(repository, digest).await?;
        self.parse_manifest(&format!("manifest {digest}"), &content)
    }

    /// Bytes of the manifest or index of this digest.
    ///
    /// # Errors
    /// When the registry cannot be reached, refuses or sends other bytes.
    pub async fn manifest_bytes(
        &self,
        repository: &str,
        digest: &Digest,
    ) -> Result<Bytes, StoreError> {
        let content = self.raw_manifest(repository, digest.as_str()).await?;
        let found = Digest::of(&content);
        if found != *digest {
            let action = format!("manifest {digest}");
            return Err(self.mismatch(&action, &format!("its digest is {found}")));
        }
        Ok(content)
    }

    /// Bytes of the manifest or index under a tag, or `None` without the tag.
    ///
    /// # Errors
    /// When the registry cannot be reached or refuses.
    pub async fn tagged_bytes(
        &self,
        repository: &str,
        tag: &str,
    ) -> Result<Option<Bytes>, StoreError> {
        match self.raw_manifest(repository, tag).await {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Digest and manifest under a tag, or `None` without the tag.
    ///
    /// # Errors
    /// When the registry cannot be reached, refuses or sends no manifest.
    pub async fn tagged_manifest(
        &self,
        repository: &str,
        tag: &str,
    ) -> Result<Option<(Digest, Manifest)>, StoreError> {
        let Some(content) = self.tagged_bytes(repository, tag).await? else {
            return Ok(None);
        };
        let manifest = self.parse_manifest(&format!("tag {tag}"), &content)?;
        Ok(Some((Digest::of(&content), manifest)))
    }

    /// One page of the referrers that the registry itself lists, and where the next one is.
    /// `None` from a registry that lists none.
    pub(crate) async fn referrers_page(
        &self,
        repository: &str,
        subject: &Digest,
        next: Option<Url>,
    ) -> Result<Option<(Bytes, Option<Url>)>, StoreError> {
        let url = match next {
            Some(url) => url,
            None => self.url(&format!("{repository}/referrers/{subject}"))?,
        };
        let action = format!("list referrers of {repository}@{subject}");
        let request = || {
            self.request(Method::GET, url.clone())
                .header(ACCEPT, INDEX_MEDIA_TYPE)
        };
        let answer = match self.send(&action, request).await {
            Ok(answer) => answer,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error),
        };
        let next = next_page(&answer, &url);
        if next
            .as_ref()
            .is_some_and(|next| next.origin() != self.base.origin())
        {
            // The credential would go there too.
            return Err(self.mismatch(&action, "the next page is on another host"));
        }
        let mut content = Vec::new();
        self.read(&action, answer, limits::OCI_MANIFEST, &mut content)
            .await?;
        Ok(Some((content.into(), next)))
    }

    async fn raw_manifest(&self, repository: &str, reference: &str) -> Result<Bytes, StoreError> {
        let url = self.url(&format!("{repository}/manifests/{reference}"))?;
        let action = format!("pull manifest {repository}:{reference}");
        let attempt = || async {
            let request = self
                .request(Method::GET, url.clone())
                .header(ACCEPT, MANIFEST_MEDIA_TYPE)
                .header(ACCEPT, INDEX_MEDIA_TYPE);
            let response = self.send_once(&action, request).await?;
            let mut content = Vec::new();
            self.read(&action, response, limits::OCI_MANIFEST, &mut content)
                .await?;
            Ok(Bytes::from(content))
        };
        attempt
            .retry(backoff())
            .when(StoreError::is_transient)
            .await
    }

    fn parse_manifest(&self, action: &str, content: &[u8]) -> Result<Manifest, StoreError> {
        let manifest: Manifest =
            serde_json::from_slice(content).map_err(|e| self.mismatch(action, &e.to_string()))?;
        if manifest.schema_version != 2 || manifest.media_type != MANIFEST_MEDIA_TYPE {
            return Err(self.mismatch(action, &format!("wanted {MANIFEST_MEDIA_TYPE}")));
        }
        Ok(manifest)
    }

    /// A blob in memory, checked against its descriptor.
    ///
    /// # Errors
    /// When it is larger than `limit`, cannot be had, or is not what the descriptor says.
    pub async fn blob(
        &self,
        repository: &str,
        blob: &Descriptor,
        limit: u64,
    ) -> Result<Bytes, StoreError> {
        let attempt = || async {
            let mut content = Vec::new();
            self.blob_into(repository, blob, limit, &mut content)
                .await?;
            Ok(Bytes::from(content))
        };
        attempt
            .retry(backoff())
            .when(StoreError::is_transient)
            .await
    }

    /// A blob into a file, checked against its descriptor. On failure the file may hold anything.
    ///
    /// # Errors
    /// As for [`Self::blob`], and when the file cannot be written.
    pub async fn blob_to_file(
        &self,
        repository: &str,
        blob: &Descriptor,
        limit: u64,
        path: &Path,
    ) -> Result<(), StoreError> {
        let attempt = || async {
            let failed = |source| StoreError::Write {
                path: path.to_owned(),
                source,
            };
            let mut file = std::fs::File::create(path).map_err(failed)?;
            self.blob_into(repository, blob, limit, &mut file).await
        };
        attempt
            .retry(backoff())
            .when(StoreError::is_transient)
            .await
    }

    async fn blob_into<W: std::io::Write>(
        &self,
        repository: &str,
        blob: &Descriptor,
        limit: u64,
        sink: W,
    ) -> Result<(), StoreError> {
        let action = format!("pull blob {}", blob.digest);
        if blob.size > limit {
            let why = format!("{} bytes, and the limit is {limit}", blob.size);
            return Err(self.mismatch(&action, &why));
        }
        let url = self.url(&format!("{repository}/blobs/{}", blob.digest))?;
        let response = self
            .send_once(&action, self.request(Method::GET, url))
            .await?;
        let mut sink = Hashing::new(sink);
        self.read(&action, response, blob.size, &mut sink).await?;
        let (_, found, size) = sink.finish();
        if found != blob.digest || size != blob.size {
            let why = format!(
                "{size} bytes with digest {found}, wanted {} bytes",
                blob.size
            );
            return Err(self.mismatch(&action, &why));
        }
        Ok(())
    }
}

/// The address in `Link: <…>; rel="next"`.
fn next_page(answer: &Response, url: &Url) -> Option<Url> {
    let link = answer.headers().get(LINK)?.to_str().ok()?;
    let (target, parameters) = link.strip_prefix('<')?.split_once('>')?;
    let is_next = parameters.contains(r#"rel="next""#) || parameters.contains("rel=next");
    url.join(target).ok().filter(|_| is_next)
}
