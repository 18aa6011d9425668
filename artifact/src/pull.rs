//! Pulls an artifact by digest into a folder, checking every byte on the way.
//!
//! The chain: digest of the OCI manifest, digests of config and layers in it, digests
//! of the archives in the config, and the marker over what came out. Of an index the image
//! of one platform is taken, whose manifest is named there by its digest. Archives are
//! walked by hand: only folders and regular files with sound names are ever created.
//!
//! The folder may be a mount point, so it is filled from a folder inside it by renames,
//! the facts last: where they are, everything is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use paperclip_artifact_format::marker;
use paperclip_artifact_format::names::{self, FACTS};
use paperclip_artifact_format::platform::{Platform, Platforms};
use paperclip_oci::client::{StoreClient, StoreError};
use paperclip_oci::digest::{Digest, Hashing};
use paperclip_oci::image::{CONFIG_MEDIA_TYPE, Config, Descriptor, GZIP_MEDIA_TYPE, Manifest};
use paperclip_oci::index::Top;
use serde_json::Value;

use crate::limits;
use crate::tree::{self, Entry, Kind, LIMITS, Limits, TreeError};

/// An artifact has exactly this many layers: facts, tree.
const LAYERS: usize = 2;
/// Bounds of the facts layer: manifest and lock of one plugin.
const FACTS_LIMITS: Limits = Limits {
    bytes: limits::FACTS,
    entries: 16,
    path: 100,
};
/// Work in progress inside the destination.
const STAGING: &str = ".incomplete";

/// Why an artifact was not delivered.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The store did not give what it was asked for.
    #[error("cannot pull artifact {digest}")]
    Store {
        /// The artifact.
        digest: Digest,
        /// The cause.
        #[source]
        source: Box<StoreError>,
    },
    /// The artifact is no plugin artifact, or is hostile.
    #[error("artifact {digest} is refused: {why}")]
    Refused {
        /// The artifact.
        digest: Digest,
        /// The rule that is broken.
        why: String,
    },
    /// The file system said no.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Unpacking was interrupted.
    #[error("unpacking was interrupted")]
    Interrupted,
}

/// Delivers an artifact, as it is for a platform, into a folder that exists. A folder that
/// already holds it, byte for byte, is left alone; anything else in it is removed first.
///
/// # Errors
/// When the store fails, the artifact is not for the platform, any byte differs from what
/// digest and marker promise, or the folder cannot be written. The folder then holds no facts,
/// so it passes for unfinished.
pub async fn fetch(
    store: &StoreClient,
    repository: &str,
    digest: &Digest,
    marker: &str,
    destination: &Path,
    platform: &Platform,
) -> Result<(), PullError> {
    let marker = marker::of_platform(marker, platform).ok_or_else(|| PullError::Refused {
        digest: digest.clone(),
        why: format!("its marker {marker} is of no tree for {platform}"),
    })?;
    let (wanted, folder) = (marker.to_owned(), destination.to_owned());
    if blocking(move || is_delivered(&folder, &wanted)).await? {
        tracing::info!(%digest, "artifact is there already");
        return Ok(());
    }
    let staging = destination.join(STAGING);
    let blobs = staging.join("blobs");
    let root = staging.join("root");
    let (folder, fresh) = (destination.to_owned(), [blobs.clone(), root.clone()]);
    blocking(move || prepare(&folder, &fresh)).await??;

    let failed = |source| PullError::Store {
        digest: digest.clone(),
        source: Box::new(source),
    };
    let (manifest, config) = describe(store, repository, digest, Some(platform)).await?;
    let mut layers = Vec::new();
    for (number, (layer, diff_id)) in manifest
        .layers
        .iter()
        .zip(&config.rootfs.diff_ids)
        .enumerate()
    {
        let path = blobs.join(number.to_string());
        store
            .blob_to_file(repository, layer, limits::LAYER, &path)
            .await
            .map_err(failed)?;
        layers.push((path, diff_id.clone()));
    }
    let unpacking = Unpacking {
        digest: digest.clone(),
        marker: marker.to_owned(),
        root,
    };
    let folder = destination.to_owned();
    blocking(move || {
        unpacking.run(&layers)?;
        settle(&unpacking.root, &folder)
    })
    .await??;
    tracing::info!(%digest, "artifact delivered and verified");
    Ok(())
}

/// Reads the plugin manifest of an artifact: of its layers only the small first one is pulled.
///
/// # Errors
/// When the store fails or any byte differs from what the digest promises.
pub async fn read_plugin_manifest(
    store: &StoreClient,
    repository: &str,
    digest: &Digest,
) -> Result<Value, PullError> {
    let fact = (
        names::PLUGIN_MANIFEST,
        "plugin manifest",
        limits::PLUGIN_MANIFEST,
    );
    let bytes = read_fact(store, repository, digest, fact).await?;
    serde_json::from_slice(&bytes).map_err(|e| PullError::Refused {
        digest: digest.clone(),
        why: format!("its plugin manifest is no JSON: {e}"),
    })
}

/// Reads the lock of an artifact, as [`read_plugin_manifest`] does the manifest.
///
/// # Errors
/// When the store fails or any byte differs from what the digest promises.
pub async fn read_lock(
    store: &StoreClient,
    repository: &str,
    digest: &Digest,
) -> Result<Vec<u8>, PullError> {
    read_fact(
        store,
        repository,
        digest,
        (names::LOCK, "lock", limits::LOCK),
    )
    .await
}

/// A file of the first layer: its path, what a person calls it, and how large it may be.
async fn read_fact(
    store: &StoreClient,
    repository: &str,
    digest: &Digest,
    (wanted, name, limit): (&'static str, &'static str, u64),
) -> Result<Vec<u8>, PullError> {
    let refused = |why: &str| PullError::Refused {
        digest: digest.clone(),
        why: why.to_owned(),
    };
    // Every image of an index has these files alike.
    let (manifest, config) = describe(store, repository, digest, None).await?;
    let blob = store
        .blob(repository, &manifest.layers[0], FACTS_LIMITS.bytes)
        .await
        .map_err(|source| PullError::Store {
            digest: digest.clone(),
            source: Box::new(source),
        })?;
    let digest_ = digest.clone();
    let diff_id = config.rootfs.diff_ids[0].clone();
    let found = blocking(move || {
        let mut found = None;
        let refused = |why| PullError::Refused {
            digest: digest_.clone(),
            why,
        };
        walk(&blob[..], &diff_id, FACTS_LIMITS, |path, kind, content| {
            if names::of_fact(path) == Some(wanted) && matches!(kind, RawKind::File { .. }) {
                let mut bytes = Vec::new();
                content
                    .take(limit + 1)
                    .read_to_end(&mut bytes)
                    .map_err(|e| e.to_string())?;
                found = Some(bytes);
            }
            Ok(())
        })
        .map_err(refused)?;
        Ok::<_, PullError>(found)
    })
    .await??;
    let bytes = found.ok_or_else(|| refused(&format!("it holds no {name}")))?;
    if bytes.len() as u64 > limit {
        return Err(refused(&format!("its {name} is too large")));
    }
    Ok(bytes)
}

/// Whether a folder holds, byte for byte, the tree that the marker stands for.
#[must_use]
pub fn is_delivered(folder: &Path, marker: &str) -> bool {
    let stated = fs::read_to_string(folder.join(FACTS).join(names::MARKER));
    stated.is_ok_and(|stated| stated.trim_end() == marker)
        && !folder.join(STAGING).exists()
        && tree::list(folder, LIMITS).is_ok_and(|entries| tree::marker(&entries) == marker)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, PullError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| PullError::Interrupted)
}

/// Pulls manifest and config, and checks that they are those of a plugin artifact. Of an index
/// those of the image for a platform, or of any.
async fn describe(
    store: &StoreClient,
    repository: &str,
    digest: &Digest,
    platform: Option<&Platform>,
) -> Result<(Manifest, Config), PullError> {
    let failed = |source| PullError::Store {
        digest: digest.clone(),
        source: Box::new(source),
    };
    let refused = |why: &str| PullError::Refused {
        digest: digest.clone(),
        why: why.to_owned(),
    };
    let content = store.manifest_bytes(repository, digest).await;
    let manifest = match Top::parse(&content.map_err(failed)?).map_err(|why| refused(&why))? {
        Top::Image(manifest) => manifest,
        Top::Index(index) => {
            let images = index.images().map_err(|why| refused(&why))?;
            let image = choose(&images, platform).map_err(|why| refused(&why))?;
            let manifest = store.manifest(repository, &image.digest).await;
            manifest.map_err(failed)?
        }
    };
    check_shape(&manifest).map_err(refused)?;
    let config = store
        .blob(repository, &manifest.config, limits::OCI_CONFIG)
        .await
        .map_err(failed)?;
    let config: Config =
        serde_json::from_slice(&config).map_err(|e| refused(&format!("its config: {e}")))?;
    if config.rootfs.diff_ids.len() != LAYERS {
        return Err(refused("its config names another number of layers"));
    }
    Ok((manifest, config))
}

/// The image for a platform, or any.
fn choose<'a>(
    images: &BTreeMap<Platform, &'a Descriptor>,
    platform: Option<&Platform>,
) -> Result<&'a Descriptor, String> {
    let found = match platform {
        Some(platform) => images.get(platform).copied(),
        None => images.values().next().copied(),
    };
    found.ok_or_else(|| {
        let packed: Platforms = images.keys().cloned().collect();
        let wanted = platform.map(Platform::to_string).unwrap_or_default();
        format!("it is packed for {packed}, and this is a node of {wanted}")
    })
}

/// Whether a manifest is one of a plugin artifact.
pub(crate) fn check_shape(manifest: &Manifest) -> Result<(), &'static str> {
    if manifest.config.media_type != CONFIG_MEDIA_TYPE {
        return Err("it is no OCI image");
    }
    let is_gzip = |layer: &Descriptor| layer.media_type == GZIP_MEDIA_TYPE;
    if manifest.layers.len() != LAYERS || !manifest.layers.iter().all(is_gzip) {
        return Err("wanted two gzip layers");
    }
    Ok(())
}

/// The files of a facts layer, by their names below [`FACTS`].
pub(crate) fn read_facts(
    blob: &[u8],
    diff_id: &Digest,
) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let mut files = BTreeMap::new();
    walk(blob, diff_id, FACTS_LIMITS, |path, kind, content| {
        let name = names::of_fact(path);
        if let (Some(name), RawKind::File { .. }) = (name, kind) {
            let mut bytes = Vec::new();
            content.read_to_end(&mut bytes).map_err(|e| e.to_string())?;
            files.insert(name.to_owned(), bytes);
        }
        Ok(())
    })?;
    Ok(files)
}

/// Unpacks the layers of an artifact, each a file and the digest of its archive, into an
/// empty folder, and checks the marker. Gives the number of entries of the tree.
pub(crate) fn unpack(
    digest: &Digest,
    marker: &str,
    root: &Path,
    layers: &[(PathBuf, Digest)],
) -> Result<usize, PullError> {
    let unpacking = Unpacking {
        digest: digest.clone(),
        marker: marker.to_owned(),
        root: root.to_owned(),
    };
    unpacking.run(layers)
}

fn prepare(destination: &Path, fresh: &[PathBuf]) -> Result<(), PullError> {
    let failed = |path: &Path, source| PullError::Write {
        path: path.to_owned(),
        source,
    };
    tree::clear(destination).map_err(|e| failed(destination, e))?;
    fresh
        .iter()
        .try_for_each(|path| fs::create_dir_all(path).map_err(|e| failed(path, e)))
}

/// Moves what was unpacked to its place; the facts last, since they say that all is there.
fn settle(root: &Path, destination: &Path) -> Result<(), PullError> {
    let failed = |path: &Path, source| PullError::Write {
        path: path.to_owned(),
        source,
    };
    let children = fs::read_dir(root).map_err(|e| failed(root, e))?;
    let mut names = children
        .map(|child| child.map(|c| c.file_name()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| failed(root, e))?;
    names.sort_by_key(|name| name == FACTS);
    let staging = destination.join(STAGING);
    for name in names.iter().filter(|name| *name != FACTS) {
        let target = destination.join(name);
        fs::rename(root.join(name), &target).map_err(|e| failed(&target, e))?;
    }
    let facts = destination.join(format!("{FACTS}.new"));
    fs::rename(root.join(FACTS), &facts).map_err(|e| failed(&facts, e))?;
    fs::remove_dir_all(&staging).map_err(|e| failed(&staging, e))?;
    let target = destination.join(FACTS);
    fs::rename(&facts, &target).map_err(|e| failed(&target, e))
}

struct Unpacking {
    digest: Digest,
    marker: String,
    root: PathBuf,
}

impl Unpacking {
    /// Gives the number of entries of the tree.
    fn run(&self, layers: &[(PathBuf, Digest)]) -> Result<usize, PullError> {
        let refused = |why| PullError::Refused {
            digest: self.digest.clone(),
            why,
        };
        let mut entries = Vec::new();
        for (number, (path, diff_id)) in layers.iter().enumerate() {
            let blob = File::open(path).map_err(|source| PullError::Write {
                path: path.clone(),
                source,
            })?;
            let is_facts = number == 0;
            let limits = if is_facts { FACTS_LIMITS } else { LIMITS };
            walk(blob, diff_id, limits, |path, kind, content| {
                let in_facts = path == FACTS || names::of_fact(path).is_some();
                if in_facts != is_facts {
                    return Err(format!("`{path}` is in the wrong layer"));
                }
                let kind = create(&self.root, path, kind, content)?;
                if !is_facts {
                    entries.push(Entry {
                        path: path.to_owned(),
                        kind,
                    });
                }
                Ok(())
            })
            .map_err(refused)?;
        }
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        tree::refuse_case_collisions(&entries).map_err(|e| refused(e.to_string()))?;
        self.check_marker(&tree::marker(&entries))
            .map_err(refused)?;
        Ok(entries.len())
    }

    fn check_marker(&self, found: &str) -> Result<(), String> {
        let path = self.root.join(FACTS).join(names::MARKER);
        let stated = fs::read_to_string(&path).map_err(|e| format!("it has no marker: {e}"))?;
        let stated = stated.trim_end();
        if found != self.marker || stated != self.marker {
            let wanted = &self.marker;
            return Err(format!(
                "the tree's marker is {found}, the stated one {stated:.64}, wanted {wanted}"
            ));
        }
        Ok(())
    }
}

/// What an archive says an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RawKind {
    Directory,
    File { executable: bool },
}

/// Creates one entry. Every folder above it was created by an entry before, and no link
/// ever was, so the path cannot lead elsewhere.
fn create(root: &Path, path: &str, kind: RawKind, content: &mut dyn Read) -> Result<Kind, String> {
    let target = root.join(path);
    let failed = |e: io::Error| format!("`{path}`: {e}");
    match kind {
        RawKind::Directory => {
            fs::create_dir(&target).map_err(failed)?;
            fs::set_permissions(&target, fs::Permissions::from_mode(0o755)).map_err(failed)?;
            Ok(Kind::Directory)
        }
        RawKind::File { executable } => {
            let file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .custom_flags(nix::fcntl::OFlag::O_NOFOLLOW.bits())
                .open(&target)
                .map_err(failed)?;
            let mut file = Hashing::new(file);
            io::copy(content, &mut file).map_err(failed)?;
            let (file, digest, size) = file.finish();
            let mode = if executable { 0o755 } else { 0o644 };
            file.set_permissions(fs::Permissions::from_mode(mode))
                .map_err(failed)?;
            Ok(Kind::File {
                executable,
                digest,
                size,
            })
        }
    }
}

/// Walks a gzip layer, entry by entry, in the only shape this crate writes: ustar headers,
/// GNU long names, folders and regular files, parents first, nothing twice. Pax headers,
/// links, devices and everything else are refused. Checks the archive's digest at the end.
fn walk<R: Read>(
    blob: R,
    diff_id: &Digest,
    limits: Limits,
    mut visit: impl FnMut(&str, RawKind, &mut dyn Read) -> Result<(), String>,
) -> Result<(), String> {
    let bound = limits.bytes + (limits.entries as u64) * 4096;
    let plain = Hashing::new(flate2::read::GzDecoder::new(blob).take(bound));
    let mut archive = tar::Archive::new(plain);
    let mut names = Names::new(limits);
    let broken = |e: io::Error| format!("its archive is broken: {e}");
    let mut bytes = 0_u64;
    for entry in archive.entries().map_err(broken)?.raw(true) {
        let mut entry = entry.map_err(broken)?;
        let header = entry.header().clone();
        let size = header.entry_size().map_err(broken)?;
        if header.entry_type() == tar::EntryType::GNULongName {
            names.announce(&mut entry, size)?;
            continue;
        }
        let kind = match header.entry_type() {
            tar::EntryType::Directory if size == 0 => RawKind::Directory,
            tar::EntryType::Regular => RawKind::File {
                executable: header.mode().map_err(broken)? & 0o100 != 0,
            },
            other => return Err(format!("it holds an entry of type {other:?}")),
        };
        let path = names.next(&header.path_bytes(), kind)?;
        bytes = bytes.saturating_add(size);
        if bytes > limits.bytes {
            return Err(format!("it unpacks to more than {} bytes", limits.bytes));
        }
        visit(&path, kind, &mut entry)?;
    }
    let mut plain = archive.into_inner();
    io::copy(&mut plain, &mut io::sink()).map_err(broken)?;
    let (_, found, _) = plain.finish();
    if found != *diff_id {
        return Err(format!("its archive has digest {found}, wanted {diff_id}"));
    }
    Ok(())
}

/// The names an archive has used so far.
struct Names {
    limits: Limits,
    announced: Option<Vec<u8>>,
    folders: BTreeSet<String>,
    seen: BTreeSet<String>,
}

impl Names {
    fn new(limits: Limits) -> Self {
        Self {
            limits,
            announced: None,
            folders: BTreeSet::new(),
            seen: BTreeSet::new(),
        }
    }

    /// Takes a GNU long name, which is the name of the next entry.
    fn announce(&mut self, content: &mut dyn Read, size: u64) -> Result<(), String> {
        if self.announced.is_some() || size > self.limits.path as u64 + 2 {
            return Err("it holds a long name that is too long or twice".into());
        }
        let mut name = Vec::new();
        content
            .take(size)
            .read_to_end(&mut name)
            .map_err(|e| e.to_string())?;
        while name.last() == Some(&0) {
            name.pop();
        }
        self.announced = Some(name);
        Ok(())
    }

    /// The checked path of the next entry.
    fn next(&mut self, short: &[u8], kind: RawKind) -> Result<String, String> {
        let raw = self.announced.take().unwrap_or_else(|| short.to_vec());
        let raw = String::from_utf8(raw).map_err(|_| "it holds a name that is not UTF-8")?;
        let path = match kind {
            RawKind::Directory => raw.strip_suffix('/').unwrap_or(&raw),
            RawKind::File { .. } => &raw,
        };
        tree::check_path(path).map_err(|e: TreeError| e.to_string())?;
        if path.len() > self.limits.path || self.seen.len() >= self.limits.entries {
            return Err("it holds too many entries or too long a name".into());
        }
        let parent = path.rsplit_once('/').map(|(parent, _)| parent);
        if parent.is_some_and(|parent| !self.folders.contains(parent)) {
            return Err(format!(
                "`{}` comes before its folder",
                path.escape_default()
            ));
        }
        if !self.seen.insert(path.to_owned()) {
            return Err(format!("`{}` is there twice", path.escape_default()));
        }
        if kind == RawKind::Directory {
            self.folders.insert(path.to_owned());
        }
        Ok(path.to_owned())
    }
}
