//! Which capability and which company a worker's call needs.

use std::collections::BTreeSet;

use paperclip_proto::{jsonrpc, methods, v1::RpcError};
use serde::Deserialize;

/// Needed beside `issue.comments.create` when a comment names a person as its author.
const HUMAN_ATTRIBUTED: &str = "issue.comments.create_human_attributed";

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Asked {
    company_id: Option<String>,
    actor_user_id: Option<serde_json::Value>,
    scope_kind: Option<String>,
    scope_id: Option<String>,
}

impl Asked {
    /// The one company the call names.
    fn company(&self) -> Option<&str> {
        let named = self
            .company_id
            .as_deref()
            .filter(|id| !id.trim().is_empty());
        let scoped = self.scope_kind.as_deref() == Some("company");
        named.or(self.scope_id.as_deref().filter(|_| scoped))
    }
}

/// Checks a call of the worker against the grant and, where its invocation is known, against
/// that invocation's company.
pub fn check(
    grant: &BTreeSet<String>,
    method: &str,
    params: &[u8],
    company: Option<&str>,
) -> Result<(), RpcError> {
    // A method that the protocol does not have passes: the host knows whether it serves it.
    if let Some(needed) = methods::capability(method).flatten() {
        require(grant, method, needed)?;
    }
    // Params of another shape name no company; the host judges them.
    let asked: Asked = serde_json::from_slice(params).unwrap_or_default();
    let names_person = asked.actor_user_id.as_ref().is_some_and(|id| !id.is_null());
    if method == "issues.createComment" && names_person {
        require(grant, method, HUMAN_ATTRIBUTED)?;
    }
    match (asked.company(), company) {
        (Some(asked), Some(company)) if asked != company => Err(RpcError::new(
            jsonrpc::INVOCATION_SCOPE_DENIED,
            format!("{method} asks for company {asked}, but was made for company {company}"),
        )),
        _ => Ok(()),
    }
}

fn require(grant: &BTreeSet<String>, method: &str, capability: &str) -> Result<(), RpcError> {
    if grant.contains(capability) {
        return Ok(());
    }
    Err(RpcError::new(
        jsonrpc::CAPABILITY_DENIED,
        format!(
            "{method} needs capability {capability}, which the plugin manifest does not declare"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(capabilities: &[&str]) -> BTreeSet<String> {
        capabilities.iter().map(|name| (*name).to_owned()).collect()
    }

    fn code(outcome: Result<(), RpcError>) -> i32 {
        outcome.map_or_else(|error| error.code, |()| 0)
    }

    #[test]
    fn an_undeclared_capability_is_denied() {
        let none = grant(&[]);
        assert_eq!(code(check(&none, "state.set", b"{}", None)), -32001);
        let some = grant(&["plugin.state.write"]);
        assert_eq!(code(check(&some, "state.set", b"{}", None)), 0);
        assert_eq!(code(check(&some, "state.get", b"{}", None)), -32001);
    }

    #[test]
    fn methods_without_a_capability_and_unknown_ones_pass() {
        for method in ["config.get", "entities.list", "log", "vendor.extension"] {
            assert_eq!(code(check(&grant(&[]), method, b"{}", None)), 0, "{method}");
        }
    }

    #[test]
    fn a_comment_in_a_persons_name_needs_its_own_capability() {
        let params = br#"{"companyId":"c","actorUserId":"u"}"#;
        let some = grant(&["issue.comments.create"]);
        assert_eq!(
            code(check(&some, "issues.createComment", params, None)),
            -32001
        );
    }

    #[test]
    fn a_known_invocation_does_not_reach_another_company() {
        let none = grant(&["companies.read"]);
        let ask = |params: &[u8]| code(check(&none, "companies.get", params, Some("a")));
        assert_eq!(ask(br#"{"companyId":"a"}"#), 0);
        assert_eq!(ask(br#"{"companyId":"b"}"#), -32005);
        assert_eq!(ask(br#"{"scopeKind":"company","scopeId":"b"}"#), -32005);
    }
}
