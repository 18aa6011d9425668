//! A client for OCI registries: blobs and manifests by digest, every byte checked.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::limits;
use backon::{ExponentialBuilder, Retryable as _};
use bytes::Bytes;
use futures::StreamExt as _;
use paperclip_net_guard::registry::Addresses;
use reqwest::header::{ACCEPT, CONTENT_TYPE, LINK, LOCATION};
use reqwest::{Certificate, Method, RequestBuilder, Response, StatusCode, Url};

use crate::digest::{Digest, Hashing};
use crate::image::{
    Descriptor, EMPTY_MEDIA_TYPE, INDEX_MEDIA_TYPE, Image, MANIFEST_MEDIA_TYPE, Manifest, to_json,
};
use crate::index::Packed;
use crate::token::{self, Token};

/// Header by which a registry says that it lists a referrer by itself.
const SUBJECT_HEADER: &str = "oci-subject";

/// Attempts after the first one, for faults that pass.
const RETRIES: usize = 5;

/// Why a registry did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A credential or certificate in the store folder could not be read.
    #[error("cannot read the store credential {}", path.display())]
    Credential {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Address or certificate cannot be used.
    #[error("cannot set up a client for the store `{address}`: {why}")]
    Setup {
        /// Address of the store.
        address: String,
        /// What is wrong.
        why: String,
    },
    /// No answer.
    #[error("cannot {action} in the store `{address}`")]
    Unreachable {
        /// Address of the store.
        address: String,
        /// What was asked for.
        action: String,
        /// What the HTTP client said.
        source: reqwest::Error,
    },
    /// An answer that says no.
    #[error("cannot {action} in the store `{address}`: it answered {status}: {message}")]
    Refused {
        /// Address of the store.
        address: String,
        /// What was asked for.
        action: String,
        /// Status of the answer.
        status: StatusCode,
        /// Start of the answer.
        message: String,
    },
    /// The bytes are not those asked for.
    #[error("the store `{address}` sent something else for {action}: {why}")]
    Mismatch {
        /// Address of the store.
        address: String,
        /// What was asked for.
        action: String,
        /// How it differs.
        why: String,
    },
    /// A pulled blob could not be kept.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl StoreError {
    /// Whether the same request may succeed a little later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { source, .. } => !source.is_builder(),
            Self::Refused { status, .. } => {
                status.is_server_error()
                    || matches!(
                        *status,
                        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS
                    )
            }
            _ => false,
        }
    }

    /// Whether the registry says that it has no such thing.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if *status == StatusCode::NOT_FOUND)
    }
}

/// User name and password of a registry.
#[derive(Clone)]
pub struct Credentials {
    /// User name.
    pub username: String,
    /// Password.
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Credentials")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// How to reach a registry.
#[derive(Clone, Debug, Default)]
pub struct StoreOptions {
    /// `host:port`.
    pub address: String,
    /// Speak plain HTTP. Never with a credential over a network.
    pub plain_http: bool,
    /// Basic authentication.
    pub credentials: Option<Credentials>,
    /// A bearer token that was given out before, in place of a credential.
    pub token: Option<String>,
    /// PEM of the only authorities to trust; the system's when absent.
    pub ca_pem: Option<Vec<u8>>,
    /// Whether a tenant chose the address: it must then itself be one where a registry may send
    /// us.
    pub of_tenant: bool,
}

impl StoreOptions {
    /// A registry without TLS and credential, as beside a test cluster.
    #[must_use]
    pub fn plain(address: &str) -> Self {
        Self {
            address: address.to_owned(),
            plain_http: true,
            ..Self::default()
        }
    }

    /// Reads `username`, `password`, `token` and `ca.crt` of a mounted Secret; each may be missing.
    ///
    /// # Errors
    /// When a file is there and cannot be read as text.
    pub fn from_folder(address: &str, folder: &Path) -> Result<Self, StoreError> {
        let read = |name: &str| {
            let path = folder.join(name);
            match std::fs::read_to_string(&path) {
                Ok(text) => Ok(Some(text.trim_end_matches(['\n', '\r']).to_owned())),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(source) => Err(StoreError::Credential { path, source }),
            }
        };
        let credentials = match (read("username")?, read("password")?) {
            (Some(username), Some(password)) => Some(Credentials { username, password }),
            _ => None,
        };
        let ca_pem = read("ca.crt")?.map(String::into_bytes);
        Ok(Self {
            address: address.to_owned(),
            credentials,
            token: read("token")?,
            ca_pem,
            ..Self::default()
        })
    }
}

/// A client of one registry. Cheap to clone.
#[derive(Clone, Debug)]
pub struct StoreClient {
    http: reqwest::Client,
    base: Url,
    address: String,
    credentials: Option<Credentials>,
    token: Token,
}

impl StoreClient {
    /// Prepares a client; nothing is sent yet.
    ///
    /// # Errors
    /// When the address or the certificate cannot be used.
    pub fn new(options: StoreOptions) -> Result<Self, StoreError> {
        let StoreOptions {
            address,
            plain_http,
            credentials,
            token,
            ca_pem,
            of_tenant,
        } = options;
        let setup = |why: String| StoreError::Setup {
            address: address.clone(),
            why,
        };
        let token = token.map(|token| {
            let unusable = || setup("its token cannot be sent in a header".into());
            Token::given(&token).ok_or_else(unusable)
        });
        let token = token.transpose()?.unwrap_or_default();
        let scheme = if plain_http { "http" } else { "https" };
        let base =
            Url::parse(&format!("{scheme}://{address}/v2/")).map_err(|e| setup(e.to_string()))?;
        if base.path() != "/v2/" || !base.username().is_empty() || base.query().is_some() {
            return Err(setup("wanted `host` or `host:port`".into()));
        }
        // Registries send us on to where their storage is, which may be anywhere but near.
        let addresses = if of_tenant {
            Addresses::default()
        } else {
            Addresses::of([&base])
        };
        // What is resolved and what is redirected to is checked later; this is the address itself.
        addresses.check(&base).map_err(|e| setup(e.to_string()))?;
        let mut http = Arc::new(addresses)
            .guard(reqwest::Client::builder())
            .connect_timeout(Duration::from_secs(10))
            .read_timeout(Duration::from_secs(60));
        if let Some(pem) = ca_pem {
            let authorities =
                Certificate::from_pem_bundle(&pem).map_err(|e| setup(e.to_string()))?;
            http = http.tls_certs_only(authorities);
        }
        let http = http.build().map_err(|e| setup(e.to_string()))?;
        Ok(Self {
            http,
            base,
            address,
            credentials,
            token,
        })
    }

    /// `host:port` of the registry.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Whether the registry answers and takes the credential.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.send("ask for its version", || {
            self.request(Method::GET, self.base.clone())
        })
        .await?;
        Ok(())
    }

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

    /// Reads at most `limit` bytes of an answer.
    async fn read<W: std::io::Write>(
        &self,
        action: &str,
        response: Response,
        limit: u64,
        sink: &mut W,
    ) -> Result<(), StoreError> {
        let mut left = limit;
        let mut chunks = response.bytes_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|source| self.unreachable(action, source))?;
            left = left
                .checked_sub(chunk.len() as u64)
                .ok_or_else(|| self.mismatch(action, &format!("more than {limit} bytes")))?;
            sink.write_all(&chunk).map_err(|source| StoreError::Write {
                path: PathBuf::from(action),
                source,
            })?;
        }
        Ok(())
    }

    fn url(&self, path: &str) -> Result<Url, StoreError> {
        let repository_is_sound = path.split('/').all(|part| !matches!(part, "." | ".."));
        match self.base.join(path) {
            Ok(url) if repository_is_sound && url.path().starts_with("/v2/") => Ok(url),
            _ => Err(StoreError::Setup {
                address: self.address.clone(),
                why: format!("`{path}` is no path"),
            }),
        }
    }

    fn request(&self, method: Method, url: Url) -> RequestBuilder {
        let request = self.http.request(method, url);
        match &self.credentials {
            Some(c) => request.basic_auth(&c.username, Some(&c.password)),
            None => request,
        }
    }

    async fn send(
        &self,
        action: &str,
        request: impl Fn() -> RequestBuilder,
    ) -> Result<Response, StoreError> {
        let attempt = || self.send_once(action, request());
        attempt
            .retry(backoff())
            .when(StoreError::is_transient)
            .await
    }

    async fn send_once(
        &self,
        action: &str,
        request: RequestBuilder,
    ) -> Result<Response, StoreError> {
        let failed = |source| self.unreachable(action, source);
        let mut request = request.build().map_err(failed)?;
        let again = request.try_clone();
        self.token.authorise(&mut request);
        let mut response = self.http.execute(request).await.map_err(failed)?;
        if let (Some(place), Some(mut request)) = (token::place(&response), again) {
            self.renew_token(place).await?;
            self.token.authorise(&mut request);
            response = self.http.execute(request).await.map_err(failed)?;
        }
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        Err(self.refused(action, response).await)
    }

    async fn renew_token(&self, place: Url) -> Result<(), StoreError> {
        const ACTION: &str = "get a token";
        let request = self.request(Method::GET, place);
        let answer = request.send().await;
        let answer = answer.map_err(|source| self.unreachable(ACTION, source))?;
        if !answer.status().is_success() {
            return Err(self.refused(ACTION, answer).await);
        }
        let mut content = Vec::new();
        self.read(ACTION, answer, token::MAX_ANSWER, &mut content)
            .await?;
        let renewed = self.token.renew(&content);
        renewed.map_err(|why| self.mismatch(ACTION, why))
    }

    async fn refused(&self, action: &str, response: Response) -> StoreError {
        let status = response.status();
        let mut message = Vec::new();
        // Best effort: the status is what counts.
        let _ = self.read(action, response, 4096, &mut message).await;
        let message = String::from_utf8_lossy(&message)
            .chars()
            .take(300)
            .collect();
        StoreError::Refused {
            address: self.address.clone(),
            action: action.to_owned(),
            status,
            message,
        }
    }

    fn unreachable(&self, action: &str, source: reqwest::Error) -> StoreError {
        StoreError::Unreachable {
            address: self.address.clone(),
            action: action.to_owned(),
            source,
        }
    }

    /// The error that what the registry holds is something else.
    #[must_use]
    pub fn mismatch(&self, action: &str, why: &str) -> StoreError {
        StoreError::Mismatch {
            address: self.address.clone(),
            action: action.to_owned(),
            why: why.to_owned(),
        }
    }
}

/// The address in `Link: <…>; rel="next"`.
fn next_page(answer: &Response, url: &Url) -> Option<Url> {
    let link = answer.headers().get(LINK)?.to_str().ok()?;
    let (target, parameters) = link.strip_prefix('<')?.split_once('>')?;
    let is_next = parameters.contains(r#"rel="next""#) || parameters.contains("rel=next");
    url.join(target).ok().filter(|_| is_next)
}

fn backoff() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(200))
        .with_max_delay(Duration::from_secs(5))
        .with_max_times(RETRIES)
        .with_jitter()
}
