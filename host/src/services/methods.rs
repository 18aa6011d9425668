//! Every worker-to-host method: who answers it and which capability it needs.

/// Who answers a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// This host.
    Host,
    /// Paperclip: it is about companies' own data, which this host has none of.
    Paperclip,
    /// A host with something this one lacks; what that is.
    Elsewhere(&'static str),
}

/// A worker-to-host method.
#[derive(Clone, Copy, Debug)]
pub struct Method {
    /// Who answers.
    pub owner: Owner,
    /// What the manifest must declare.
    pub capability: Option<&'static str>,
}

/// The method of this name, if the protocol has it.
pub fn find(name: &str) -> Option<Method> {
    let (owner, (_, capability)) = GROUPS
        .iter()
        .flat_map(|(owner, methods)| methods.iter().map(move |method| (*owner, *method)))
        .find(|(_, (known, _))| *known == name)?;
    Some(Method {
        owner,
        capability: (!capability.is_empty()).then_some(capability),
    })
}

type Group = (Owner, &'static [(&'static str, &'static str)]);

const GROUPS: &[Group] = &[
    (Owner::Host, HOST),
    (Owner::Paperclip, PAPERCLIP),
    (
        Owner::Elsewhere("a disk of the Paperclip server"),
        LOCAL_FOLDERS,
    ),
    (
        Owner::Elsewhere("plugin database namespaces, which need Postgres"),
        DATABASE,
    ),
    (
        Owner::Elsewhere("a store of secrets"),
        &[("secrets.resolve", "secrets.read-ref")],
    ),
    (
        Owner::Elsewhere("environment drivers"),
        &[("span.record", "environment.drivers.register")],
    ),
];

const HOST: &[(&str, &str)] = &[
    ("config.get", ""),
    ("state.get", "plugin.state.read"),
    ("state.set", "plugin.state.write"),
    ("state.delete", "plugin.state.write"),
    ("entities.upsert", ""),
    ("entities.list", ""),
    ("events.emit", "events.emit"),
    ("events.subscribe", "events.subscribe"),
    ("http.fetch", "http.outbound"),
    ("activity.log", "activity.log.write"),
    ("metrics.write", "metrics.write"),
    ("telemetry.track", "telemetry.track"),
    ("log", ""),
    ("companies.list", "companies.read"),
    ("companies.get", "companies.read"),
];

const LOCAL_FOLDERS: &[(&str, &str)] = &[
    ("localFolders.declarations", ""),
    ("localFolders.configure", "local.folders"),
    ("localFolders.status", "local.folders"),
    ("localFolders.list", "local.folders"),
    ("localFolders.readText", "local.folders"),
    ("localFolders.writeTextAtomic", "local.folders"),
    ("localFolders.deleteFile", "local.folders"),
];

const DATABASE: &[(&str, &str)] = &[
    ("db.namespace", "database.namespace.read"),
    ("db.query", "database.namespace.read"),
    ("db.execute", "database.namespace.write"),
];

const PAPERCLIP: &[(&str, &str)] = &[
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
    fn a_method_has_one_owner() {
        let names: Vec<&str> = GROUPS
            .iter()
            .flat_map(|(_, methods)| methods.iter().map(|(name, _)| *name))
            .collect();
        let distinct: BTreeSet<&str> = names.iter().copied().collect();
        assert_eq!(names.len(), distinct.len());
    }

    #[test]
    fn a_capability_is_looked_up_by_method() {
        assert_eq!(
            find("state.set").unwrap().capability,
            Some("plugin.state.write")
        );
        assert_eq!(find("config.get").unwrap().capability, None);
        assert!(find("state.everything").is_none());
    }
}
