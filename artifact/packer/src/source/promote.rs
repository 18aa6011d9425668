//! An artifact that was packed elsewhere: looked at, brought here whole, and pushed unchanged.
//!
//! It is read from a registry that a tenant named, so nothing about it is believed: shape, every
//! digest, the tree's paths, the plugin manifest's rules and the lock are checked as
//! [`paperclip_artifact::verify`] does, on the copy that is pushed. The bytes stay as they are, so the digest
//! does.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use paperclip_artifact::attachment::Kind;
use paperclip_artifact::inspect::{InspectError, Opened};
use paperclip_artifact::{limits, verify};
use paperclip_artifact_format::annotations;
use paperclip_artifact_format::platform::Platforms;
use paperclip_oci::client::{StoreClient, StoreError};
use paperclip_oci::digest::Digest;
use paperclip_oci::image::{Descriptor, Manifest};
use paperclip_oci::layout::{Layout, LayoutError};
use paperclip_oci::referrers::{self, Foreign, Listed, Referrer};
use paperclip_oci::source::{Source, SourceError};
use paperclip_packing_api::report::{Fetched, Pushed};
use paperclip_packing_api::resolve::{Reference, Resolved};

/// Referrers that an artifact may have: the three of ours, and signatures of others.
const MAX_REFERRERS: usize = 64;

/// Why an artifact was not brought here.
#[derive(Debug, thiserror::Error)]
pub enum PromoteError {
    /// It could not be had, or is not as it should be.
    #[error(transparent)]
    Inspect(#[from] InspectError),
    /// The tag could not be looked up.
    #[error("cannot look up {reference}")]
    Look {
        /// Repository and tag.
        reference: String,
        /// The cause.
        source: SourceError,
    },
    /// It is for other nodes.
    #[error("artifact {artifact} is packed for {found}, wanted one for some of {wanted}")]
    Platforms {
        /// The artifact.
        artifact: Digest,
        /// What it is for.
        found: Platforms,
        /// What the nodes are.
        wanted: Platforms,
    },
    /// The copy on disk.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The store of the cluster.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The work folder could not be used.
    #[error("cannot use {}", path.display())]
    Work {
        /// The folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// What a tag or a digest stands for in a registry.
///
/// # Errors
/// When it is not there, or is no plugin artifact.
pub async fn look_up(source: &Source, reference: &Reference) -> Result<Resolved, PromoteError> {
    let digest = match reference {
        Reference::Digest(digest) => digest.clone(),
        Reference::Tag(tag) => source
            .tagged(tag)
            .await
            .map_err(|source| PromoteError::Look {
                reference: format!("tag {tag}"),
                source,
            })?,
    };
    let opened = Opened::open(source, &digest).await?;
    // Both are compared with what the artifact itself says before it is pushed.
    let package = opened.annotation(annotations::PACKAGE)?.to_owned();
    let version = opened.annotation(annotations::VERSION)?.to_owned();
    Ok(Resolved {
        package: Some(package),
        version,
        integrity: digest.to_string(),
    })
}

/// Copies an artifact with everything that refers to it into `folder`, an image layout, and
/// verifies the copy. The tree is unpacked in `scratch`.
///
/// # Errors
/// When it cannot be had, or breaks a rule of artifacts.
pub async fn bring(
    source: &Source,
    digest: &Digest,
    folder: &Path,
    scratch: &Path,
) -> Result<Fetched, PromoteError> {
    let blobs = folder.join("blobs/sha256");
    for folder in [&blobs, &scratch.to_owned()] {
        fs::create_dir_all(folder).map_err(|source| PromoteError::Work {
            path: folder.clone(),
            source,
        })?;
    }
    copy(source, digest, folder, &blobs).await?;
    let layout = opened_layout(folder)?;
    let copied = Source::Layout(layout);
    verify::verify(&copied, digest, scratch).await?;
    let opened = Opened::open(&copied, digest).await?;
    let facts = opened.facts().await?;
    let lock = paperclip_artifact::lock::Lock::parse(&facts.lock, &facts.package, &facts.version)
        .map_err(|e| opened.refused("the lock", e.to_string()))?;
    Ok(Fetched {
        integrity: lock.integrity(&facts.package).unwrap_or_default().into(),
        lock_digest: lock.digest(),
        packages: lock.len(),
    })
}

/// Checks that what [`bring`] left in `folder` is for some of these platforms.
///
/// # Errors
/// When it is for none of them, or the copy cannot be read.
pub async fn check_platforms(
    folder: &Path,
    digest: &Digest,
    wanted: &Platforms,
) -> Result<(), PromoteError> {
    let copied = Source::Layout(opened_layout(folder)?);
    let found = Opened::open(&copied, digest).await?.platforms();
    if found.is_empty() || found.iter().any(|platform| wanted.contains(platform)) {
        return Ok(());
    }
    Err(PromoteError::Platforms {
        artifact: digest.clone(),
        found: found.into_iter().collect(),
        wanted: wanted.clone(),
    })
}

async fn copy(
    source: &Source,
    digest: &Digest,
    folder: &Path,
    blobs: &Path,
) -> Result<(), PromoteError> {
    let opened = Opened::open(source, digest).await?;
    let artifact = read_manifest(&opened, digest).await?;
    let mut written = vec![(digest.clone(), artifact)];
    for image in opened.images() {
        bring_blobs(&opened, &image.manifest, &image.named("the image"), blobs).await?;
        let content = read_manifest(&opened, &image.digest).await?;
        written.push((image.digest.clone(), content));
    }
    let listed = opened.referrers().await?;
    if listed.len() > MAX_REFERRERS {
        let why = format!("found {}, wanted at most {MAX_REFERRERS}", listed.len());
        return Err(opened.refused("the referrers", why).into());
    }
    let mut bytes = 0;
    let mut kept = Vec::new();
    for one in listed {
        let manifest = opened.referrer(&one).await?;
        if is_testimony(&one, &manifest) {
            continue;
        }
        let sizes = std::iter::once(&manifest.config).chain(&manifest.layers);
        bytes = sizes.fold(bytes, |sum: u64, blob| sum.saturating_add(blob.size));
        if bytes > limits::LAYER {
            let why = format!("found {bytes} bytes, wanted at most {}", limits::LAYER);
            return Err(opened.refused("the referrers", why).into());
        }
        let what = format!("referrer {}", one.descriptor.digest);
        bring_blobs(&opened, &manifest, &what, blobs).await?;
        let content = read_manifest(&opened, &one.descriptor.digest).await?;
        written.push((one.descriptor.digest.clone(), content));
        kept.push(one);
    }
    Layout::write_copied(folder, opened.descriptor(), &written, &kept)?;
    Ok(())
}

/// What another platform wrote down of signatures. It proves nothing here, and would stand
/// beside what is written down here.
fn is_testimony(listed: &Listed, manifest: &Manifest) -> bool {
    let types = [Some(&listed.artifact_type), manifest.artifact_type.as_ref()];
    [Kind::Evidence, Kind::Verification]
        .iter()
        .any(|kind| types.contains(&Some(&kind.media_type().to_owned())))
}

async fn read_manifest(opened: &Opened<'_>, digest: &Digest) -> Result<Bytes, PromoteError> {
    let content = opened.source().manifest(digest).await;
    Ok(content.map_err(|e| opened.read(&format!("manifest {digest}"), e))?)
}

async fn bring_blobs(
    opened: &Opened<'_>,
    manifest: &Manifest,
    what: &str,
    blobs: &Path,
) -> Result<(), PromoteError> {
    for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
        let brought = opened.source().blob_file(blob, limits::LAYER, blobs).await;
        brought.map_err(|e| opened.read(what, e))?;
    }
    Ok(())
}

pub(crate) fn opened_layout(folder: &Path) -> Result<Layout, PromoteError> {
    Layout::open(folder).ok_or_else(|| PromoteError::Work {
        path: folder.to_owned(),
        source: io::ErrorKind::NotFound.into(),
    })
}

/// Pushes what [`bring`] left in `folder`: blobs, image, what refers to it, and last the tag.
///
/// # Errors
/// When the store fails, or the copy is no longer what it was.
pub async fn push(
    folder: &Path,
    digest: &Digest,
    store: &StoreClient,
    repository: &str,
    request_tag: &str,
) -> Result<Pushed, PromoteError> {
    push_with(folder, digest, store, (repository, request_tag), &[]).await
}

/// A copy as a referrer names it.
pub(crate) async fn descriptor_of(
    folder: &Path,
    digest: &Digest,
) -> Result<Descriptor, PromoteError> {
    let copied = Source::Layout(opened_layout(folder)?);
    Ok(Opened::open(&copied, digest).await?.descriptor().clone())
}

/// As [`push`], with what was written down here.
pub(crate) async fn push_with(
    folder: &Path,
    digest: &Digest,
    store: &StoreClient,
    (repository, request_tag): (&str, &str),
    ours: &[Referrer],
) -> Result<Pushed, PromoteError> {
    let layout = opened_layout(folder)?;
    let source = Source::Layout(layout.clone());
    let opened = Opened::open(&source, digest).await?;
    for image in opened.images() {
        for (blob, content) in read_blobs(&layout, &image.manifest)? {
            store.push_blob(repository, &blob, content).await?;
        }
        let manifest = Bytes::from(layout.manifest(&image.digest)?);
        store
            .push_manifest(repository, image.digest.as_str(), manifest)
            .await?;
    }
    let manifest = Bytes::from(layout.manifest(digest)?);
    let media_type = &*opened.descriptor().media_type;
    let put = store.put_manifest(repository, digest.as_str(), media_type, manifest.clone());
    put.await?;
    let mut copied = Vec::new();
    for listed in layout.referrers(digest)? {
        copied.push(read_referrer(&opened, &layout, listed).await?);
    }
    copied.extend(ours.iter().map(Foreign::from));
    referrers::push_foreign(store, repository, digest, &copied).await?;
    store
        .put_manifest(repository, request_tag, media_type, manifest)
        .await?;
    let lock_digest = opened.annotation(annotations::LOCK_DIGEST)?;
    tracing::info!(%digest, repository, "artifact copied");
    Ok(Pushed {
        repository: repository.to_owned(),
        digest: digest.clone(),
        marker: opened.annotation(annotations::MARKER)?.to_owned(),
        size_bytes: opened.size(),
        platforms: opened.platforms(),
        lock_digest: lock_digest
            .parse()
            .map_err(|_| opened.refused("the OCI manifest", "its lock digest is none"))?,
    })
}

async fn read_referrer(
    opened: &Opened<'_>,
    layout: &Layout,
    listed: Listed,
) -> Result<Foreign, PromoteError> {
    let parsed = opened.referrer(&listed).await?;
    Ok(Foreign {
        manifest: layout.manifest(&listed.descriptor.digest)?.into(),
        blobs: read_blobs(layout, &parsed)?,
        listed,
    })
}

fn read_blobs(layout: &Layout, manifest: &Manifest) -> Result<Vec<(Digest, Bytes)>, LayoutError> {
    let blobs = std::iter::once(&manifest.config).chain(&manifest.layers);
    let read = |blob: &paperclip_oci::image::Descriptor| {
        let content = layout.blob(blob, limits::LAYER)?;
        Ok((blob.digest.clone(), content.into()))
    };
    blobs.map(read).collect()
}
