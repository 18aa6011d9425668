//! A tarball, downloaded into a file and checked against its hash.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use paperclip_artifact::limits;
use paperclip_artifact::lock::Tarball;
use paperclip_oci::client::StoreError;
use reqwest::{StatusCode, Url};
use sha2::{Digest as _, Sha512};
use tempfile::NamedTempFile;

use crate::npm::archive::{ArchiveError, Broken, Rule};
use crate::npm::packument::Document;
use crate::npm::registry::{FetchError, RegistryClient, readable};

/// Why the tarballs of a lock were not brought or kept.
#[derive(Debug, thiserror::Error)]
pub enum TarballError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The registry failed, or answered as it may not.
    #[error("cannot download the tarball of {package}")]
    Fetch {
        /// Package and version.
        package: String,
        /// The cause.
        source: FetchError,
    },
    /// A tarball breaks a rule.
    #[error(transparent)]
    Refused(#[from] ArchiveError),
    /// All of them together are too large.
    #[error(
        "the tarballs of the lock break the rule `tree-size`: found {found} bytes before decompression, wanted at most {}",
        limits::TREE
    )]
    Total {
        /// Bytes so far.
        found: u64,
    },
    /// npm's cache could not be used.
    #[error("cannot use npm's cache at {}", path.display())]
    Cache {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// This program is ending.
    #[error("checking the tarballs was interrupted")]
    Interrupted,
}

/// Downloads what is behind a URL into a file of `folder`, checked against its hash.
pub(crate) async fn download_checked(
    client: &RegistryClient,
    url: &Url,
    hash: &[u8; 64],
    folder: &Path,
) -> Result<NamedTempFile, TarballError> {
    let sink = || Received::new(folder);
    let received = client.download(url, limits::TARBALL, sink).await;
    let received = received.map_err(|source| TarballError::Fetch {
        package: readable(url),
        source,
    })?;
    let checked = received.check_hash(hash);
    Ok(checked.map_err(|broken| broken.of(&readable(url)))?)
}

/// Downloads a tarball from where nearly all registries have it, else from where the
/// registry says.
pub(super) async fn download(
    registry: &RegistryClient,
    folder: &Path,
    tarball: &Tarball<'_>,
) -> Result<Received, TarballError> {
    let failed = |source| fetch_error(tarball, source);
    let base = registry.base_of(tarball.name);
    let usual = usual_url(base, tarball);
    let sink = || Received::new(folder);
    match registry.download(&usual, limits::TARBALL, sink).await {
        Err(FetchError::Status { status, .. }) if is_elsewhere(status) => {
            let stated = stated_url(registry, tarball).await?;
            let received = registry.download(&stated, limits::TARBALL, sink).await;
            received.map_err(failed)
        }
        received => received.map_err(failed),
    }
}

fn is_elsewhere(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::NOT_FOUND
            | StatusCode::GONE
            | StatusCode::METHOD_NOT_ALLOWED
            | StatusCode::BAD_REQUEST
    )
}

fn usual_url(base: &Url, tarball: &Tarball<'_>) -> Url {
    let Tarball { name, version, .. } = tarball;
    let file = name.rsplit('/').next().unwrap_or(name);
    // npm leaves build data out of file names as it does out of versions.
    let version = version.split('+').next().unwrap_or(version);
    let mut url = base.clone();
    url.set_path(&format!("{}{name}/-/{file}-{version}.tgz", base.path()));
    url
}

/// The URL in the registry's metadata, which may lead anywhere: the client checks it.
async fn stated_url(registry: &RegistryClient, tarball: &Tarball<'_>) -> Result<Url, TarballError> {
    let document = registry
        .metadata(tarball.name)
        .await
        .map_err(|source| fetch_error(tarball, source))?;
    let nowhere = |found: String| {
        let broken = Broken::new(Rule::Url, found, "the URL of its tarball");
        TarballError::Refused(broken.of(&label(tarball)))
    };
    let release = Document::parse(&document)
        .and_then(|document| document.release(tarball.version))
        .map_err(|e| nowhere(format!("metadata that npm would not read: {e}")))?;
    let stated = release
        .and_then(|release| release.dist.tarball)
        .ok_or_else(|| nowhere("metadata without this version".into()))?;
    Url::parse(&stated).map_err(|e| {
        nowhere(format!(
            "`{}`: {e}",
            stated.escape_debug().take(200).collect::<String>()
        ))
    })
}

/// A tarball on its way into npm's cache: nobody finds it before it was checked.
pub(super) struct Received {
    file: NamedTempFile,
    hasher: Sha512,
    pub(super) size: u64,
}

impl Received {
    pub(super) fn new(folder: &Path) -> io::Result<Self> {
        Ok(Self {
            file: NamedTempFile::new_in(folder)?,
            hasher: Sha512::new(),
            size: 0,
        })
    }

    pub(super) fn of(folder: &Path, content: &[u8]) -> io::Result<Self> {
        let mut received = Self::new(folder)?;
        received.write_all(content)?;
        Ok(received)
    }

    pub(super) fn check(self, tarball: &Tarball<'_>) -> Result<NamedTempFile, ArchiveError> {
        self.check_hash(&tarball.hash)
            .map_err(|broken| broken.of(&label(tarball)))
    }

    pub(super) fn check_hash(self, wanted: &[u8; 64]) -> Result<NamedTempFile, Broken> {
        let found: [u8; 64] = self.hasher.finalize().into();
        if found == *wanted {
            return Ok(self.file);
        }
        let found = format!("{} bytes with sha512 {}", self.size, hex::encode(found));
        let wanted = format!("sha512 {}", hex::encode(wanted));
        Err(Broken::new(Rule::Integrity, found, wanted))
    }
}

impl Write for Received {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.file.write(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn fetch_error(tarball: &Tarball<'_>, source: FetchError) -> TarballError {
    TarballError::Fetch {
        package: label(tarball),
        source,
    }
}

pub(super) fn cache_error(path: &Path, source: io::Error) -> TarballError {
    TarballError::Cache {
        path: path.to_owned(),
        source,
    }
}

/// Package and version of a tarball, for messages.
pub(super) fn label(tarball: &Tarball<'_>) -> String {
    format!("{}@{}", tarball.name, tarball.version)
}
