//! The error of a reconcile, and what its kinds mean for status and requeue.

use paperclip_artifact::pull::PullError;
use paperclip_crds::{MalformedObject, v1alpha1::Reason};

use crate::{apply::ApplyError, reflectors::NotListed, secrets::SecretError};

/// Cause of a reconcile that did not end.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The API server refused, or could not be reached.
    #[error("{doing}")]
    Request {
        /// What we were doing.
        doing: &'static str,
        /// What the API server said.
        source: kube::Error,
    },
    /// An object of the API server has no namespace, name or uid.
    #[error(transparent)]
    Malformed(#[from] MalformedObject),
    /// A kind that is kept was not listed yet.
    #[error(transparent)]
    Watch(#[from] NotListed),
    /// An owned object could not be applied.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// A Secret could not be read or made.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The plugin manifest could not be read from the store.
    #[error("reading the plugin manifest from the store")]
    Manifest(#[from] PullError),
    /// A value could not be written as JSON.
    #[error("writing JSON")]
    Encode(#[source] serde_json::Error),
    /// The digest in status is none.
    #[error("status.artifact.digest is {0:?}, which is no digest")]
    RecordedDigest(String),
}

impl ReconcileError {
    /// Names what a request was for.
    pub fn request(doing: &'static str) -> impl Fn(kube::Error) -> Self {
        move |source| Self::Request { doing, source }
    }

    /// The reason that `Ready` gives for it.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Manifest(PullError::Store { .. }) => Reason::StoreUnavailable,
            Self::Manifest(_) => Reason::ManifestInvalid,
            Self::Request { .. }
            | Self::Malformed(_)
            | Self::Watch(_)
            | Self::Apply(_)
            | Self::Secret(_)
            | Self::Encode(_)
            | Self::RecordedDigest(_) => Reason::ApplyFailed,
        }
    }

    /// Whether it may be over at the next reconcile, and says nothing of the plugin.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        let of_the_server = |error: &kube::Error| match error {
            kube::Error::Api(status) => status.code >= 500 || matches!(status.code, 409 | 429),
            _ => true,
        };
        match self {
            Self::Request { source, .. } => of_the_server(source),
            Self::Apply(ApplyError::Request { source, .. })
            | Self::Secret(SecretError::Apply(ApplyError::Request { source, .. })) => {
                of_the_server(source)
            }
            Self::Manifest(PullError::Store { .. }) | Self::Watch(_) => true,
            _ => false,
        }
    }

    /// Whether a person has to remove something: an object of another that has the name of an
    /// owned one, or content of the store that is no artifact.
    #[must_use]
    pub fn needs_a_person(&self) -> bool {
        matches!(
            self,
            Self::Apply(ApplyError::Foreign { .. })
                | Self::Manifest(PullError::Refused { .. })
                | Self::Secret(SecretError::Apply(ApplyError::Foreign { .. }))
        )
    }
}
