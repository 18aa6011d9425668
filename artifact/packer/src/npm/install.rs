//! npm itself resolves and installs: pinned, without scripts, in an environment of its own.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use paperclip_artifact::installed::InstalledError;
use paperclip_artifact::lock::{self, Lock, LockError, MissingPeer};
use paperclip_artifact::{bounded, limits};
use paperclip_artifact_format::platform::Platform;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;

use crate::npm::gateway::Gateways;
use crate::npm::registry::{FetchError, RegistryClient};
use crate::npm::toolchain::Toolchain;
use crate::npm::{lookup, tarballs};

/// npm's home in the work folder, and its cache in there.
const HOME: &str = "npm";
const CACHE: &str = "cache";
const NPMRC: &str = "npmrc";
const GLOBAL_NPMRC: &str = "empty-global-npmrc";

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

/// One run of npm.
const DEADLINE: Duration = Duration::from_secs(300);

/// Why npm did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The package is not there.
    #[error("{package} is not in the registry: {message}")]
    PackageNotFound {
        /// Package and version.
        package: String,
        /// What the registry, or npm, said.
        message: String,
    },
    /// The package is there, and the version is not.
    #[error("{package} is not in the registry, which has other versions: {message}")]
    VersionNotFound {
        /// Package and version.
        package: String,
        /// What the registry, or npm, said.
        message: String,
    },
    /// The registry did not serve us.
    #[error("cannot {action}: the registry is not available: {message}")]
    Registry {
        /// What was asked for.
        action: String,
        /// What npm said.
        message: String,
    },
    /// The registry does not let us in.
    #[error("cannot {action}: the registry denies access: {message}")]
    AccessDenied {
        /// What was asked for.
        action: String,
        /// What npm said.
        message: String,
    },
    /// The package is at fault.
    #[error("cannot {action}: {message}")]
    Refused {
        /// What was asked for.
        action: String,
        /// What npm, or this module, said.
        message: String,
    },
    /// A package that must be there is for other platforms.
    #[error("{package} is not for {platform}, and it is no optional dependency")]
    Platform {
        /// Path of the package in the lock.
        package: String,
        /// The platform.
        platform: Platform,
    },
    /// The lock is at fault.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The tree is not what the lock says.
    #[error(transparent)]
    Installed(#[from] InstalledError),
    /// The registry did not answer npm's questions, or not as it may.
    #[error("cannot {action}")]
    Fetch {
        /// What was asked for.
        action: String,
        /// What went wrong.
        source: FetchError,
    },
    /// npm failed in a way that tells nothing about the package.
    #[error("cannot {action}: npm failed: {message}")]
    Npm {
        /// What was asked for.
        action: String,
        /// What npm said.
        message: String,
    },
    /// The work folder or npm itself could not be used.
    #[error("cannot {action} in {}", path.display())]
    Work {
        /// What was tried.
        action: String,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// npm over one work folder, which holds its home, cache and the root it installs into. Its
/// registry is a gateway of this process, see [`crate::npm::gateway`].
#[derive(Debug)]
pub struct Npm<'a> {
    toolchain: &'a Toolchain,
    gateways: Arc<Gateways>,
    platform: &'a Platform,
    home: PathBuf,
    root: PathBuf,
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

    pub(crate) async fn run(
        &self,
        action: &str,
        arguments: &[&str],
    ) -> Result<Vec<u8>, InstallError> {
        let started = |source| InstallError::Work {
            action: format!("start npm to {action}"),
            path: self.toolchain.node(),
            source,
        };
        // What npm got over by trying again is no part of this run.
        drop(self.gateways.take_fault());
        let mut child = self.command(arguments).spawn().map_err(started)?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let finished = tokio::time::timeout(DEADLINE, async {
            let (stdout, stderr) = tokio::join!(read_bounded(stdout), read_bounded(stderr));
            Ok::<_, io::Error>((child.wait().await?, stdout?, stderr?))
        });
        let npm_failed = |message: String| InstallError::Npm {
            action: action.to_owned(),
            message,
        };
        let (status, stdout, stderr) = finished
            .await
            .map_err(|_| npm_failed(format!("no end after {} s", DEADLINE.as_secs())))?
            .map_err(|e| npm_failed(e.to_string()))?;
        if status.success() {
            Ok(stdout)
        } else {
            Err(self.failed(action, &stdout, &stderr))
        }
    }

    /// Why npm failed: what the gateway saw, else what npm says.
    fn failed(&self, action: &str, stdout: &[u8], stderr: &[u8]) -> InstallError {
        let action = action.to_owned();
        match self.gateways.take_fault() {
            Some(source) => InstallError::Fetch { action, source },
            None => {
                let stderr = self.gateways.outside(&String::from_utf8_lossy(stderr));
                classify(&action, stdout, stderr.as_bytes())
            }
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.toolchain.node());
        command
            .arg(self.toolchain.npm())
            .args(arguments)
            .args(self.options())
            .current_dir(&self.root)
            .env_clear()
            .env("PATH", self.toolchain.folder().join("bin"))
            .env("HOME", &self.home)
            .env("TMPDIR", &self.home)
            .env("LANG", "C.UTF-8")
            .env("TZ", "UTC")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    fn options(&self) -> Vec<OsString> {
        let Platform { os, cpu, libc } = self.platform;
        let fixed = [
            "--ignore-scripts",
            "--omit=dev",
            "--omit-lockfile-registry-resolved",
            "--no-bin-links",
            "--install-links=false",
            "--no-audit",
            "--no-fund",
            "--no-update-notifier",
            "--no-progress",
            "--no-color",
            "--loglevel=error",
            "--logs-max=0",
            "--umask=0022",
            "--allow-git=none",
            "--allow-remote=none",
            "--allow-file=none",
            "--allow-directory=none",
            "--fetch-retries=3",
            "--fetch-retry-mintimeout=500",
            "--fetch-retry-maxtimeout=10000",
        ];
        let joined = |name: &str, value: &OsStr| {
            let mut option = OsString::from(format!("--{name}="));
            option.push(value);
            option
        };
        let mut options: Vec<OsString> = fixed.iter().map(OsString::from).collect();
        options.extend([
            joined("registry", self.gateways.url().as_ref()),
            joined("os", os.as_ref()),
            joined("cpu", cpu.as_ref()),
            joined("libc", libc.as_ref()),
            joined("cache", self.home.join(CACHE).as_ref()),
            joined("userconfig", self.home.join(NPMRC).as_ref()),
            joined("globalconfig", self.home.join(GLOBAL_NPMRC).as_ref()),
        ]);
        options
    }
}

/// Makes a folder that is empty.
fn clear(folder: &Path) -> Result<(), InstallError> {
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(|e| work_error("clear", folder, e))?;
    }
    fs::create_dir_all(folder).map_err(|e| work_error("create", folder, e))
}

fn work_error(action: &str, path: &Path, source: io::Error) -> InstallError {
    InstallError::Work {
        action: action.to_owned(),
        path: path.to_owned(),
        source,
    }
}

impl InstallError {
    /// A fault of a look-up of the package itself, where "404" means that it is not there.
    /// npm gives a missing version the same code, and names the version in its words.
    pub(crate) fn of_lookup(self, package: &str) -> Self {
        let Self::Refused { action, message } = self else {
            return self;
        };
        let package = package.to_owned();
        if message.starts_with("ETARGET") || message.contains("No match found for version") {
            Self::VersionNotFound { package, message }
        } else if message.starts_with("E404") {
            Self::PackageNotFound { package, message }
        } else {
            Self::Refused { action, message }
        }
    }
}

async fn read_bounded(stream: Option<impl AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    if let Some(mut stream) = stream {
        (&mut stream)
            .take(limits::NPM_OUTPUT)
            .read_to_end(&mut kept)
            .await?;
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
    }
    Ok(kept)
}

/// npm's error codes that speak of the network or the registry.
const REGISTRY_CODES: [&str; 11] = [
    "ENOTFOUND",
    "ECONNREFUSED",
    "ECONNRESET",
    "ETIMEDOUT",
    "EAI_AGAIN",
    "EHOSTUNREACH",
    "ENETUNREACH",
    "EPIPE",
    "ERR_SOCKET_TIMEOUT",
    "E429",
    "FETCH_ERROR",
];
/// npm's error codes that speak of our access to the registry.
const ACCESS_CODES: [&str; 3] = ["E401", "E403", "ENEEDAUTH"];
/// npm's error code of a package that is for other platforms.
const BAD_PLATFORM: &str = "EBADPLATFORM";
/// npm's error codes that speak of the package or its lock.
const PACKAGE_CODES: [&str; 9] = [
    "E404",
    "ETARGET",
    "EINTEGRITY",
    BAD_PLATFORM,
    "EBADENGINE",
    "ERESOLVE",
    "EUSAGE",
    "EINVALIDTAGNAME",
    "EUNSUPPORTEDPROTOCOL",
];

fn classify(action: &str, stdout: &[u8], stderr: &[u8]) -> InstallError {
    let stderr = String::from_utf8_lossy(stderr);
    let code = stderr
        .lines()
        .find_map(|line| line.strip_prefix("npm error code "))
        .map_or_else(|| code_of_json(stdout), |code| code.trim().to_owned());
    let lines: Vec<_> = stderr
        .lines()
        .filter_map(|line| line.strip_prefix("npm error "))
        .map(|line| line.strip_prefix("404").unwrap_or(line).trim())
        .take_while(|line| !ENDS.iter().any(|end| line.starts_with(end)))
        .filter(|line| !line.is_empty() && !is_chatter(line))
        .take(12)
        .collect();
    let message = format!("{code} {}", lines.join(" "))
        .chars()
        .take(1500)
        .collect();
    let action = action.to_owned();
    let is_server = code.len() == 4 && code.starts_with("E5");
    let is_tls = code.contains("CERT") || code.contains("SSL") || code.contains("TLS");
    if is_server || is_tls || REGISTRY_CODES.contains(&code.as_str()) {
        InstallError::Registry { action, message }
    } else if ACCESS_CODES.contains(&code.as_str()) {
        InstallError::AccessDenied { action, message }
    } else if code.starts_with("EALLOW") || PACKAGE_CODES.contains(&code.as_str()) {
        InstallError::Refused { action, message }
    } else {
        InstallError::Npm { action, message }
    }
}

/// Where npm begins to guess what the person at its keyboard could do.
const ENDS: [&str; 3] = [
    "Note that you can also install from",
    "If you are behind a proxy",
    "To correct this please try",
];

/// Lines of npm that tell a person nothing about the cause: where its log would be, frames
/// of its own stack and the fields of its error object.
fn is_chatter(line: &str) -> bool {
    const STARTS: [&str; 9] = [
        "code ",
        "errno ",
        "at ",
        "type: ",
        "code: ",
        "errno: ",
        "syscall: ",
        "address: ",
        "port: ",
    ];
    STARTS.iter().any(|start| line.starts_with(start))
        || line.contains("complete log of this run")
        || line.contains("Log files were not written")
        || line == "}"
}

fn code_of_json(stdout: &[u8]) -> String {
    let answer: Value = serde_json::from_slice(stdout).unwrap_or_default();
    answer["error"]["code"]
        .as_str()
        .unwrap_or("unknown")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_npm_tell_registry_package_and_the_rest_apart() {
        let class = |code: &str| {
            classify(
                "x",
                b"",
                format!("npm error code {code}\nnpm error why\n").as_bytes(),
            )
        };
        assert!(matches!(
            class("ECONNREFUSED"),
            InstallError::Registry { .. }
        ));
        assert!(matches!(class("E503"), InstallError::Registry { .. }));
        assert!(matches!(class("E401"), InstallError::AccessDenied { .. }));
        assert!(matches!(
            class("SELF_SIGNED_CERT_IN_CHAIN"),
            InstallError::Registry { .. }
        ));
        assert!(matches!(class("EINTEGRITY"), InstallError::Refused { .. }));
        assert!(matches!(class("E404"), InstallError::Refused { .. }));
        assert!(matches!(class("ENOSPC"), InstallError::Npm { .. }));
    }

    #[test]
    fn the_message_is_what_npm_says_of_the_cause() {
        let stderr = "npm error code ECONNREFUSED
npm error syscall connect
npm error errno ECONNREFUSED
npm error FetchError: request to http://registry/x failed, reason: connect ECONNREFUSED 10.0.0.1:4873
npm error     at ClientRequest.<anonymous> (/opt/node/lib/node_modules/npm/index.js:130:14)
npm error   type: 'system'
npm error   address: '10.0.0.1',
npm error }
npm error If you are behind a proxy, please make sure that the
npm error 'proxy' config is set properly.
npm error Log files were not written due to the config logs-max=0
";
        let InstallError::Registry { message, .. } = classify("x", b"", stderr.as_bytes()) else {
            panic!("of the registry");
        };
        let expected = "ECONNREFUSED syscall connect FetchError: request to http://registry/x failed, reason: connect ECONNREFUSED 10.0.0.1:4873";
        assert_eq!(message, expected);
    }

    #[test]
    fn a_missing_version_and_a_missing_package_are_two_faults_with_one_code() {
        let of = |words: &str| {
            let stderr = format!("npm error code E404\nnpm error 404 {words}\n");
            classify("look up x", b"", stderr.as_bytes()).of_lookup("x@9.0.0")
        };
        let version = of("No match found for version 9.0.0");
        assert!(matches!(version, InstallError::VersionNotFound { .. }));
        let package = of("Not Found - GET http://registry/x - no such package available");
        assert!(matches!(package, InstallError::PackageNotFound { .. }));
    }
}
