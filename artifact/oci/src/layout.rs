//! An artifact on disk: an OCI image layout with the image, or the index of images, and its
//! referrers.
//!
//! `index.json` is written last, so a folder without it holds nothing yet. What is read
//! back is checked against its digest, whoever wrote the folder.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::limits;
use serde_json::json;

use crate::digest::{Digest, Hashing};
use crate::image::{Descriptor, INDEX_MEDIA_TYPE, Manifest};
use crate::index::Packed;
use crate::referrers::{self, Listed, Referrer};

/// The file that says that a folder is a layout.
const MARKER: &str = "oci-layout";
const INDEX: &str = "index.json";
/// Annotation of a tag, as other tools read it.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Why a layout could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// A file could not be written.
    #[error("cannot write the image layout at {}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A file could not be read.
    #[error("cannot read the image layout at {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{}: {why}", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// The finding, and the rule.
        why: String,
    },
}

/// A layout that was written before.
#[derive(Clone, Debug)]
pub struct Layout {
    folder: PathBuf,
}

impl Layout {
    /// The layout in a folder, or `None` if the folder is none.
    #[must_use]
    pub fn open(folder: &Path) -> Option<Self> {
        folder.join(MARKER).is_file().then(|| Self {
            folder: folder.to_owned(),
        })
    }

    /// Writes an artifact and its referrers, and names it in the layout's index by `tag`.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write(
        folder: &Path,
        packed: &Packed,
        referrers: &[Referrer],
        tag: &str,
    ) -> Result<Self, LayoutError> {
        let layout = Self {
            folder: folder.to_owned(),
        };
        let write = |path: PathBuf, content: &[u8]| {
            fs::write(&path, content).map_err(|source| LayoutError::Write { path, source })
        };
        let blobs = folder.join("blobs/sha256");
        fs::create_dir_all(&blobs).map_err(|source| LayoutError::Write {
            path: blobs,
            source,
        })?;
        for image in packed.images() {
            for (digest, content) in image.blobs() {
                write(layout.path(&digest), &content)?;
            }
            write(layout.path(&image.digest()), image.manifest())?;
        }
        write(layout.path(&packed.digest()), packed.manifest())?;
        for referrer in referrers {
            for (digest, content) in referrer.blobs() {
                write(layout.path(&digest), &content)?;
            }
            let digest = &referrer.listed().descriptor.digest;
            write(layout.path(digest), referrer.manifest())?;
        }
        let mut manifests = vec![json!(packed.descriptor())];
        manifests[0]["annotations"] = json!({ REF_NAME: tag });
        manifests.extend(referrers.iter().map(|referrer| json!(referrer.listed())));
        let index = json!({
            "schemaVersion": 2, "mediaType": INDEX_MEDIA_TYPE, "manifests": manifests,
        });
        write(folder.join(MARKER), br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        write(folder.join(INDEX), index.to_string().as_bytes())?;
        Ok(layout)
    }

    /// Completes a folder that holds every blob already with manifests, and lists the artifact
    /// and its referrers.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write_copied(
        folder: &Path,
        artifact: &Descriptor,
        manifests: &[(Digest, bytes::Bytes)],
        referrers: &[Listed],
    ) -> Result<Self, LayoutError> {
        let layout = Self {
            folder: folder.to_owned(),
        };
        let write = |path: PathBuf, content: &[u8]| {
            fs::write(&path, content).map_err(|source| LayoutError::Write { path, source })
        };
        for (digest, content) in manifests {
            write(layout.path(digest), content)?;
        }
        let listed = std::iter::once(json!(artifact));
        let listed = listed.chain(referrers.iter().map(|one| json!(one)));
        let index = json!({
            "schemaVersion": 2, "mediaType": INDEX_MEDIA_TYPE,
            "manifests": listed.collect::<Vec<_>>(),
        });
        write(folder.join(MARKER), br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        write(folder.join(INDEX), index.to_string().as_bytes())?;
        Ok(layout)
    }

    /// Where a blob is.
    #[must_use]
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join("blobs/sha256").join(digest.hex())
    }

    /// The one artifact of the layout: an image, or an index of images.
    ///
    /// # Errors
    /// When the index cannot be read, or lists no artifact or several.
    pub fn image(&self) -> Result<Digest, LayoutError> {
        let mut images = Vec::new();
        for listed in self.listed()? {
            if self.subject(&listed)?.is_none() {
                images.push(listed.descriptor.digest);
            }
        }
        match &images[..] {
            [image] => Ok(image.clone()),
            _ => Err(LayoutError::Refused {
                path: self.folder.join(INDEX),
                why: format!("it lists {} images, wanted one", images.len()),
            }),
        }
    }

    /// What the index lists as referring to `subject`.
    ///
    /// # Errors
    /// When the index or a manifest that it lists cannot be read.
    pub fn referrers(&self, subject: &Digest) -> Result<Vec<Listed>, LayoutError> {
        let mut found = Vec::new();
        for listed in self.listed()? {
            if self
                .subject(&listed)?
                .is_some_and(|one| one.digest == *subject)
            {
                found.push(listed);
            }
        }
        Ok(found)
    }

    /// Bytes of a manifest, checked against its digest.
    ///
    /// # Errors
    /// When it cannot be read, is too large or is something else.
    pub fn manifest(&self, digest: &Digest) -> Result<Vec<u8>, LayoutError> {
        let content = read_bounded(&self.path(digest), limits::OCI_MANIFEST)?;
        self.check(digest, &Digest::of(&content))?;
        Ok(content)
    }

    /// A blob, checked against its descriptor.
    ///
    /// # Errors
    /// When it cannot be read, is larger than `limit`, or is something else.
    pub fn blob(&self, blob: &Descriptor, limit: u64) -> Result<Vec<u8>, LayoutError> {
        let content = read_bounded(&self.path(&blob.digest), limit)?;
        self.check_blob(blob, &Digest::of(&content), content.len() as u64)?;
        Ok(content)
    }

    /// Checks a blob of any size where it is, and gives its path.
    ///
    /// # Errors
    /// When it cannot be read, is larger than `limit`, or is something else.
    pub fn verify_blob(&self, blob: &Descriptor, limit: u64) -> Result<PathBuf, LayoutError> {
        let path = self.path(&blob.digest);
        let failed = |source| LayoutError::Read {
            path: path.clone(),
            source,
        };
        let file = File::open(&path).map_err(failed)?;
        let mut file = Hashing::new(file.take(limit.saturating_add(1)));
        io::copy(&mut file, &mut io::sink()).map_err(failed)?;
        let (_, digest, size) = file.finish();
        if size > limit {
            return Err(too_large(&path, limit));
        }
        self.check_blob(blob, &digest, size)?;
        Ok(path)
    }

    fn listed(&self) -> Result<Vec<Listed>, LayoutError> {
        let path = self.folder.join(INDEX);
        let index = read_bounded(&path, limits::OCI_MANIFEST)?;
        referrers::parse_listed(&index).map_err(|why| LayoutError::Refused { path, why })
    }

    fn subject(&self, listed: &Listed) -> Result<Option<Descriptor>, LayoutError> {
        let digest = &listed.descriptor.digest;
        let manifest = self.manifest(digest)?;
        // What is no manifest of ours has no subject that counts.
        let manifest = serde_json::from_slice::<Manifest>(&manifest).ok();
        Ok(manifest.and_then(|manifest| manifest.subject))
    }

    fn check_blob(&self, blob: &Descriptor, found: &Digest, size: u64) -> Result<(), LayoutError> {
        self.check(&blob.digest, found)?;
        if size == blob.size {
            return Ok(());
        }
        Err(LayoutError::Refused {
            path: self.path(&blob.digest),
            why: format!("it has {size} bytes, wanted {}", blob.size),
        })
    }

    fn check(&self, wanted: &Digest, found: &Digest) -> Result<(), LayoutError> {
        if found == wanted {
            return Ok(());
        }
        Err(LayoutError::Refused {
            path: self.path(wanted),
            why: format!("its digest is {found}, wanted {wanted}"),
        })
    }
}

fn too_large(path: &Path, limit: u64) -> LayoutError {
    LayoutError::Refused {
        path: path.to_owned(),
        why: format!("it has more than {limit} bytes"),
    }
}

fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, LayoutError> {
    let failed = |source| LayoutError::Read {
        path: path.to_owned(),
        source,
    };
    let mut content = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(limit.saturating_add(1))
        .read_to_end(&mut content)
        .map_err(failed)?;
    if content.len() as u64 > limit {
        return Err(too_large(path, limit));
    }
    Ok(content)
}
