//! Text of an error, its causes in one line, and refusals that are none.

use std::{error::Error, iter::successors};

use paperclip_error_chain::chain_until;

/// The error and its causes, in one line; of an answer of the API server, its message.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    chain_until(error, |cause| Some(answer(cause)?.message.clone()))
}

/// Whether the API server refused because the namespace is being deleted: nothing is
/// left to do there, and nothing is wrong.
#[must_use]
pub fn is_namespace_terminating(error: &(dyn Error + 'static)) -> bool {
    causes(error).filter_map(answer).any(|status| {
        let mut causes = status.details.iter().flat_map(|details| &details.causes);
        status.code == 403 && causes.any(|cause| cause.reason == "NamespaceTerminating")
    })
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    successors(Some(error), |&error| error.source())
}

fn answer<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a kube::core::Status> {
    match error.downcast_ref()? {
        kube::Error::Api(status) => Some(status),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::ApplyError;
    use kube::core::{
        Status,
        response::{StatusCause, StatusDetails},
    };

    fn refusal(cause: &str) -> ApplyError {
        let cause = StatusCause {
            reason: cause.into(),
            message: String::new(),
            field: String::new(),
        };
        let details = StatusDetails {
            name: "x".into(),
            group: String::new(),
            kind: "secrets".into(),
            uid: String::new(),
            causes: vec![cause],
            retry_after_seconds: 0,
        };
        let status = Status::failure("secrets \"x\" is forbidden", "Forbidden");
        ApplyError::Request {
            kind: "Secret".into(),
            name: "x".into(),
            source: kube::Error::Api(status.with_code(403).with_details(details).boxed()),
        }
    }

    #[test]
    fn only_a_refusal_with_that_cause_is_a_namespace_that_goes() {
        assert!(is_namespace_terminating(&refusal("NamespaceTerminating")));
        assert!(!is_namespace_terminating(&refusal("FieldValueForbidden")));
    }

    #[test]
    fn an_answer_of_the_api_server_is_told_once_and_in_its_words() {
        let text = "applying Secret x: secrets \"x\" is forbidden";
        assert_eq!(chain(&refusal("any")), text);
    }
}
