//! The tarballs of a lock: brought from the store or the registry, checked, and kept.
//!
//! npm's cache is content-addressed: a file under the SHA-512 of its bytes is taken in
//! place of a download when the lock names where it would come from. `fetch` puts every
//! tarball there, from the store or else from the registry, and npm installs without a
//! network; `push` adds to the store what was downloaded, so that each tarball is downloaded
//! from outside once per cluster. Whichever way a tarball came, it has the SHA-512 that the
//! lock names and was walked (see [`crate::npm::archive`]) before npm sees it. Of two packings at
//! the same instant both may download a tarball.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use futures::TryStreamExt as _;
use paperclip_artifact::lock::{Lock, Tarball};
use paperclip_artifact::{bounded, integrity, limits};
use paperclip_artifact_format::platform::Platforms;
use paperclip_oci::client::{StoreClient, StoreError};
use reqwest::{StatusCode, Url};
use serde_json::Value;
use sha2::{Digest as _, Sha512};
use tempfile::NamedTempFile;

use crate::npm::archive::{self, ArchiveError, Broken, Budget, Rule};
use crate::npm::packument::Document;
use crate::npm::registry::{FetchError, RegistryClient, readable};
use crate::source::tarball::Given;

/// Repository of all tarballs; no package's repository has this name.
const REPOSITORY: &str = "tarballs";

/// Type of the artifact that holds one tarball.
const MEDIA_TYPE: &str = "application/vnd.paperclip.npm-tarball.v1+gzip";

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
        /// What went wrong.
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
        /// What the system said.
        source: io::Error,
    },
    /// This program is ending.
    #[error("checking the tarballs was interrupted")]
    Interrupted,
}

/// Where tarballs come from: what is given, then the store, if there is one.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a> {
    /// A tarball that is here already.
    pub given: Option<&'a Given>,
    /// The store of the cluster.
    pub store: Option<&'a StoreClient>,
    /// The tenant whose registry or credential this is, if not the platform's.
    pub owner: Option<&'a str>,
    /// The registry, or its scopes' registries.
    pub registry: &'a RegistryClient,
}

/// Repository of what a tenant downloaded with a registry or a credential of its own. Others do
/// not get a tarball there for its hash: to know one is not to have access.
fn repository(owner: Option<&str>) -> String {
    owner.map_or_else(
        || REPOSITORY.to_owned(),
        |owner| format!("{REPOSITORY}/{owner}"),
    )
}

/// Puts every tarball that installations of the lock on these platforms unpack into npm's
/// cache, checked. Each tree has the whole budget for itself.
///
/// # Errors
/// When store or registry fail, the cache cannot be written, or a tarball is not what the
/// lock says or breaks a rule. npm must not run then.
pub async fn bring(
    sources: Sources<'_>,
    cache: &Path,
    lock: &Lock,
    platforms: &Platforms,
) -> Result<(), TarballError> {
    let mut wanted = BTreeMap::new();
    for tarball in platforms.iter().flat_map(|one| lock.tarballs(one)) {
        wanted.entry(tarball.hash).or_insert(tarball);
    }
    let total = AtomicU64::new(0);
    futures::stream::iter(wanted.into_values().map(Ok))
        .try_for_each_concurrent(limits::TARBALLS_AT_ONCE, |tarball| {
            bring_one(sources, cache, tarball, &total)
        })
        .await?;
    for variant in lock.variants(platforms) {
        // Twice in the tree is twice on the disk, so that each path is walked.
        let tarballs = variant
            .first()
            .into_iter()
            .flat_map(|one| lock.tarballs(one));
        let walks: Vec<_> = tarballs
            .map(|tarball| (label(&tarball), content_path(cache, &tarball.hash)))
            .collect();
        tokio::task::spawn_blocking(move || walk(&walks))
            .await
            .map_err(|_| TarballError::Interrupted)??;
    }
    Ok(())
}

fn walk(tarballs: &[(String, PathBuf)]) -> Result<(), TarballError> {
    let mut budget = Budget::default();
    for (package, path) in tarballs {
        let file = File::open(path).map_err(|e| cache_error(path, e))?;
        archive::check(file, &mut budget).map_err(|broken| broken.of(package))?;
    }
    Ok(())
}

async fn bring_one(
    sources: Sources<'_>,
    cache: &Path,
    tarball: Tarball<'_>,
    total: &AtomicU64,
) -> Result<(), TarballError> {
    let target = content_path(cache, &tarball.hash);
    let folder = target.parent().unwrap_or(cache);
    fs::create_dir_all(folder).map_err(|e| cache_error(folder, e))?;
    let lent = match (sources.given, sources.store) {
        (Some(given), _) if given.hash == tarball.hash => Some(given.read()?),
        (_, Some(store)) => lent(store, sources.owner, &tarball).await?,
        _ => None,
    };
    let received = match lent {
        Some(content) => Received::of(folder, &content).map_err(|e| cache_error(&target, e))?,
        None => download(sources.registry, folder, &tarball).await?,
    };
    let size = received.size;
    let found = total.fetch_add(size, Ordering::Relaxed) + size;
    if found > limits::TREE {
        return Err(TarballError::Total { found });
    }
    received
        .check(&tarball)?
        .persist(&target)
        .map_err(|e| cache_error(&target, e.error))?;
    Ok(())
}

/// What the platform's own packings or the tenant's left in the store.
async fn lent(
    store: &StoreClient,
    owner: Option<&str>,
    tarball: &Tarball<'_>,
) -> Result<Option<bytes::Bytes>, StoreError> {
    let tag = hex::encode(tarball.hash);
    let of = async |owner| {
        let repository = repository(owner);
        store
            .artifact(&repository, MEDIA_TYPE, &tag, limits::TARBALL)
            .await
    };
    match (of(None).await?, owner) {
        (None, Some(owner)) => of(Some(owner)).await,
        (found, _) => Ok(found),
    }
}

/// Downloads a tarball from where nearly all registries have it, else from where the
/// registry says.
async fn download(
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

/// Downloads what is behind a URL into a file of `folder`, checked against its hash.
pub(crate) async fn download_given(
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

/// A tarball on its way into npm's cache: nobody finds it before it was checked.
struct Received {
    file: NamedTempFile,
    hasher: Sha512,
    size: u64,
}

impl Received {
    fn new(folder: &Path) -> io::Result<Self> {
        Ok(Self {
            file: NamedTempFile::new_in(folder)?,
            hasher: Sha512::new(),
            size: 0,
        })
    }

    fn of(folder: &Path, content: &[u8]) -> io::Result<Self> {
        let mut received = Self::new(folder)?;
        received.write_all(content)?;
        Ok(received)
    }

    fn check(self, tarball: &Tarball<'_>) -> Result<NamedTempFile, ArchiveError> {
        self.check_hash(&tarball.hash)
            .map_err(|broken| broken.of(&label(tarball)))
    }

    fn check_hash(self, wanted: &[u8; 64]) -> Result<NamedTempFile, Broken> {
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

/// Keeps in the store what was downloaded for a lock, for its owner where it has one.
///
/// # Errors
/// When the store fails or the cache cannot be read.
pub async fn keep(
    store: &StoreClient,
    owner: Option<&str>,
    cache: &Path,
    lock: &Lock,
) -> Result<(), TarballError> {
    let repository = repository(owner);
    for (_, integrity) in lock.integrities() {
        let Some(hash) = integrity::sha512(integrity) else {
            continue;
        };
        let file = content_path(cache, &hash);
        let tag = hex::encode(hash);
        // Optional packages of other platforms are locked and never downloaded.
        if !file.exists() || store.tagged_manifest(&repository, &tag).await?.is_some() {
            continue;
        }
        let content = bounded::read(&file, limits::TARBALL).map_err(|e| cache_error(&file, e))?;
        store
            .push_artifact(&repository, MEDIA_TYPE, content.into(), &tag)
            .await?;
    }
    Ok(())
}

/// The lock as npm is to install from: entries name where their tarball would come from,
/// without which npm does not look into its cache. The bytes of the artifact never hold
/// this spelling.
pub fn with_origins<'a>(lock: &Lock, registry_of: impl Fn(&str) -> &'a str) -> Vec<u8> {
    let Ok(mut spelled) = serde_json::from_slice::<Value>(lock.bytes()) else {
        return lock.bytes().to_vec();
    };
    for (path, _) in lock.integrities() {
        let entry = &mut spelled["packages"][path];
        // npm judges by the name in the tree, also where that is an alias.
        let name = path.rsplit("node_modules/").next().unwrap_or(path);
        let file = name.rsplit('/').next().unwrap_or(name);
        let version = entry["version"].as_str().unwrap_or_default();
        let registry = registry_of(name);
        let resolved = format!("{registry}{name}/-/{file}-{version}.tgz");
        entry["resolved"] = Value::String(resolved);
    }
    spelled.to_string().into_bytes()
}

fn label(tarball: &Tarball<'_>) -> String {
    format!("{}@{}", tarball.name, tarball.version)
}

fn fetch_error(tarball: &Tarball<'_>, source: FetchError) -> TarballError {
    TarballError::Fetch {
        package: label(tarball),
        source,
    }
}

fn cache_error(path: &Path, source: io::Error) -> TarballError {
    TarballError::Cache {
        path: path.to_owned(),
        source,
    }
}

/// Where npm's cache keeps content with this SHA-512.
fn content_path(cache: &Path, hash: &[u8; 64]) -> PathBuf {
    let hex = hex::encode(hash);
    cache
        .join("_cacache/content-v2/sha512")
        .join(&hex[..2])
        .join(&hex[2..4])
        .join(&hex[4..])
}
