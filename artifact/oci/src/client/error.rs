//! Why a registry did not do what it was asked.

use std::path::PathBuf;

use reqwest::StatusCode;

/// Why a registry did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A credential or certificate in the store folder could not be read.
    #[error("cannot read the store credential {}", path.display())]
    Credential {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// Address or certificate cannot be used.
    #[error("cannot set up a client for the store `{address}`: {why}")]
    Setup {
        /// Address of the store.
        address: String,
        /// The fault.
        why: String,
    },
    /// No answer.
    #[error("cannot {action} in the store `{address}`")]
    Unreachable {
        /// Address of the store.
        address: String,
        /// The request.
        action: String,
        /// The HTTP client's error.
        source: reqwest::Error,
    },
    /// An answer that says no.
    #[error("cannot {action} in the store `{address}`: it answered {status}: {message}")]
    Refused {
        /// Address of the store.
        address: String,
        /// The request.
        action: String,
        /// Status of the answer.
        status: StatusCode,
        /// Start of the answer.
        message: String,
    },
    /// The bytes are not those asked for.
    #[error("the store `{address}` sent something else for {action}: {why}")]
    Mismatch {
        /// Address of the store.
        address: String,
        /// The request.
        action: String,
        /// The difference.
        why: String,
    },
    /// A pulled blob could not be kept.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
}

impl StoreError {
    /// Whether the same request may succeed a little later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { source, .. } => !source.is_builder(),
            Self::Refused { status, .. } => {
                status.is_server_error()
                    || matches!(
                        *status,
                        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS
                    )
            }
            _ => false,
        }
    }

    /// Whether the registry says that it has no such thing.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if *status == StatusCode::NOT_FOUND)
    }
}
