//! What can go wrong, what the user is told, and the exit code.

use std::{error::Error as StdError, fmt::Write as _, path::PathBuf};

use http::StatusCode;
use paperclip_artifact::inspect::InspectError;
use paperclip_error_chain::chain_until;
use paperclip_oci::{client::StoreError, source::SourceError};
use paperclip_packer::local::LocalError;
use paperclip_packing_api::report::{Failure, FailureReason};

/// A failure of a command.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kubeconfig cannot be used.
    #[error("read the kubeconfig")]
    Kubeconfig(#[source] Box<dyn StdError + Send + Sync>),
    /// A request to the API server failed.
    #[error("{doing}")]
    Cluster {
        /// What we were doing, with the object's name.
        doing: String,
        /// What the API server or the connection said.
        #[source]
        source: kube::Error,
    },
    /// An object, tool, job or key is not there.
    #[error("{what}")]
    NotFound {
        /// What is missing, and what is there instead.
        what: String,
        /// What to do about it.
        hint: String,
    },
    /// Something is there but cannot be used now.
    #[error("{what}")]
    NotReady {
        /// What was found.
        what: String,
        /// What to do about it.
        hint: String,
    },
    /// The connection to the host failed.
    #[error("{doing}")]
    Connection {
        /// What we were doing.
        doing: String,
        /// What the connection said.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The host gave no answer in time.
    #[error("{doing}: no answer within {seconds} s")]
    TimedOut {
        /// What we were doing.
        doing: String,
        /// The limit.
        seconds: u64,
    },
    /// The host answered with an error.
    #[error("{doing}: the host answered {status}: {message}")]
    Host {
        /// What we were doing.
        doing: String,
        /// Status of the answer.
        status: StatusCode,
        /// Paperclip's code of a bridge error, as in `WORKER_ERROR`.
        code: Option<String>,
        /// The answer's message.
        message: String,
        /// What is wrong with the plugin, where the API server says so.
        trouble: Option<String>,
    },
    /// The call was made and its outcome is a failure.
    #[error("{0}")]
    Failed(String),
    /// An input is wrong.
    #[error("{what}")]
    Input {
        /// Which input, what was found and what was wanted.
        what: String,
    },
    /// A file or standard input cannot be read.
    #[error("read {}", path.display())]
    ReadFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// An artifact cannot be packed, read or verified.
    #[error("{doing}")]
    Artifact {
        /// What we were doing.
        doing: String,
        /// The exit code that says what kind of failure it is.
        code: u8,
        /// Why.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// Standard output is gone.
    #[error("write the answer")]
    Write(#[source] std::io::Error),
    /// An answer could not be written in the form asked for, or read.
    #[error("{doing}")]
    Encoding {
        /// What we were doing.
        doing: String,
        /// Why.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
}

impl Error {
    /// An error of the API server, or of the way to it, while doing something.
    #[must_use]
    pub fn cluster(doing: impl Into<String>, source: kube::Error) -> Self {
        Self::Cluster {
            doing: doing.into(),
            source,
        }
    }

    /// An error of packing, reading or verifying an artifact.
    #[must_use]
    pub fn artifact(
        doing: impl Into<String>,
        source: impl StdError + Send + Sync + 'static,
    ) -> Self {
        Self::Artifact {
            doing: doing.into(),
            code: code_of(&source),
            source: Box::new(source),
        }
    }

    /// Whether the reader of our output has seen enough, as `head` does.
    #[must_use]
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Write(source) if source.kind() == std::io::ErrorKind::BrokenPipe)
    }

    /// The exit code, as documented in `docs/cli.md`.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Input { .. } | Self::ReadFile { .. } | Self::Kubeconfig(_) => 2,
            Self::Artifact { code, .. } => *code,
            Self::NotFound { .. } => 3,
            Self::NotReady { .. } | Self::Connection { .. } | Self::TimedOut { .. } => 4,
            Self::Cluster { source, .. } => match source {
                kube::Error::Api(status) if status.code == 404 => 3,
                kube::Error::Api(_) => 1,
                _ => 4,
            },
            Self::Host { status, code, .. } => match (*status, code.as_deref()) {
                (StatusCode::NOT_FOUND, _) => 3,
                (StatusCode::SERVICE_UNAVAILABLE, _) | (_, Some("WORKER_UNAVAILABLE")) => 4,
                _ => 1,
            },
            Self::Failed(_) | Self::Write(_) | Self::Encoding { .. } => 1,
        }
    }

    /// What the user reads: the chain of causes on one line, then what to do.
    #[must_use]
    pub fn report(&self) -> String {
        let mut text = format!("error: {}", chain_until(self, api_message));
        if let Some(hint) = self.hint() {
            let _ = write!(text, "\nhint: {hint}");
        }
        text
    }

    fn hint(&self) -> Option<String> {
        match self {
            // An object that is missing has an error of its own; what is left is a missing kind.
            Self::Cluster {
                source: kube::Error::Api(status),
                ..
            } if status.code == 404 => Some(
                "are the chart paperclip-crds and the ServiceAccount of the host installed?".into(),
            ),
            Self::NotFound { hint, .. } | Self::NotReady { hint, .. } => Some(hint.clone()),
            Self::Host {
                status, trouble, ..
            } => match *status {
                StatusCode::UNAUTHORIZED => {
                    Some("the host did not take the token; see `--token` and `--own-token`".into())
                }
                StatusCode::FORBIDDEN => Some(
                    "the account of the token needs verb get on paperclipplugins to read, and \
                     create on paperclipplugins/call to call, in the plugin's namespace"
                        .into(),
                ),
                _ => trouble.clone(),
            },
            _ => None,
        }
    }
}

/// The message of an answer of the API server, which says all that is below it.
fn api_message(cause: &(dyn StdError + 'static)) -> Option<String> {
    match cause.downcast_ref()? {
        kube::Error::Api(status) => Some(status.message.clone()),
        _ => None,
    }
}

/// The exit code of a failure with an artifact.
fn code_of(error: &(dyn StdError + 'static)) -> u8 {
    if let Some(error) = error.downcast_ref() {
        return code_of_packing(error);
    }
    if let Some(error) = error.downcast_ref() {
        return match error {
            InspectError::Missing { .. } => 3,
            InspectError::Read { source, .. } => code_of_source(source),
            InspectError::Refused { .. } | InspectError::Unpack(_) => 1,
        };
    }
    error.downcast_ref().map_or(1, code_of_source)
}

fn code_of_packing(error: &LocalError) -> u8 {
    if matches!(error, LocalError::Input { .. } | LocalError::Registry(_)) {
        return 2;
    }
    match Failure::from(error).reason {
        FailureReason::PackageNotFound | FailureReason::VersionNotFound => 3,
        FailureReason::RegistryUnavailable => 4,
        _ => 1,
    }
}

fn code_of_source(error: &SourceError) -> u8 {
    match error {
        SourceError::NoTag { .. } => 3,
        SourceError::Store(error) if error.is_not_found() => 3,
        SourceError::Store(StoreError::Unreachable { .. }) => 4,
        SourceError::Store(_) | SourceError::Layout(_) => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(status: u16, code: Option<&str>) -> Error {
        Error::Host {
            doing: "call tool x".into(),
            status: StatusCode::from_u16(status).unwrap(),
            code: code.map(str::to_owned),
            message: "no".into(),
            trouble: None,
        }
    }

    #[test]
    fn exit_codes_tell_causes_apart() {
        assert_eq!(host(404, None).exit_code(), 3);
        assert_eq!(host(502, Some("WORKER_ERROR")).exit_code(), 1);
        assert_eq!(host(502, Some("WORKER_UNAVAILABLE")).exit_code(), 4);
        assert_eq!(host(503, None).exit_code(), 4);
        assert_eq!(host(403, None).exit_code(), 1);
    }

    #[test]
    fn a_report_names_the_status_and_what_to_do() {
        let report = host(403, None).report();
        assert!(
            report.starts_with("error: call tool x: the host answered 403 Forbidden: no\nhint: "),
            "{report}"
        );
    }

    #[test]
    fn a_report_says_what_the_api_server_said() {
        let status = kube::core::Status::failure("pods is forbidden", "Forbidden").with_code(403);
        let error = Error::cluster("list pods", kube::Error::Api(Box::new(status)));
        assert_eq!(error.report(), "error: list pods: pods is forbidden");
        assert_eq!(error.exit_code(), 1);
    }

    #[test]
    fn a_report_prints_each_cause_once() {
        let inner = std::io::Error::other("connection refused");
        let error = Error::Connection {
            doing: "connect to host paperclip/main".into(),
            source: Box::new(inner),
        };
        assert_eq!(
            error.report(),
            "error: connect to host paperclip/main: connection refused"
        );
    }
}
