//! A try that has only begun says nothing new: what failed before is still what is wrong.
//!
//! Without this a worker that crashes at every start, or a registry that stays away, would
//! be told anew with each try, and the reason would go back and forth.

use paperclip_crds::v1alpha1::{Condition, Reason};

use super::conditions::Finding;

/// How a worker fails at its start.
pub const OF_WORKER: [Reason; 4] = [
    Reason::WorkerExited,
    Reason::InitializeFailed,
    Reason::WorkerUnresponsive,
    Reason::ConfigRejected,
];
/// How a packing fails without fault of the package.
pub const OF_PACKING: [Reason; 4] = [
    Reason::RegistryUnavailable,
    Reason::RegistryAccessDenied,
    Reason::StoreUnavailable,
    Reason::PackingFailed,
];

/// The failure that a stage was in, if it is one of these.
#[must_use]
pub fn failed_before(stage: Option<&Condition>, reasons: &[Reason]) -> Option<Finding> {
    let stage = stage.filter(|stage| stage.status == "False")?;
    let reason = reasons
        .iter()
        .find(|reason| reason.to_string() == stage.reason)?;
    Some(Finding::no(*reason, stage.message.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::conditions::condition;
    use k8s_openapi::jiff::Timestamp;
    use paperclip_crds::v1alpha1::ConditionType;

    fn stage(status: &str, reason: Reason) -> Condition {
        let finding = Finding::no(reason, "code 7: no ink".into());
        let now = Timestamp::UNIX_EPOCH;
        condition(
            ConditionType::WorkerAvailable,
            status,
            finding,
            Some(1),
            &[],
            now,
        )
    }

    #[test]
    fn a_failure_is_remembered_with_its_words() {
        let found = failed_before(Some(&stage("False", Reason::WorkerExited)), &OF_WORKER);
        let expected = Finding::no(Reason::WorkerExited, "code 7: no ink".into());
        assert_eq!(found, Some(expected));
    }

    #[test]
    fn work_under_way_and_success_are_no_failures() {
        for stage in [
            stage("False", Reason::Progressing),
            stage("True", Reason::Succeeded),
        ] {
            assert_eq!(failed_before(Some(&stage), &OF_WORKER), None);
        }
        assert_eq!(failed_before(None, &OF_WORKER), None);
    }
}
