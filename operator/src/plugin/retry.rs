//! Retries: a try that has only begun says nothing new, and the failure before it stands.
//!
//! Without this a registry that stays away would be told anew with each packing Job, and
//! the reason would go back and forth. The sidecar does the same for a worker that fails at
//! every start.

use paperclip_crds::v1alpha1::{Class, Condition, Reason};

use super::conditions::Finding;

/// The failure that a stage was in, if it is one that a later try may mend.
#[must_use]
pub fn failed_before(stage: Option<&Condition>) -> Option<Finding> {
    let stage = stage.filter(|stage| stage.status == "False")?;
    let reason = Reason::from_name(&stage.reason)?;
    (reason.class() == Class::Transient).then(|| Finding::no(reason, stage.message.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::conditions::condition;
    use k8s_openapi::jiff::Timestamp;
    use paperclip_crds::v1alpha1::ConditionType;

    fn stage(status: &str, reason: Reason) -> Condition {
        let finding = Finding::no(reason, "ECONNREFUSED".into());
        let now = Timestamp::UNIX_EPOCH;
        condition(
            ConditionType::ArtifactReady,
            status,
            finding,
            Some(1),
            &[],
            now,
        )
    }

    #[test]
    fn a_failure_is_remembered_with_its_words() {
        let found = failed_before(Some(&stage("False", Reason::RegistryUnavailable)));
        let expected = Finding::no(Reason::RegistryUnavailable, "ECONNREFUSED".into());
        assert_eq!(found, Some(expected));
    }

    #[test]
    fn work_under_way_and_success_are_no_failures() {
        for stage in [
            stage("False", Reason::Packing),
            stage("True", Reason::Succeeded),
        ] {
            assert_eq!(failed_before(Some(&stage)), None);
        }
        assert_eq!(failed_before(None), None);
    }
}
