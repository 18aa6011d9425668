//! Which capability and which company a worker's call needs.

use std::collections::BTreeSet;

use paperclip_proto::{jsonrpc, v1::RpcError};
use serde::Deserialize;

/// Each method a worker may call, with the capability it needs, empty for none.
///
/// Methods that are not listed pass: the host knows whether it serves them.
const TABLE: &[(&str, &str)] = &[
    ("config.get", ""),
    ("localFolders.declarations", ""),
    ("localFolders.configure", "local.folders"),
    ("localFolders.status", "local.folders"),
    ("localFolders.list", "local.folders"),
    ("localFolders.readText", "local.folders"),
    ("localFolders.writeTextAtomic", "local.folders"),
    ("localFolders.deleteFile", "local.folders"),
    ("state.get", "plugin.state.read"),
    ("state.set", "plugin.state.write"),
    ("state.delete", "plugin.state.write"),
    ("db.namespace", "database.namespace.read"),
    ("db.query", "database.namespace.read"),
    ("db.execute", "database.namespace.write"),
    ("entities.upsert", ""),
    ("entities.list", ""),
    ("events.emit", "events.emit"),
    ("events.subscribe", "events.subscribe"),
    ("http.fetch", "http.outbound"),
    ("secrets.resolve", "secrets.read-ref"),
    ("activity.log", "activity.log.write"),
    ("metrics.write", "metrics.write"),
    ("telemetry.track", "telemetry.track"),
    ("log", ""),
    ("span.record", "environment.drivers.register"),
    ("companies.list", "companies.read"),
    ("companies.get", "companies.read"),
    ("projects.list", "projects.read"),
    ("projects.get", "projects.read"),
    ("projects.listWorkspaces", "project.workspaces.read"),
    ("projects.getPrimaryWorkspace", "project.workspaces.read"),
    ("projects.getWorkspaceForIssue", "project.workspaces.read"),
    ("executionWorkspaces.get", "execution.workspaces.read"),
    ("projects.managed.get", "projects.managed"),
    ("projects.managed.reconcile", "projects.managed"),
    ("projects.managed.reset", "projects.managed"),
    ("routines.managed.get", "routines.managed"),
    ("routines.managed.reconcile", "routines.managed"),
    ("routines.managed.reset", "routines.managed"),
    ("routines.managed.update", "routines.managed"),
    ("routines.managed.run", "routines.managed"),
    ("skills.managed.get", "skills.managed"),
    ("skills.managed.reconcile", "skills.managed"),
    ("skills.managed.reset", "skills.managed"),
    ("issues.list", "issues.read"),
    ("issues.get", "issues.read"),
    ("issues.create", "issues.create"),
    ("issues.update", "issues.update"),
    ("issues.relations.get", "issue.relations.read"),
    ("issues.relations.setBlockedBy", "issue.relations.write"),
    ("issues.relations.addBlockers", "issue.relations.write"),
    ("issues.relations.removeBlockers", "issue.relations.write"),
    ("issues.assertCheckoutOwner", "issues.checkout"),
    ("issues.getSubtree", "issue.subtree.read"),
    ("issues.requestWakeup", "issues.wakeup"),
    ("issues.requestWakeups", "issues.wakeup"),
    (
        "issues.summaries.getOrchestration",
        "issues.orchestration.read",
    ),
    ("issues.listComments", "issue.comments.read"),
    ("issues.createComment", "issue.comments.create"),
    ("issues.createInteraction", "issue.interactions.create"),
    ("issues.listInteractions", "issue.interactions.read"),
    ("issues.respondInteraction", "issue.interactions.respond"),
    ("issues.listAttachments", "issue.attachments.read"),
    ("issues.getAttachmentContent", "issue.attachments.read"),
    ("issues.documents.list", "issue.documents.read"),
    ("issues.documents.get", "issue.documents.read"),
    ("issues.documents.upsert", "issue.documents.write"),
    ("issues.documents.delete", "issue.documents.write"),
    ("approvals.list", "approvals.read"),
    ("approvals.get", "approvals.read"),
    ("approvals.decide", "approvals.respond"),
    ("agents.list", "agents.read"),
    ("agents.get", "agents.read"),
    ("agents.pause", "agents.pause"),
    ("agents.resume", "agents.resume"),
    ("agents.invoke", "agents.invoke"),
    ("agents.managed.get", "agents.managed"),
    ("agents.managed.reconcile", "agents.managed"),
    ("agents.managed.reset", "agents.managed"),
    ("agents.sessions.create", "agent.sessions.create"),
    ("agents.sessions.list", "agent.sessions.list"),
    ("agents.sessions.sendMessage", "agent.sessions.send"),
    ("agents.sessions.close", "agent.sessions.close"),
    ("goals.list", "goals.read"),
    ("goals.get", "goals.read"),
    ("goals.create", "goals.create"),
    ("goals.update", "goals.update"),
    ("access.members.list", "access.members.read"),
    ("access.members.get", "access.members.read"),
    ("access.members.update", "access.members.write"),
    ("access.invites.list", "access.invites.read"),
    ("access.invites.create", "access.invites.write"),
    ("access.invites.revoke", "access.invites.write"),
    ("authorization.grants.list", "authorization.grants.read"),
    ("authorization.grants.set", "authorization.grants.write"),
    (
        "authorization.policies.summary",
        "authorization.policies.read",
    ),
    ("authorization.policies.get", "authorization.policies.read"),
    (
        "authorization.policies.update",
        "authorization.policies.write",
    ),
    (
        "authorization.policies.previewAssignment",
        "authorization.policies.read",
    ),
    (
        "authorization.policies.explainAssignment",
        "authorization.policies.read",
    ),
    ("authorization.audit.search", "authorization.audit.read"),
];

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
    let needed = TABLE
        .iter()
        .find(|(name, _)| *name == method)
        .map_or("", |(_, capability)| capability);
    require(grant, method, needed)?;
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
    if capability.is_empty() || grant.contains(capability) {
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
