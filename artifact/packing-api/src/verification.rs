//! The check of an artifact of the store by policies: the request of a Job of one step, and its
//! report.

use paperclip_artifact::trust::Policy;
use paperclip_oci::canonical;
use paperclip_oci::digest::Digest;
use serde::{Deserialize, Serialize};

use crate::naming;
use crate::policies;
use crate::request::{InvalidRequest, StoreEndpoints};

/// Environment variable that holds the request.
pub const ENVIRONMENT: &str = "PAPERCLIP_VERIFY_REQUEST";

/// One check. Equal requests have one Job and one answer.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VerifyRequest {
    /// The artifact store.
    pub store: StoreEndpoints,
    /// Repository in the store.
    pub repository: String,
    /// Digest of the artifact.
    pub digest: Digest,
    /// Name of the package, for the name of the Job alone.
    pub package: String,
    /// Whether it was packed elsewhere, so that who signed the image counts, and nothing that
    /// an npm registry is said to have signed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub copied: bool,
    /// What must hold, with every key and trust root in it.
    pub policies: Vec<Policy>,
}

impl VerifyRequest {
    /// Hash of the whole request.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&canonical::compact(&serde_json::json!(self)))
    }

    /// Name of the Job: a DNS label of at most 63 characters.
    #[must_use]
    pub fn job_name(&self) -> String {
        naming::job_name("verify", &self.package, &self.digest())
    }

    /// Checks what goes into URLs, and the length.
    ///
    /// # Errors
    /// Names the first field that breaks its rule.
    pub fn validate(&self) -> Result<(), InvalidRequest> {
        if !paperclip_oci::reference::is_repository(&self.repository) {
            let wanted = "the name of an OCI repository";
            return Err(InvalidRequest::new("repository", &self.repository, wanted));
        }
        policies::check_length(self)
    }
}

/// The report of the step.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct VerificationReport {
    /// The artifact.
    pub digest: Digest,
    /// `policy: requirement by signer`, for people.
    pub proofs: Vec<String>,
}
