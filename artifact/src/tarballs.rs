//! Tarballs kept in the store, so that each is downloaded from outside once per cluster.
//!
//! npm's cache is content-addressed: a file under the SHA-512 of its bytes is taken in
//! place of a download when the lock names where it would come from. `fetch` puts what
//! the store has into npm's cache, `push` adds to the store what npm had to download. A
//! tarball is found by the integrity that a lock names and by nothing else, and npm checks
//! it against that integrity whichever way it came. Of two packings at the same instant
//! both may download a tarball.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::lock::{self, Lock};
use crate::store::{StoreClient, StoreError};

/// Repository of all tarballs; no package's repository has this name.
const REPOSITORY: &str = "tarballs";

/// Type of the artifact that holds one tarball.
const MEDIA_TYPE: &str = "application/vnd.paperclip.npm-tarball.v1+gzip";

/// Largest tarball that is kept. A larger one is downloaded each time.
const MAX_BYTES: u64 = 128 * 1024 * 1024;

/// Why tarballs were not exchanged with the store.
#[derive(Debug, thiserror::Error)]
pub enum TarballError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// npm's cache could not be used.
    #[error("cannot use npm's cache at {}", path.display())]
    Cache {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Puts the tarballs of a lock that the store has into npm's cache.
///
/// Returns the paths of the lock whose tarballs are there now.
///
/// # Errors
/// When the store fails or the cache cannot be written.
pub async fn lend(
    store: &StoreClient,
    cache: &Path,
    lock: &Lock,
) -> Result<Vec<String>, TarballError> {
    let mut lent = Vec::new();
    for (path, hash) in hashes(lock) {
        let found = store
            .artifact(REPOSITORY, MEDIA_TYPE, &hex::encode(hash), MAX_BYTES)
            .await?;
        let Some(content) = found else { continue };
        let file = content_path(cache, &hash);
        let failed = |source| TarballError::Cache {
            path: file.clone(),
            source,
        };
        fs::create_dir_all(file.parent().unwrap_or(cache)).map_err(failed)?;
        fs::write(&file, &content).map_err(failed)?;
        lent.push(path.to_owned());
    }
    Ok(lent)
}

/// Keeps in the store what npm downloaded for a lock.
///
/// # Errors
/// When the store fails or the cache cannot be read.
pub async fn keep(store: &StoreClient, cache: &Path, lock: &Lock) -> Result<(), TarballError> {
    for (_, hash) in hashes(lock) {
        let file = content_path(cache, &hash);
        // Optional packages of other platforms are locked and never downloaded.
        let Ok(metadata) = fs::metadata(&file) else {
            continue;
        };
        let tag = hex::encode(hash);
        if metadata.len() > MAX_BYTES || store.tagged_manifest(REPOSITORY, &tag).await?.is_some() {
            continue;
        }
        let content = fs::read(&file).map_err(|source| TarballError::Cache {
            path: file.clone(),
            source,
        })?;
        store
            .push_artifact(REPOSITORY, MEDIA_TYPE, content.into(), &tag)
            .await?;
    }
    Ok(())
}

/// The lock as npm is to install from: entries with a lent tarball name where they would
/// come from, without which npm does not look into its cache. The bytes of the artifact
/// never hold this spelling.
pub fn with_origins(lock: &Lock, lent: &[String], registry: &str) -> Vec<u8> {
    let Ok(mut spelled) = serde_json::from_slice::<Value>(lock.bytes()) else {
        return lock.bytes().to_vec();
    };
    for path in lent {
        let name = path.rsplit("node_modules/").next().unwrap_or(path);
        let file = name.rsplit('/').next().unwrap_or(name);
        let entry = &mut spelled["packages"][path.as_str()];
        let version = entry["version"].as_str().unwrap_or_default().to_owned();
        entry["resolved"] = Value::String(format!("{registry}{name}/-/{file}-{version}.tgz"));
    }
    spelled.to_string().into_bytes()
}

/// Path in the lock and SHA-512 of each tarball.
fn hashes(lock: &Lock) -> impl Iterator<Item = (&str, [u8; 64])> {
    lock.integrities()
        .filter_map(|(path, integrity)| Some((path, lock::sha512(integrity)?)))
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
