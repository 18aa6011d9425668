//! The npm registry as this crate reaches it: every address checked, every answer bounded.
//!
//! npm never speaks to a registry itself. It asks a [`gateway`](crate::npm::gateway) on loopback for metadata, and
//! tarballs are downloaded here (see [`crate::npm::tarballs`]), so that one client decides where
//! connections go, what is sent with them and how much is read.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use paperclip_artifact::{bounded, limits};
use paperclip_error_chain::chain;
use paperclip_net_guard::registry::{Addresses, Forbidden};

use crate::npm::npmrc::Npmrc;
use crate::npm::packument;
use backon::{ExponentialBuilder, Retryable as _};
use futures::StreamExt as _;
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, HeaderValue, LOCATION,
};
use reqwest::{Certificate, Response, StatusCode, Url};

/// From the first byte sent to the last one read. No answer may go on for ever, drop by drop.
const DEADLINE: Duration = Duration::from_secs(300);

/// Attempts after the first one, for faults that pass.
const RETRIES: usize = 3;

/// Largest `.npmrc` and CA bundle.
const MAX_SETTING: u64 = 4 * 1024 * 1024;

/// How to reach the npm registry.
#[derive(Clone, Debug)]
pub struct Registry {
    /// URL, with a slash at the end.
    pub url: String,
    /// PEM of authorities to trust beside the usual ones.
    pub ca: Option<PathBuf>,
    /// An `.npmrc` with the credential.
    pub npmrc: Option<PathBuf>,
    /// Whether a tenant chose it: it must then itself be at an address where a registry may
    /// send us.
    pub of_tenant: bool,
}

impl Registry {
    /// A registry without CA and credential of its own.
    #[must_use]
    pub fn new(url: &str) -> Self {
        let url = format!("{}/", url.trim_end_matches('/'));
        Self {
            url,
            ca: None,
            npmrc: None,
            of_tenant: false,
        }
    }
}

/// Why the registry did not give what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// URL, certificate or `.npmrc` cannot be used.
    #[error("cannot set up a client for the registry `{registry}`: {why}")]
    Setup {
        /// URL of the registry.
        registry: String,
        /// The fault.
        why: String,
    },
    /// The registry sent us to where nothing of it may be.
    #[error("cannot get {url}")]
    Forbidden {
        /// The request.
        url: String,
        /// The rule and what breaks it.
        source: Forbidden,
    },
    /// No answer, or not all of it.
    #[error("cannot get {url}: {why}")]
    Unreachable {
        /// The request.
        url: String,
        /// The HTTP client's error.
        why: String,
    },
    /// An answer that says no.
    #[error("cannot get {url}: it answered {status}")]
    Status {
        /// The request.
        url: String,
        /// Status of the answer.
        status: StatusCode,
    },
    /// More bytes than are read.
    #[error(
        "cannot get {url}: it breaks the rule `answer-size`: found more than {limit} bytes, wanted at most {limit}"
    )]
    TooLarge {
        /// The request.
        url: String,
        /// The bound.
        limit: u64,
    },
    /// The answer does not decompress.
    #[error("cannot get {url}: its compressed answer is broken: {why}")]
    Encoding {
        /// The request.
        url: String,
        /// The fault.
        why: String,
    },
    /// What was read could not be kept.
    #[error("cannot keep {url}")]
    Write {
        /// The request.
        url: String,
        /// The system's error.
        source: io::Error,
    },
}

impl FetchError {
    /// Whether the same request may succeed a little later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Status { status, .. } => {
                status.is_server_error()
                    || matches!(
                        *status,
                        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS
                    )
            }
            _ => false,
        }
    }
}

/// A client of one registry, and of those that its `.npmrc` names for scopes.
#[derive(Clone, Debug)]
pub struct RegistryClient {
    http: reqwest::Client,
    pub(super) base: Url,
    pub(super) scopes: BTreeMap<String, Url>,
    npmrc: Arc<Npmrc>,
    addresses: Arc<Addresses>,
    added: Option<Arc<Added>>,
}

/// Metadata of a package that no registry has.
#[derive(Debug)]
struct Added {
    package: String,
    document: Vec<u8>,
}

impl RegistryClient {
    /// Prepares a client; nothing is sent yet.
    ///
    /// # Errors
    /// When the URL, the certificate or the `.npmrc` cannot be used.
    pub fn new(registry: &Registry) -> Result<Self, FetchError> {
        let setup = |why: String| FetchError::Setup {
            registry: registry.url.clone(),
            why,
        };
        let read = |path: &Path| {
            bounded::read(path, MAX_SETTING)
                .map_err(|e| setup(format!("cannot read {}: {e}", path.display())))
        };
        let base = parse(&registry.url).map_err(&setup)?;
        let npmrc = match &registry.npmrc {
            Some(path) => Npmrc::parse(&String::from_utf8_lossy(&read(&resolve(path))?)),
            None => Npmrc::default(),
        };
        for key in &npmrc.ignored {
            tracing::warn!(key, "this setting of .npmrc is not used in packing");
        }
        let mut scopes = BTreeMap::new();
        for (scope, url) in &npmrc.scopes {
            let url = parse(&format!("{}/", url.trim_end_matches('/')))
                .map_err(|why| setup(format!("the registry of {scope} in .npmrc: {why}")))?;
            scopes.insert(scope.clone(), url);
        }
        let configured = std::iter::once(&base).chain(scopes.values());
        let addresses = Arc::new(if registry.of_tenant {
            Addresses::default()
        } else {
            Addresses::of(configured)
        });
        let mut http = addresses
            .guard(reqwest::Client::builder())
            .connect_timeout(Duration::from_secs(10))
            .read_timeout(Duration::from_secs(60))
            .timeout(DEADLINE)
            .user_agent(concat!("paperclip-packer/", env!("CARGO_PKG_VERSION")));
        if let Some(ca) = &registry.ca {
            let authorities = Certificate::from_pem_bundle(&read(&resolve(ca))?)
                .map_err(|e| setup(format!("{}: {e}", ca.display())))?;
            http = http.tls_certs_merge(authorities);
        }
        Ok(Self {
            http: http.build().map_err(|e| setup(chain(&e)))?,
            base,
            scopes,
            npmrc: Arc::new(npmrc),
            addresses,
            added: None,
        })
    }

    /// The same client, which has the metadata of one package already and asks nobody for it.
    pub(crate) fn with_document(self, package: &str, document: Vec<u8>) -> Self {
        let added = Added {
            package: package.to_owned(),
            document,
        };
        Self {
            added: Some(Arc::new(added)),
            ..self
        }
    }

    fn added(&self, url: &Url) -> Option<Answer> {
        let added = self.added.as_ref()?;
        let base = self.base_of(&added.package);
        let below = url.as_str().strip_prefix(base.as_str())?;
        let is_asked = below.replace("%2F", "/").replace("%2f", "/") == added.package;
        is_asked.then(|| Answer {
            status: StatusCode::OK,
            content_type: Some(HeaderValue::from_static("application/json")),
            content: added.document.clone(),
        })
    }

    /// URL of the registry that has a package, with a slash at the end.
    #[must_use]
    pub fn base_of(&self, package: &str) -> &Url {
        let scope = package.split_once('/').map_or("", |(scope, _)| scope);
        self.scopes.get(scope).unwrap_or(&self.base)
    }

    /// An answer of at most `limit` bytes after decompression, whatever its status.
    ///
    /// # Errors
    /// When there is none, it is too large, or an address on the way is forbidden.
    pub(crate) async fn answer(
        &self,
        url: &Url,
        accept: Option<&HeaderValue>,
        limit: u64,
    ) -> Result<Answer, FetchError> {
        if let Some(answer) = self.added(url) {
            return Ok(answer);
        }
        let response = self.send(url, accept, Encoding::Gzip).await?;
        let status = response.status();
        let header = |name| response.headers().get(name).cloned();
        let content_type = header(reqwest::header::CONTENT_TYPE);
        let is_gzip = header(CONTENT_ENCODING).is_some_and(|encoding| encoding == "gzip");
        let mut sent = Vec::new();
        read_into(url, response, limit.min(limits::METADATA_SENT), &mut sent).await?;
        let content = if is_gzip {
            decompress(url, &sent, limit)?
        } else {
            sent
        };
        Ok(Answer {
            status,
            content_type,
            content,
        })
    }

    /// The content behind a URL, with retries.
    ///
    /// # Errors
    /// As [`Self::answer`], and when the status is no success.
    pub(crate) async fn content(
        &self,
        url: &Url,
        accept: &'static str,
        limit: u64,
    ) -> Result<Vec<u8>, FetchError> {
        let accept = HeaderValue::from_static(accept);
        let attempt = || async {
            let answer = self.answer(url, Some(&accept), limit).await?;
            succeeded(url, answer.status)?;
            Ok(answer.content)
        };
        attempt
            .retry(backoff())
            .when(FetchError::is_transient)
            .await
    }

    /// The document of a package, as npm asks for it when it installs.
    ///
    /// # Errors
    /// As [`Self::content`].
    pub(crate) async fn metadata(&self, package: &str) -> Result<Vec<u8>, FetchError> {
        let url = self.url_of(package, &escaped(package));
        self.content(&url, packument::ABBREVIATED, limits::METADATA)
            .await
    }

    /// URL of a place below that of the registry which has a package.
    pub(crate) fn url_of(&self, package: &str, place: &str) -> Url {
        // A package name and a version were checked: they hold nothing that ends a path.
        let mut url = self.base_of(package).clone();
        url.set_path(&format!("{}{place}", url.path()));
        url
    }

    /// Writes the content behind a URL to what `sink` opens, once for each attempt.
    ///
    /// # Errors
    /// As [`Self::content`], and when it cannot be written. The last sink may then hold anything.
    pub(crate) async fn download<W: Write>(
        &self,
        url: &Url,
        limit: u64,
        sink: impl Fn() -> io::Result<W>,
    ) -> Result<W, FetchError> {
        let attempt = || async {
            let response = self.send(url, None, Encoding::Identity).await?;
            succeeded(url, response.status())?;
            let mut sink = sink().map_err(|source| FetchError::Write {
                url: readable(url),
                source,
            })?;
            read_into(url, response, limit, &mut sink).await?;
            Ok(sink)
        };
        attempt
            .retry(backoff())
            .when(FetchError::is_transient)
            .await
    }

    async fn send(
        &self,
        url: &Url,
        accept: Option<&HeaderValue>,
        encoding: Encoding,
    ) -> Result<Response, FetchError> {
        self.addresses
            .check(url)
            .map_err(|source| FetchError::Forbidden {
                url: readable(url),
                source,
            })?;
        let mut request = self.http.get(url.clone());
        if let Some(accept) = accept {
            request = request.header(ACCEPT, accept);
        }
        request = match encoding {
            Encoding::Gzip => request.header(ACCEPT_ENCODING, "gzip"),
            Encoding::Identity => request.header(ACCEPT_ENCODING, "identity"),
        };
        // The HTTP client drops this header where a redirect leads to another host.
        if let Some(credential) = self.npmrc.credential(url) {
            request = request.header(AUTHORIZATION, credential);
        }
        let response = request.send().await.map_err(|error| failed(url, error))?;
        self.check_redirect(url, &response)?;
        Ok(response)
    }
}

impl RegistryClient {
    /// The HTTP client hands back, as an answer, a redirect that it cannot follow.
    fn check_redirect(&self, url: &Url, response: &Response) -> Result<(), FetchError> {
        let location = response.headers().get(LOCATION);
        let target = location
            .filter(|_| response.status().is_redirection())
            .and_then(|location| response.url().join(location.to_str().ok()?).ok());
        let checked = target.map_or(Ok(()), |target| self.addresses.check(&target));
        checked.map_err(|source| FetchError::Forbidden {
            url: readable(url),
            source,
        })
    }
}

#[derive(Clone, Copy)]
enum Encoding {
    Gzip,
    Identity,
}

/// An answer in memory.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) content_type: Option<HeaderValue>,
    pub(crate) content: Vec<u8>,
}

/// A mounted Secret is a folder of links, which are the platform's own.
fn resolve(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

fn parse(url: &str) -> Result<Url, String> {
    let url = Url::parse(url).map_err(|e| format!("`{url}` is no URL: {e}"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(format!(
            "its URL begins with `{}:`, wanted http or https",
            url.scheme()
        ));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("its URL holds a credential, wanted one in .npmrc".into());
    }
    Ok(url)
}

/// A package's name as one segment of a path, as npm writes it.
pub(crate) fn escaped(package: &str) -> String {
    package.replace('/', "%2f")
}

fn succeeded(url: &Url, status: StatusCode) -> Result<(), FetchError> {
    if status.is_success() {
        return Ok(());
    }
    Err(FetchError::Status {
        url: readable(url),
        status,
    })
}

async fn read_into<W: Write>(
    url: &Url,
    response: Response,
    limit: u64,
    sink: &mut W,
) -> Result<(), FetchError> {
    let too_large = || FetchError::TooLarge {
        url: readable(url),
        limit,
    };
    if response
        .content_length()
        .is_some_and(|length| length > limit)
    {
        return Err(too_large());
    }
    let mut left = limit;
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| failed(url, error))?;
        left = left.checked_sub(chunk.len() as u64).ok_or_else(too_large)?;
        sink.write_all(&chunk).map_err(|source| FetchError::Write {
            url: readable(url),
            source,
        })?;
    }
    Ok(())
}

fn decompress(url: &Url, sent: &[u8], limit: u64) -> Result<Vec<u8>, FetchError> {
    use io::Read as _;
    let mut content = Vec::new();
    let plain = flate2::read::GzDecoder::new(sent);
    plain
        .take(limit + 1)
        .read_to_end(&mut content)
        .map_err(|e| FetchError::Encoding {
            url: readable(url),
            why: e.to_string(),
        })?;
    if content.len() as u64 > limit {
        return Err(FetchError::TooLarge {
            url: readable(url),
            limit,
        });
    }
    Ok(content)
}

/// A URL as it may stand in a message: what signs it is in its query.
pub(crate) fn readable(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // Only URLs that cannot have a credential refuse to lose it.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.as_str().chars().take(300).collect()
}

/// Tells a forbidden address from a network that failed.
fn failed(url: &Url, error: reqwest::Error) -> FetchError {
    let url = readable(url);
    let error = error.without_url();
    let causes = || std::iter::successors(Some(&error as &dyn std::error::Error), |&e| e.source());
    if let Some(forbidden) = causes().find_map(|cause| cause.downcast_ref::<Forbidden>()) {
        return FetchError::Forbidden {
            url,
            source: forbidden.clone(),
        };
    }
    let code = causes()
        .filter_map(|cause| cause.downcast_ref::<io::Error>()?.raw_os_error())
        .map(|code| format!("{:?}: ", nix::errno::Errno::from_raw(code)))
        .next();
    FetchError::Unreachable {
        url,
        why: format!("{}{}", code.unwrap_or_default(), chain(&error)),
    }
}

fn backoff() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(300))
        .with_max_delay(Duration::from_secs(10))
        .with_max_times(RETRIES)
        .with_jitter()
}
