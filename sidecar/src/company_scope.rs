//! The rule that a worker's call stays in the company it was made for.

use paperclip_bridge::v1::RpcError;
use paperclip_protocol::{
    jsonrpc,
    methods::{self, CompanyScope},
};

/// Refuses a call that leaves the company of its invocation, where that is known. A call that
/// names none is the host's to judge.
pub fn check(method: &str, params: &[u8], company: Option<&str>) -> Result<(), RpcError> {
    let Some(company) = company else {
        return Ok(());
    };
    let denied = |why: String| {
        Err(RpcError::new(
            jsonrpc::INVOCATION_SCOPE_DENIED,
            format!("{method} was made for company {company}, but {why}"),
        ))
    };
    match methods::company_scope(method, params) {
        Ok(CompanyScope::Company(asked)) if asked != company => denied(format!("asks for {asked}")),
        Ok(CompanyScope::Unnamed) => denied("asks for one that it does not name".into()),
        Ok(_) => Ok(()),
        Err(unreadable) => denied(unreadable.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_invocation_does_not_reach_another_company() {
        let ask = |method, params: &str| {
            check(method, params.as_bytes(), Some("a")).map_err(|error| error.code)
        };
        assert_eq!(ask("companies.get", r#"{"companyId":"a"}"#), Ok(()));
        let denied = Err(jsonrpc::INVOCATION_SCOPE_DENIED);
        assert_eq!(ask("companies.get", r#"{"companyId":"b"}"#), denied);
        let scope = r#"{"scopeKind":"company","scopeId":"b"}"#;
        assert_eq!(ask("companies.get", scope), denied);
        assert_eq!(ask("state.get", r#"{"scopeKind":"company"}"#), denied);
        let filter = r#"{"filter":{"companyId":"b"}}"#;
        assert_eq!(ask("events.subscribe", filter), denied);
        let twice = r#"{"companyId":"a","companyId":"b"}"#;
        assert_eq!(ask("companies.get", twice), denied);
        let unreadable = r#"{"\ud800":1,"companyId":"a"}"#;
        assert_eq!(ask("companies.get", unreadable), denied);
        assert!(check("companies.get", twice.as_bytes(), None).is_ok());
    }
}
