//! OCI images as values: deterministic layers, config and manifest, named by digest.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::digest::{Digest, Hashing};
use crate::gzip;

/// Media type of an OCI image manifest.
pub const MANIFEST_MEDIA_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media type of an OCI image index.
pub const INDEX_MEDIA_TYPE: &str = "application/vnd.oci.image.index.v1+json";
/// Media type of an OCI image config.
pub const CONFIG_MEDIA_TYPE: &str = "application/vnd.oci.image.config.v1+json";
/// Media type of a layer that is not compressed.
pub const TAR_MEDIA_TYPE: &str = "application/vnd.oci.image.layer.v1.tar";
/// Media type of a gzip layer.
pub const GZIP_MEDIA_TYPE: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// Media type of the empty config of an artifact that is no image.
pub const EMPTY_MEDIA_TYPE: &str = "application/vnd.oci.empty.v1+json";

/// Why an image could not be built.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A file of the machine could not be read.
    #[error("cannot read {} for the image", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A path cannot be one inside an image.
    #[error("`{path}` is no path inside an image: wanted a relative path without `.` and `..`")]
    Path {
        /// The path.
        path: String,
    },
    /// The archive could not be written.
    #[error("cannot write a layer")]
    Archive(#[source] io::Error),
}

/// How the bytes of a layer are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// gzip, by the compressor this crate pins.
    #[default]
    Gzip,
    /// Not at all: fastest to make and to unpack, for registries on the same machine.
    None,
}

#[derive(Clone, Debug)]
enum Entry {
    Directory { mode: u32 },
    Symlink { target: String },
    Bytes { mode: u32, content: Bytes },
    HostFile { mode: u32, path: PathBuf },
}

/// One layer, ready to be pushed.
#[derive(Clone, Debug)]
pub struct Layer {
    media_type: &'static str,
    digest: Digest,
    diff_id: Digest,
    content: Bytes,
}

impl Layer {
    /// Digest of the stored bytes.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Digest of the archive before compression.
    #[must_use]
    pub fn diff_id(&self) -> &Digest {
        &self.diff_id
    }

    /// The stored bytes.
    #[must_use]
    pub fn content(&self) -> &Bytes {
        &self.content
    }

    /// The layer as a manifest names it.
    #[must_use]
    pub fn descriptor(&self) -> Descriptor {
        Descriptor {
            media_type: self.media_type.to_owned(),
            digest: self.digest.clone(),
            size: self.content.len() as u64,
        }
    }

    /// A layer of an archive that was written elsewhere.
    #[must_use]
    pub(crate) fn of_archive(archive: Vec<u8>, diff_id: Digest, compression: Compression) -> Self {
        let (media_type, content) = match compression {
            Compression::Gzip => (GZIP_MEDIA_TYPE, gzip::compress(&archive)),
            Compression::None => (TAR_MEDIA_TYPE, archive),
        };
        Self {
            media_type,
            digest: Digest::of(&content),
            diff_id,
            content: content.into(),
        }
    }
}

/// Collects the entries of one layer. Their order, owner (0) and time (0) do not depend
/// on the machine; missing parent folders are added with mode 0755.
#[derive(Clone, Debug, Default)]
pub struct LayerBuilder {
    entries: BTreeMap<String, Entry>,
    compression: Compression,
}

impl LayerBuilder {
    /// An empty layer, gzip.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Chooses how the layer is stored.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// A folder.
    #[must_use]
    pub fn directory(self, path: &str, mode: u32) -> Self {
        self.entry(path, Entry::Directory { mode })
    }

    /// A file with these bytes.
    #[must_use]
    pub fn bytes(self, path: &str, content: impl Into<Bytes>, mode: u32) -> Self {
        self.entry(
            path,
            Entry::Bytes {
                mode,
                content: content.into(),
            },
        )
    }

    /// A copy of a file of this machine, read when the layer is built.
    #[must_use]
    pub fn file(self, path: &str, host_path: impl Into<PathBuf>, mode: u32) -> Self {
        self.entry(
            path,
            Entry::HostFile {
                mode,
                path: host_path.into(),
            },
        )
    }

    /// A symbolic link.
    #[must_use]
    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(
            path,
            Entry::Symlink {
                target: target.to_owned(),
            },
        )
    }

    /// A copy of a whole folder of this machine: modes become 0755 or 0644 by the
    /// owner's execute bit, symbolic links are kept.
    ///
    /// # Errors
    /// When the folder cannot be walked, or holds something else or a name that is not UTF-8.
    pub fn tree(mut self, path: &str, host_path: &Path) -> Result<Self, ImageError> {
        use std::os::unix::fs::PermissionsExt as _;
        let failed = |path: &Path, source: io::Error| ImageError::Read {
            path: path.to_owned(),
            source,
        };
        for found in walkdir::WalkDir::new(host_path).min_depth(1) {
            let found = found.map_err(|e| failed(host_path, e.into()))?;
            let relative = found.path().strip_prefix(host_path).unwrap_or(found.path());
            let relative = relative.to_str().ok_or_else(|| ImageError::Path {
                path: relative.to_string_lossy().into_owned(),
            })?;
            let inside = format!("{}/{relative}", path.trim_end_matches('/'));
            let metadata = found
                .metadata()
                .map_err(|e| failed(found.path(), e.into()))?;
            let mode = if metadata.permissions().mode() & 0o100 == 0 {
                0o644
            } else {
                0o755
            };
            self = if metadata.is_dir() {
                self.directory(&inside, 0o755)
            } else if metadata.is_symlink() {
                let target =
                    std::fs::read_link(found.path()).map_err(|e| failed(found.path(), e))?;
                self.symlink(&inside, &target.to_string_lossy())
            } else if metadata.is_file() {
                self.file(&inside, found.path(), mode)
            } else {
                return Err(ImageError::Path { path: inside });
            };
        }
        Ok(self)
    }

    /// Reads every file and writes the layer.
    ///
    /// # Errors
    /// When a path is not one inside an image or a file cannot be read.
    pub fn build(self) -> Result<Layer, ImageError> {
        let mut entries = BTreeMap::new();
        for (path, entry) in self.entries {
            let path = checked(&path)?;
            for (at, _) in path.match_indices('/') {
                entries
                    .entry(path[..at].to_owned())
                    .or_insert(Entry::Directory { mode: 0o755 });
            }
            entries.insert(path, entry);
        }
        let mut archive = tar::Builder::new(Hashing::new(Vec::new()));
        for (path, entry) in &entries {
            append(&mut archive, path, entry)?;
        }
        let (archive, diff_id, _) = archive.into_inner().map_err(ImageError::Archive)?.finish();
        Ok(Layer::of_archive(archive, diff_id, self.compression))
    }

    fn entry(mut self, path: &str, entry: Entry) -> Self {
        self.entries.insert(path.to_owned(), entry);
        self
    }
}

/// A path as an archive has it: no slash at either end, no `.` or `..`.
fn checked(path: &str) -> Result<String, ImageError> {
    let trimmed = path.trim_matches('/');
    let sound = trimmed
        .split('/')
        .all(|part| !matches!(part, "" | "." | ".."))
        && !trimmed.contains('\0');
    if sound {
        Ok(trimmed.to_owned())
    } else {
        Err(ImageError::Path {
            path: path.to_owned(),
        })
    }
}

fn append(
    archive: &mut tar::Builder<Hashing<Vec<u8>>>,
    path: &str,
    entry: &Entry,
) -> Result<(), ImageError> {
    match entry {
        Entry::Directory { mode } => {
            let mut header = header(tar::EntryType::Directory, *mode, 0);
            archive.append_data(&mut header, format!("{path}/"), io::empty())
        }
        Entry::Symlink { target } => {
            let mut header = header(tar::EntryType::Symlink, 0o777, 0);
            archive.append_link(&mut header, path, target)
        }
        Entry::Bytes { mode, content } => append_file(archive, path, *mode, content),
        Entry::HostFile {
            mode,
            path: host_path,
        } => {
            let content = std::fs::read(host_path).map_err(|source| ImageError::Read {
                path: host_path.clone(),
                source,
            })?;
            append_file(archive, path, *mode, &content)
        }
    }
    .map_err(ImageError::Archive)
}

fn append_file(
    archive: &mut tar::Builder<Hashing<Vec<u8>>>,
    path: &str,
    mode: u32,
    content: &[u8],
) -> io::Result<()> {
    let mut header = header(tar::EntryType::Regular, mode, content.len() as u64);
    archive.append_data(&mut header, path, content)
}

/// A header that says nothing of the machine it was written on.
fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header
}

/// A blob as a manifest names it.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the blob is.
    pub media_type: String,
    /// Digest of its bytes.
    pub digest: Digest,
    /// Number of its bytes.
    pub size: u64,
}

impl Descriptor {
    /// Describes bytes.
    #[must_use]
    pub fn of(media_type: &str, content: &[u8]) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest: Digest::of(content),
            size: content.len() as u64,
        }
    }
}

/// An OCI manifest: of an image, or of an artifact with an `artifactType`.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// Always [`MANIFEST_MEDIA_TYPE`].
    pub media_type: String,
    /// What an artifact that is no image is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The config blob.
    pub config: Descriptor,
    /// The layers, lowest first.
    pub layers: Vec<Descriptor>,
    /// What a referrer speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Facts that can be read without pulling a layer.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Manifest {
    /// Size of the stored layers in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.layers.iter().map(|layer| layer.size).sum()
    }
}

/// An image config, as far as this project reads and writes one.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct Config {
    /// CPU in OCI's words.
    pub architecture: String,
    /// Operating system.
    pub os: String,
    /// How a container of the image runs.
    #[serde(default)]
    pub config: ContainerConfig,
    /// The layers, before compression.
    pub rootfs: RootFs,
}

/// How a container of an image runs.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerConfig {
    /// User, as a number.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// Environment, each `NAME=value`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// The program and its first arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// Arguments that a pod may replace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    /// Folder the program starts in.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// The layers of an image, before compression.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Digests of the archives.
    pub diff_ids: Vec<Digest>,
}

/// An image, whole and in memory.
#[derive(Clone, Debug)]
pub struct Image {
    manifest: Bytes,
    config: Bytes,
    layers: Vec<Layer>,
}

impl Image {
    /// The digest that names the image.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.manifest)
    }

    /// The image as an index or a referrer names it.
    #[must_use]
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::of(MANIFEST_MEDIA_TYPE, &self.manifest)
    }

    /// Bytes of the manifest.
    #[must_use]
    pub fn manifest(&self) -> &Bytes {
        &self.manifest
    }

    /// Bytes of the config.
    #[must_use]
    pub fn config(&self) -> &Bytes {
        &self.config
    }

    /// The layers, lowest first.
    #[must_use]
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// Size of the stored layers in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.layers
            .iter()
            .map(|layer| layer.content.len() as u64)
            .sum()
    }

    /// Every blob the manifest names.
    pub fn blobs(&self) -> impl Iterator<Item = (Digest, Bytes)> + '_ {
        let layers = self
            .layers
            .iter()
            .map(|layer| (layer.digest.clone(), layer.content.clone()));
        layers.chain(std::iter::once((
            Digest::of(&self.config),
            self.config.clone(),
        )))
    }
}

/// Puts layers, config and annotations together. Equal inputs give equal bytes.
#[derive(Clone, Debug)]
pub struct ImageBuilder {
    architecture: String,
    layers: Vec<Layer>,
    container: ContainerConfig,
    annotations: BTreeMap<String, String>,
}

impl Default for ImageBuilder {
    fn default() -> Self {
        Self {
            architecture: "amd64".into(),
            layers: Vec::new(),
            container: ContainerConfig::default(),
            annotations: BTreeMap::new(),
        }
    }
}

impl ImageBuilder {
    /// An image for linux/amd64 without layers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The CPU that the image says it is for, in OCI's words.
    #[must_use]
    pub fn architecture(mut self, architecture: &str) -> Self {
        architecture.clone_into(&mut self.architecture);
        self
    }

    /// Adds a layer above the others.
    #[must_use]
    pub fn layer(mut self, layer: Layer) -> Self {
        self.layers.push(layer);
        self
    }

    /// The user a container runs as.
    #[must_use]
    pub fn user(mut self, user: &str) -> Self {
        user.clone_into(&mut self.container.user);
        self
    }

    /// The program of the image.
    #[must_use]
    pub fn entrypoint<I: IntoIterator<Item: Into<String>>>(mut self, arguments: I) -> Self {
        self.container.entrypoint = arguments.into_iter().map(Into::into).collect();
        self
    }

    /// One variable of the environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.container.env.push(format!("{name}={value}"));
        self
    }

    /// The folder a container starts in.
    #[must_use]
    pub fn working_dir(mut self, path: &str) -> Self {
        path.clone_into(&mut self.container.working_dir);
        self
    }

    /// One annotation of the manifest.
    #[must_use]
    pub fn annotation(mut self, name: &str, value: impl Into<String>) -> Self {
        self.annotations.insert(name.to_owned(), value.into());
        self
    }

    /// Writes config and manifest.
    #[must_use]
    pub fn build(self) -> Image {
        let config = Config {
            architecture: self.architecture,
            os: "linux".into(),
            config: self.container,
            rootfs: RootFs {
                kind: "layers".into(),
                diff_ids: self
                    .layers
                    .iter()
                    .map(|layer| layer.diff_id.clone())
                    .collect(),
            },
        };
        let config = to_json(&config);
        let manifest = Manifest {
            schema_version: 2,
            media_type: MANIFEST_MEDIA_TYPE.into(),
            artifact_type: None,
            config: Descriptor {
                media_type: CONFIG_MEDIA_TYPE.into(),
                digest: Digest::of(&config),
                size: config.len() as u64,
            },
            layers: self.layers.iter().map(Layer::descriptor).collect(),
            subject: None,
            annotations: self.annotations,
        };
        Image {
            manifest: to_json(&manifest),
            config,
            layers: self.layers,
        }
    }
}

pub(crate) fn to_json<T: Serialize>(value: &T) -> Bytes {
    serde_json::to_vec(value)
        .expect("structs of strings and numbers are always JSON")
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Image {
        let layer = LayerBuilder::new()
            .bytes("/usr/local/bin/tool", &b"#!"[..], 0o755)
            .bytes("etc/passwd", &b"root"[..], 0o644)
            .symlink("lib64", "usr/lib64")
            .bytes(&format!("long/{}", "x".repeat(300)), &b"1"[..], 0o644)
            .build()
            .unwrap();
        ImageBuilder::new()
            .layer(layer)
            .user("65532")
            .entrypoint(["/usr/local/bin/tool"])
            .build()
    }

    #[test]
    fn image_bytes_are_pinned() {
        let first = sample();
        assert_eq!(first.digest(), sample().digest());
        // Changes only with the layout of archives or the compressor, which is a change of `PACKER`.
        assert_eq!(
            first.digest().as_str(),
            "sha256:d919cc19cf0f6a3ad93880435042e1e07b58c6f56e95936012b725cf664a649b"
        );
    }

    #[test]
    fn parents_come_before_children_and_nothing_else_is_added() {
        let layer = LayerBuilder::new()
            .compression(Compression::None)
            .bytes("a/b/c", &b""[..], 0o644)
            .build()
            .unwrap();
        let mut archive = tar::Archive::new(&layer.content()[..]);
        let paths: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|e| e.unwrap().path().unwrap().to_str().unwrap().to_owned())
            .collect();
        assert_eq!(paths, ["a/", "a/b/", "a/b/c"]);
    }

    #[test]
    fn paths_that_leave_the_image_are_refused() {
        for path in ["../x", "a/../b", "a//b", "", "/"] {
            assert!(
                LayerBuilder::new()
                    .bytes(path, &b""[..], 0o644)
                    .build()
                    .is_err(),
                "{path}"
            );
        }
    }
}
