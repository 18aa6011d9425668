//! Why npm did not do what it was asked, as its output tells.

use std::io;
use std::path::{Path, PathBuf};

use paperclip_artifact::installed::InstalledError;
use paperclip_artifact::lock::LockError;
use paperclip_artifact_format::platform::Platform;
use serde_json::Value;

use crate::npm::registry::FetchError;

/// Why npm did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The package is not there.
    #[error("{package} is not in the registry: {message}")]
    PackageNotFound {
        /// Package and version.
        package: String,
        /// The message of the registry, or of npm.
        message: String,
    },
    /// The package is there, and the version is not.
    #[error("{package} is not in the registry, which has other versions: {message}")]
    VersionNotFound {
        /// Package and version.
        package: String,
        /// The message of the registry, or of npm.
        message: String,
    },
    /// The registry did not serve us.
    #[error("cannot {action}: the registry is not available: {message}")]
    Registry {
        /// The request.
        action: String,
        /// npm's message.
        message: String,
    },
    /// The registry does not let us in.
    #[error("cannot {action}: the registry denies access: {message}")]
    AccessDenied {
        /// The request.
        action: String,
        /// npm's message.
        message: String,
    },
    /// The package is at fault.
    #[error("cannot {action}: {message}")]
    Refused {
        /// The request.
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
        /// The request.
        action: String,
        /// The cause.
        source: FetchError,
    },
    /// npm failed in a way that tells nothing about the package.
    #[error("cannot {action}: npm failed: {message}")]
    Npm {
        /// The request.
        action: String,
        /// npm's message.
        message: String,
    },
    /// The work folder or npm itself could not be used.
    #[error("cannot {action} in {}", path.display())]
    Work {
        /// The attempt.
        action: String,
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
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

pub(super) fn work_error(action: &str, path: &Path, source: io::Error) -> InstallError {
    InstallError::Work {
        action: action.to_owned(),
        path: path.to_owned(),
        source,
    }
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
pub(super) const BAD_PLATFORM: &str = "EBADPLATFORM";

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

pub(super) fn classify(action: &str, stdout: &[u8], stderr: &[u8]) -> InstallError {
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
