//! What policies ask of an artifact that is yet to be packed, as the packing Job is told it.
//!
//! It is no part of the packing request: what lies in the store is found by the request alone,
//! so a policy that changes repacks nothing. It is part of the Job's name: two namespaces with
//! different policies are given two answers.

use paperclip_artifact::trust::Policy;
use paperclip_oci::canonical;
use paperclip_oci::digest::Digest;
use serde::{Deserialize, Serialize};

use crate::naming;
use crate::request::{self, InvalidRequest, PackRequest};

/// Environment variable that holds the policies, for the step that pushes.
pub const ENVIRONMENT: &str = "PAPERCLIP_PACK_POLICIES";

/// Every policy that an artifact must meet, with every key and trust root in it.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(transparent)]
pub struct Policies {
    policies: Vec<Policy>,
}

impl Policies {
    /// Of policies in the order in which they are checked.
    #[must_use]
    pub fn new(policies: Vec<Policy>) -> Self {
        Self { policies }
    }

    /// That asks for nothing.
    #[must_use]
    pub const fn nothing() -> Self {
        Self {
            policies: Vec::new(),
        }
    }

    /// The requirements.
    #[must_use]
    pub fn policies(&self) -> &[Policy] {
        &self.policies
    }

    /// Whether no signature is asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.policies.iter().all(|policy| policy.require.is_empty())
    }

    /// Hash of all that is asked.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&canonical::compact(&serde_json::json!(self)))
    }

    /// Name of the Job that carries the request out on these terms: a DNS label of at most 63
    /// characters, and the request's own where nothing is asked.
    #[must_use]
    pub fn job_name(&self, request: &PackRequest) -> String {
        let name = request.job_name();
        if self.is_empty() {
            return name;
        }
        let both = Digest::of(format!("{name} {}", self.digest()).as_bytes());
        naming::job_name("pack", &request.package, &both)
    }

    /// Checks the length.
    ///
    /// # Errors
    /// When it is longer than a variable of a process may be.
    pub fn validate(&self) -> Result<(), InvalidRequest> {
        check_length(self)
    }
}

/// Checks that a variable of a process holds this document of policies.
pub(crate) fn check_length(document: &impl Serialize) -> Result<(), InvalidRequest> {
    let length = canonical::compact(&serde_json::json!(document)).len();
    if length > request::MAX_BYTES {
        let found = format!("{length} bytes long");
        let wanted = "at most 128 KiB as JSON, keys and trust roots included";
        return Err(InvalidRequest::new("policies", &found, wanted));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use paperclip_artifact::trust::{Requirement, cosign::Signer};

    fn policies(key: &str) -> Policies {
        Policies::new(vec![Policy {
            name: "p".into(),
            require: vec![Requirement::Cosign(Signer::Key(key.into()))],
        }])
    }

    #[test]
    fn other_policies_are_another_job_and_the_same_artifact() {
        let request = PackRequest {
            package: "example".into(),
            ..PackRequest::default()
        };
        let names =
            [Policies::default(), policies("a"), policies("b")].map(|it| it.job_name(&request));
        assert_eq!(names[0], request.job_name());
        assert_ne!(names[0], names[1]);
        assert_ne!(names[1], names[2]);
        assert_eq!(names[1], policies("a").job_name(&request));
        assert!(names[1].len() <= 63 && names[1].starts_with("pack-example-"));
    }

    #[test]
    fn policies_that_no_variable_holds_is_refused() {
        assert!(policies("a").validate().is_ok());
        assert!(
            policies(&"a".repeat(request::MAX_BYTES))
                .validate()
                .is_err()
        );
    }
}
