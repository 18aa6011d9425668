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
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use futures::TryStreamExt as _;
use paperclip_artifact::lock::{Lock, Tarball};
use paperclip_artifact::{bounded, integrity, limits};
use paperclip_artifact_format::platform::Platforms;
use paperclip_oci::client::{StoreClient, StoreError};
use serde_json::Value;

use crate::npm::archive::{self, Budget};
use crate::npm::download::{Received, TarballError, cache_error, download, label};
use crate::npm::registry::RegistryClient;
use crate::source::tarball::PackageTarball;

/// Repository of all tarballs; no package's repository has this name.
const REPOSITORY: &str = "tarballs";

/// Type of the artifact that holds one tarball.
const MEDIA_TYPE: &str = "application/vnd.paperclip.npm-tarball.v1+gzip";

/// Where tarballs come from: what is given, then the store, if there is one.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a> {
    /// A tarball that is here already.
    pub tarball: Option<&'a PackageTarball>,
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
    let lent = match (sources.tarball, sources.store) {
        (Some(package), _) if package.hash == tarball.hash => Some(package.read()?),
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

/// Where npm's cache keeps content with this SHA-512.
fn content_path(cache: &Path, hash: &[u8; 64]) -> PathBuf {
    let hex = hex::encode(hash);
    cache
        .join("_cacache/content-v2/sha512")
        .join(&hex[..2])
        .join(&hex[2..4])
        .join(&hex[4..])
}
