//! The methods a worker may call on its host, and the capability each needs.
//!
//! The one home of this knowledge: the sidecar enforces it against the grant, a host
//! against the plugin manifest.

/// The capability that a worker's call of `method` needs, `Some(None)` for one that needs
/// none. `None` for a method that the protocol does not have.
#[must_use]
pub fn capability(method: &str) -> Option<Option<&'static str>> {
    let (_, capability) = METHODS.iter().find(|(name, _)| *name == method)?;
    Some((!capability.is_empty()).then_some(*capability))
}

/// Names of all methods.
pub fn names() -> impl Iterator<Item = &'static str> {
    METHODS.iter().map(|(name, _)| *name)
}

/// Method and capability, empty for none; from the published plugin SDK 2026.916.1.
const METHODS: &[(&str, &str)] = &[
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_method_stands_once() {
        let distinct: BTreeSet<&str> = names().collect();
        assert_eq!(names().count(), distinct.len());
    }

    #[test]
    fn a_capability_is_looked_up_by_method() {
        assert_eq!(capability("state.set"), Some(Some("plugin.state.write")));
        assert_eq!(capability("config.get"), Some(None));
        assert_eq!(capability("state.everything"), None);
    }
}
