//! npm itself resolves and installs: pinned, without scripts, in an environment of its own.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use paperclip_artifact::lock::{self, Lock, MissingPeer};
use paperclip_artifact::{bounded, limits};
use paperclip_artifact_format::platform::Platform;

use crate::npm::error::{BAD_PLATFORM, InstallError, work_error};
use crate::npm::gateway::Gateways;
use crate::npm::registry::RegistryClient;
use crate::npm::toolchain::Toolchain;
use crate::npm::{lookup, tarballs};

/// npm's home in the work folder, and its cache in there.
const HOME: &str = "npm";

pub(super) const CACHE: &str = "cache";

pub(super) const NPMRC: &str = "npmrc";

pub(super) const GLOBAL_NPMRC: &str = "empty-global-npmrc";

/// How often the tree is resolved again because of peers it lacks.
const PEER_ROUNDS: usize = 8;

/// Peers are chosen by this module, so that a user interface's stay out.
const PEERS_ARE_OURS: &str = "--legacy-peer-deps";

/// Peers are as npm put them into a lock that somebody gave.
const PEERS_ARE_NPMS: &str = "--no-legacy-peer-deps";

/// Origins in the lock are spelled by this crate, each with the gateway of its scope.
const ORIGINS_ARE_OURS: &str = "--replace-registry-host=never";

/// npm compares packages that must be there with the machine it runs on, whatever it is told to
/// install for. It is told to let that be where this module compares them, see
/// [`Lock::misfit`]; peers, the other thing it then lets be, are chosen by this module or given.
const FOR_ANY_PLATFORM: &str = "--force";

/// npm over one work folder, which holds its home, cache and the root it installs into. Its
/// registry is a gateway of this process, see [`crate::npm::gateway`].
#[derive(Debug)]
pub struct Npm<'a> {
    pub(super) toolchain: &'a Toolchain,
    pub(super) gateways: Arc<Gateways>,
    pub(super) platform: &'a Platform,
    pub(super) home: PathBuf,
    pub(super) root: PathBuf,
}

impl<'a> Npm<'a> {
    /// Prepares an empty root; whatever was there before is removed.
    ///
    /// # Errors
    /// When the work folder cannot be written, or no gateway can listen.
    pub async fn new(
        toolchain: &'a Toolchain,
        registry: RegistryClient,
        platform: &'a Platform,
        work: &Path,
        root: &Path,
    ) -> Result<Self, InstallError> {
        let home = work.join(HOME);
        for folder in [&home, root] {
            clear(folder)?;
        }
        let opened = Gateways::open(registry).await;
        let gateways = opened.map_err(|e| work_error("open a gateway", &home, e))?;
        for (name, text) in [(NPMRC, gateways.npmrc()), (GLOBAL_NPMRC, String::new())] {
            let path = home.join(name);
            fs::write(&path, text).map_err(|e| work_error("write", &path, e))?;
        }
        Ok(Self {
            toolchain,
            gateways: Arc::new(gateways),
            platform,
            home,
            root: root.to_owned(),
        })
    }

    /// The same npm, which installs for another platform into another root.
    ///
    /// # Errors
    /// When the root cannot be made empty.
    pub fn for_platform(&self, platform: &'a Platform, root: &Path) -> Result<Self, InstallError> {
        clear(root)?;
        Ok(Self {
            toolchain: self.toolchain,
            gateways: Arc::clone(&self.gateways),
            platform,
            home: self.home.clone(),
            root: root.to_owned(),
        })
    }

    /// Resolves a new lock, with the peers a worker needs. Those that are known beforehand
    /// spare npm a round.
    ///
    /// # Errors
    /// When npm finds no tree, or one with an entry that is refused.
    pub async fn resolve(
        &self,
        package: &str,
        version: &str,
        peers: Vec<MissingPeer>,
    ) -> Result<Lock, InstallError> {
        let mut dependencies = BTreeMap::from([(package.to_owned(), version.to_owned())]);
        let action = format!("resolve the dependencies of {package}@{version}");
        let mut missing = peers;
        for _ in 0..PEER_ROUNDS {
            for peer in missing {
                let wanted = lookup::choose_peer(self.gateways.client(), &peer).await?;
                dependencies.insert(peer.name, wanted);
            }
            self.write("package.json", &lock::package_json(&dependencies))?;
            let arguments = ["install", "--package-lock-only", PEERS_ARE_OURS];
            match self.run(&action, &arguments).await {
                Err(InstallError::Refused { message, .. }) if message.starts_with(BAD_PLATFORM) => {
                    let anyway = [&arguments[..], &[FOR_ANY_PLATFORM]].concat();
                    self.run(&action, &anyway).await?
                }
                resolved => resolved?,
            };
            let path = self.root.join("package-lock.json");
            let text =
                bounded::read(&path, limits::LOCK).map_err(|e| work_error("read", &path, e))?;
            let lock = Lock::parse(&text, package, version)?;
            missing = lock.missing_peers();
            if missing.is_empty() {
                return Ok(lock);
            }
        }
        Err(InstallError::Refused {
            action,
            message: "its peers need ever more peers".into(),
        })
    }

    /// The cache folder of npm in this work folder.
    #[must_use]
    pub fn cache(work: &Path) -> PathBuf {
        work.join(HOME).join(CACHE)
    }

    /// Installs exactly the lock, without scripts, development dependencies and network, and
    /// checks that the tree is what the lock says. The tarballs are in npm's cache already,
    /// see [`tarballs::bring`].
    ///
    /// # Errors
    /// When the tree is not what the lock says, or a package that must be there is for other
    /// platforms.
    pub async fn install(&self, lock: &Lock) -> Result<(), InstallError> {
        if let Some(package) = lock.misfit(self.platform) {
            return Err(InstallError::Platform {
                package: package.to_owned(),
                platform: self.platform.clone(),
            });
        }
        self.write("package.json", &lock.package_json())?;
        let spelled = tarballs::with_origins(lock, |name| self.gateways.url_of(name));
        self.write("package-lock.json", &spelled)?;
        let peers = if lock.has_peers_of_npm() {
            PEERS_ARE_NPMS
        } else {
            PEERS_ARE_OURS
        };
        let mut arguments = vec!["ci", "--offline", ORIGINS_ARE_OURS, peers];
        let here = Platform::here().unwrap_or_default();
        if lock.misfit(&here).is_some() {
            arguments.push(FOR_ANY_PLATFORM);
        }
        self.run("install the package from its lock", &arguments)
            .await?;
        Ok(paperclip_artifact::installed::compare(&self.root, lock)?)
    }

    fn write(&self, name: &str, content: &[u8]) -> Result<(), InstallError> {
        let path = self.root.join(name);
        fs::write(&path, content).map_err(|e| work_error("write", &path, e))
    }
}

/// Makes a folder that is empty.
fn clear(folder: &Path) -> Result<(), InstallError> {
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(|e| work_error("clear", folder, e))?;
    }
    fs::create_dir_all(folder).map_err(|e| work_error("create", folder, e))
}
