//! The pinned Node and npm: where they are, and how to bring them outside the packer image.

use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use paperclip_artifact::toolchain::{
    NODE_INTEGRITY, NODE_PACKAGE, NODE_VERSION, NPM_INTEGRITY, NPM_VERSION,
};
use paperclip_artifact::{integrity, limits};
use paperclip_error_chain::chain;
use sha2::{Digest as _, Sha512};

use crate::npm::registry::{Registry, RegistryClient};

/// Where the packer image has its toolchain.
pub const IMAGE_FOLDER: &str = "/opt/node";

/// A Node and an npm of the pinned versions.
///
/// Both live under one folder: `bin/node` and `lib/node_modules/npm`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toolchain {
    folder: PathBuf,
}

impl Toolchain {
    /// The toolchain under a folder, as in the packer image under [`IMAGE_FOLDER`].
    #[must_use]
    pub fn at(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    /// Folder of both.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Node's program.
    #[must_use]
    pub fn node(&self) -> PathBuf {
        self.folder.join("bin/node")
    }

    /// npm's entry file, to be run by Node.
    #[must_use]
    pub fn npm(&self) -> PathBuf {
        self.folder.join("lib/node_modules/npm/bin/npm-cli.js")
    }
}

/// Why the toolchain could not be brought.
#[derive(Debug, thiserror::Error)]
pub enum ToolchainError {
    /// The registry did not serve a tarball.
    #[error("cannot fetch {package} from the registry: {why}")]
    Fetch {
        /// Package and version.
        package: String,
        /// The cause.
        why: String,
    },
    /// The tarball is not the pinned one.
    #[error("{package} from the registry has another sha512 than the pinned one")]
    Mismatch {
        /// Package and version.
        package: String,
    },
    /// The folder could not be written.
    #[error("cannot write the toolchain at {}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

impl Toolchain {
    /// Brings the pinned Node and npm from a registry into a cache folder, checked against
    /// the hashes that this release pins. What was brought before is used again.
    ///
    /// # Errors
    /// When the registry does not serve the pinned bytes or the folder cannot be written.
    pub async fn provision(cache: &Path, registry: &Registry) -> Result<Self, ToolchainError> {
        let folder = cache.join(format!("node-{NODE_VERSION}-npm-{NPM_VERSION}"));
        if folder.exists() {
            return Ok(Self { folder });
        }
        let failed = |path: &Path, source| ToolchainError::Write {
            path: path.to_owned(),
            source,
        };
        fs::create_dir_all(cache).map_err(|e| failed(cache, e))?;
        let staging = tempfile::Builder::new()
            .prefix(".toolchain-")
            .tempdir_in(cache)
            .map_err(|e| failed(cache, e))?;
        let root = staging.path().join("root");
        let node = download(registry, NODE_PACKAGE, NODE_VERSION, NODE_INTEGRITY).await?;
        let npm = download(registry, "npm", NPM_VERSION, NPM_INTEGRITY).await?;
        let target = root.clone();
        let unpacked = tokio::task::spawn_blocking(move || {
            unpack(&node, &target, |path| path == Path::new("bin/node"))?;
            unpack(&npm, &target.join("lib/node_modules/npm"), |_| true)
        });
        unpacked
            .await
            .map_err(|e| failed(&root, io::Error::other(e)))?
            .map_err(|e| failed(&root, e))?;
        match fs::rename(&root, &folder) {
            // Another process brought the same bytes first.
            Err(_) if folder.exists() => {}
            result => result.map_err(|e| failed(&folder, e))?,
        }
        Ok(Self { folder })
    }
}

async fn download(
    registry: &Registry,
    name: &str,
    version: &str,
    integrity: &str,
) -> Result<Vec<u8>, ToolchainError> {
    let package = format!("{name}@{version}");
    let failed = |why: String| ToolchainError::Fetch {
        package: package.clone(),
        why,
    };
    let client = RegistryClient::new(registry).map_err(|e| failed(chain(&e)))?;
    let mut url = client.base_of(name).clone();
    url.set_path(&format!("{}{name}/-/{name}-{version}.tgz", url.path()));
    let content = client
        .download(&url, limits::TARBALL, || Ok(Vec::new()))
        .await
        .map_err(|e| failed(chain(&e)))?;
    if integrity::sha512(integrity) != Some(Sha512::digest(&content).into()) {
        return Err(ToolchainError::Mismatch { package });
    }
    Ok(content)
}

/// Unpacks regular files of an npm tarball whose bytes were checked against a pin.
fn unpack(tarball: &[u8], target: &Path, wanted: impl Fn(&Path) -> bool) -> io::Result<()> {
    let plain = flate2::read::GzDecoder::new(tarball).take(limits::STREAM);
    for entry in tar::Archive::new(plain).entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let Ok(path) = path.strip_prefix("package") else {
            continue;
        };
        if entry.header().entry_type() != tar::EntryType::Regular || !wanted(path) {
            continue;
        }
        if !path
            .components()
            .all(|part| matches!(part, std::path::Component::Normal(_)))
        {
            return Err(io::Error::other(format!(
                "{} leaves the folder",
                path.display()
            )));
        }
        let file = target.join(path);
        fs::create_dir_all(file.parent().unwrap_or(target))?;
        io::copy(&mut entry, &mut fs::File::create(&file)?)?;
        let mode = if entry.header().mode()? & 0o100 == 0 {
            0o644
        } else {
            0o755
        };
        fs::set_permissions(&file, fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}
