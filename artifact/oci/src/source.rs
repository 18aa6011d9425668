//! Where an artifact is read from: a repository of a registry, or a layout on disk.
//!
//! Both give bytes that were checked against the digest they were asked for by.

use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::client::{StoreClient, StoreError};
use crate::digest::Digest;
use crate::image::Descriptor;
use crate::layout::{Layout, LayoutError};
use crate::referrers::{self, Listed};

/// Why bytes could not be had.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// From a registry.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// From a layout.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The tag is not there.
    #[error("{repository} in the store `{address}` has no tag {tag}")]
    NoTag {
        /// Address of the store.
        address: String,
        /// The repository.
        repository: String,
        /// The tag asked for.
        tag: String,
    },
}

/// A place that holds artifacts.
#[derive(Clone, Debug)]
pub enum Source {
    /// A repository of a registry.
    Store {
        /// The registry.
        client: StoreClient,
        /// The repository.
        repository: String,
    },
    /// A folder.
    Layout(Layout),
}

impl Source {
    /// The digest under a tag.
    ///
    /// # Errors
    /// When the tag is not there or the place cannot be read. A layout has one image and no tags.
    pub async fn tagged(&self, tag: &str) -> Result<Digest, SourceError> {
        match self {
            Self::Store { client, repository } => {
                let found = client.tagged_bytes(repository, tag).await?;
                let content = found.ok_or_else(|| SourceError::NoTag {
                    address: client.address().to_owned(),
                    repository: repository.clone(),
                    tag: tag.to_owned(),
                })?;
                Ok(Digest::of(&content))
            }
            Self::Layout(layout) => Ok(layout.image()?),
        }
    }

    /// Bytes of the manifest of this digest.
    ///
    /// # Errors
    /// When they cannot be had or are others.
    pub async fn manifest(&self, digest: &Digest) -> Result<Bytes, SourceError> {
        match self {
            Self::Store { client, repository } => {
                Ok(client.manifest_bytes(repository, digest).await?)
            }
            Self::Layout(layout) => Ok(layout.manifest(digest)?.into()),
        }
    }

    /// A blob in memory.
    ///
    /// # Errors
    /// When it cannot be had, is larger than `limit`, or is not what the descriptor says.
    pub async fn blob(&self, blob: &Descriptor, limit: u64) -> Result<Bytes, SourceError> {
        match self {
            Self::Store { client, repository } => Ok(client.blob(repository, blob, limit).await?),
            Self::Layout(layout) => Ok(layout.blob(blob, limit)?.into()),
        }
    }

    /// A blob as a file: where it is already, else in `folder`.
    ///
    /// # Errors
    /// When it cannot be had, is larger than `limit`, or is not what the descriptor says.
    pub async fn blob_file(
        &self,
        blob: &Descriptor,
        limit: u64,
        folder: &Path,
    ) -> Result<PathBuf, SourceError> {
        match self {
            Self::Store { client, repository } => {
                let path = folder.join(blob.digest.hex());
                client.blob_to_file(repository, blob, limit, &path).await?;
                Ok(path)
            }
            Self::Layout(layout) => Ok(layout.verify_blob(blob, limit)?),
        }
    }

    /// What refers to `subject`.
    ///
    /// # Errors
    /// When the list cannot be had.
    pub async fn referrers(&self, subject: &Digest) -> Result<Vec<Listed>, SourceError> {
        match self {
            Self::Store { client, repository } => {
                Ok(referrers::list(client, repository, subject).await?)
            }
            Self::Layout(layout) => Ok(layout.referrers(subject)?),
        }
    }
}
