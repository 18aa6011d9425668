//! The table itself: every method of the published plugin SDK 2026.916.1.
//!
//! A test holds it against that package: names, directions, capabilities and, by trying them,
//! the rules about companies.

use super::{Company, Direction, Handling, Method};

const fn method(
    name: &'static str,
    direction: Direction,
    capability: Option<&'static str>,
    company: Company,
) -> Method {
    Method {
        name,
        direction,
        capability,
        also: None,
        company,
        handling: Handling::Pass,
        is_repeatable: false,
    }
}

/// A host asks the worker.
const fn serves(name: &'static str, company: Company) -> Method {
    method(name, Direction::HostRequest, None, company)
}

/// A host tells the worker.
const fn hears(name: &'static str, company: Company) -> Method {
    method(name, Direction::HostNotification, None, company)
}

/// The worker tells hosts.
const fn tells(name: &'static str, company: Company) -> Method {
    method(name, Direction::WorkerNotification, None, company)
}

/// The worker asks a host; an empty capability is none.
const fn asks(name: &'static str, capability: &'static str, company: Company) -> Method {
    let capability = if capability.is_empty() {
        None
    } else {
        Some(capability)
    };
    method(name, Direction::WorkerRequest, capability, company)
}

impl Method {
    const fn handled(self, handling: Handling) -> Self {
        Self { handling, ..self }
    }

    const fn repeatable(self) -> Self {
        Self {
            is_repeatable: true,
            ..self
        }
    }

    /// Params that set `field` need `capability`, too.
    const fn also(self, field: &'static str, capability: &'static str) -> Self {
        Self {
            also: Some((field, capability)),
            ..self
        }
    }
}

/// Requests and notifications of hosts.
const TO_WORKER: &[Method] = &[
    serves("initialize", Company::None)
        .handled(Handling::Initialize)
        .repeatable(),
    serves("health", Company::None).repeatable(),
    serves("shutdown", Company::None)
        .handled(Handling::Detach)
        .repeatable(),
    serves("validateConfig", Company::None)
        .handled(Handling::FillParams)
        .repeatable(),
    serves("configChanged", Company::Optional).handled(Handling::FillParams),
    hears("onEvent", Company::Event).handled(Handling::Event),
    serves("runJob", Company::None).handled(Handling::Job),
    serves("handleWebhook", Company::None),
    serves("handleApiRequest", Company::Optional).handled(Handling::Direct),
    serves("getData", Company::Optional)
        .handled(Handling::Direct)
        .repeatable(),
    serves("performAction", Company::Actor).handled(Handling::Direct),
    serves("executeTool", Company::Run).handled(Handling::Direct),
    serves("detectExternalObjects", Company::Optional).repeatable(),
    serves("resolveExternalObject", Company::Optional).repeatable(),
    serves("refreshExternalObjects", Company::Optional).repeatable(),
    serves("environmentValidateConfig", Company::None).repeatable(),
    serves("environmentProbe", Company::Optional).repeatable(),
    serves("environmentAcquireLease", Company::Optional),
    serves("environmentResumeLease", Company::Optional),
    serves("environmentReleaseLease", Company::Optional),
    serves("environmentDestroyLease", Company::Optional),
    serves("environmentRealizeWorkspace", Company::Optional),
    serves("environmentExecute", Company::Optional),
    serves("environmentRunnerIngressEndpoint", Company::Optional).repeatable(),
    serves("environmentSyncIn", Company::Optional),
    serves("environmentSyncOut", Company::Optional),
    serves("environmentStartInteractiveSetup", Company::Optional),
    serves("environmentGetInteractiveSetup", Company::Optional).repeatable(),
    serves("environmentCaptureTemplate", Company::Optional),
    serves("environmentCancelInteractiveSetup", Company::Optional),
    serves("environmentDeleteTemplate", Company::Optional),
    serves("loginPtyOpen", Company::Optional),
    serves("loginPtyInput", Company::None).handled(Handling::Channel),
    serves("loginPtyStop", Company::None).handled(Handling::Channel),
    serves("loginPtyClose", Company::None).handled(Handling::Channel),
    serves("duplexChannelOpen", Company::Optional),
    serves("duplexChannelWrite", Company::None).handled(Handling::Channel),
    serves("duplexChannelStop", Company::None).handled(Handling::Channel),
    serves("duplexChannelClose", Company::None).handled(Handling::Channel),
    hears("agents.sessions.event", Company::None),
];

/// Requests of workers.
const TO_HOST: &[Method] = &[
    asks("config.get", "", Company::Own)
        .handled(Handling::FillResult)
        .repeatable(),
    asks("localFolders.declarations", "", Company::Optional).repeatable(),
    asks("localFolders.configure", "local.folders", Company::Required).repeatable(),
    asks("localFolders.status", "local.folders", Company::Required).repeatable(),
    asks("localFolders.list", "local.folders", Company::Required).repeatable(),
    asks("localFolders.readText", "local.folders", Company::Required).repeatable(),
    asks(
        "localFolders.writeTextAtomic",
        "local.folders",
        Company::Required,
    )
    .repeatable(),
    asks(
        "localFolders.deleteFile",
        "local.folders",
        Company::Required,
    )
    .repeatable(),
    asks("state.get", "plugin.state.read", Company::Optional).repeatable(),
    asks("state.set", "plugin.state.write", Company::Optional).repeatable(),
    asks("state.delete", "plugin.state.write", Company::Optional).repeatable(),
    asks("db.namespace", "database.namespace.read", Company::Optional).repeatable(),
    asks("db.query", "database.namespace.read", Company::Optional).repeatable(),
    asks("db.execute", "database.namespace.write", Company::Optional),
    asks("entities.upsert", "", Company::Optional),
    asks("entities.list", "", Company::Optional).repeatable(),
    asks("events.emit", "events.emit", Company::Required),
    asks("events.subscribe", "events.subscribe", Company::Filter)
        .handled(Handling::Subscribe)
        .repeatable(),
    asks("http.fetch", "http.outbound", Company::Optional),
    asks("secrets.resolve", "secrets.read-ref", Company::Own)
        .handled(Handling::Secret)
        .repeatable(),
    asks("activity.log", "activity.log.write", Company::Required),
    asks("metrics.write", "metrics.write", Company::Optional),
    asks("telemetry.track", "telemetry.track", Company::Optional),
    asks("log", "", Company::Optional),
    asks(
        "span.record",
        "environment.drivers.register",
        Company::Optional,
    ),
    asks("companies.list", "companies.read", Company::Listed).repeatable(),
    asks("companies.get", "companies.read", Company::Required).repeatable(),
    asks("projects.list", "projects.read", Company::Required).repeatable(),
    asks("projects.get", "projects.read", Company::Required).repeatable(),
    asks(
        "projects.listWorkspaces",
        "project.workspaces.read",
        Company::Required,
    )
    .repeatable(),
    asks(
        "projects.getPrimaryWorkspace",
        "project.workspaces.read",
        Company::Required,
    )
    .repeatable(),
    asks(
        "projects.getWorkspaceForIssue",
        "project.workspaces.read",
        Company::Required,
    )
    .repeatable(),
    asks(
        "executionWorkspaces.get",
        "execution.workspaces.read",
        Company::Required,
    )
    .repeatable(),
    asks(
        "projects.managed.get",
        "projects.managed",
        Company::Required,
    )
    .repeatable(),
    asks(
        "projects.managed.reconcile",
        "projects.managed",
        Company::Required,
    )
    .repeatable(),
    asks(
        "projects.managed.reset",
        "projects.managed",
        Company::Required,
    ),
    asks(
        "routines.managed.get",
        "routines.managed",
        Company::Required,
    )
    .repeatable(),
    asks(
        "routines.managed.reconcile",
        "routines.managed",
        Company::Required,
    ),
    asks(
        "routines.managed.reset",
        "routines.managed",
        Company::Required,
    ),
    asks(
        "routines.managed.update",
        "routines.managed",
        Company::Required,
    ),
    asks(
        "routines.managed.run",
        "routines.managed",
        Company::Required,
    ),
    asks("skills.managed.get", "skills.managed", Company::Required).repeatable(),
    asks(
        "skills.managed.reconcile",
        "skills.managed",
        Company::Required,
    )
    .repeatable(),
    asks("skills.managed.reset", "skills.managed", Company::Required),
    asks("issues.list", "issues.read", Company::Required).repeatable(),
    asks("issues.get", "issues.read", Company::Required).repeatable(),
    asks("issues.create", "issues.create", Company::Required),
    asks("issues.update", "issues.update", Company::Required),
    asks(
        "issues.relations.get",
        "issue.relations.read",
        Company::Required,
    )
    .repeatable(),
    asks(
        "issues.relations.setBlockedBy",
        "issue.relations.write",
        Company::Required,
    ),
    asks(
        "issues.relations.addBlockers",
        "issue.relations.write",
        Company::Required,
    ),
    asks(
        "issues.relations.removeBlockers",
        "issue.relations.write",
        Company::Required,
    ),
    asks(
        "issues.assertCheckoutOwner",
        "issues.checkout",
        Company::Required,
    )
    .repeatable(),
    asks("issues.getSubtree", "issue.subtree.read", Company::Required).repeatable(),
    asks("issues.requestWakeup", "issues.wakeup", Company::Required),
    asks("issues.requestWakeups", "issues.wakeup", Company::Required),
    asks(
        "issues.summaries.getOrchestration",
        "issues.orchestration.read",
        Company::Required,
    )
    .repeatable(),
    asks(
        "issues.listComments",
        "issue.comments.read",
        Company::Required,
    )
    .repeatable(),
    asks(
        "issues.createComment",
        "issue.comments.create",
        Company::Required,
    )
    .also("actorUserId", "issue.comments.create_human_attributed"),
    asks(
        "issues.createInteraction",
        "issue.interactions.create",
        Company::Required,
    ),
    asks(
        "issues.listInteractions",
        "issue.interactions.read",
        Company::Required,
    )
    .repeatable(),
    asks(
        "issues.respondInteraction",
        "issue.interactions.respond",
        Company::Required,
    ),
    asks(
        "issues.listAttachments",
        "issue.attachments.read",
        Company::Required,
    )
    .repeatable(),
    asks(
        "issues.getAttachmentContent",
        "issue.attachments.read",
        Company::Required,
    )
    .repeatable(),
    asks(
        "issues.documents.list",
        "issue.documents.read",
        Company::Required,
    )
    .repeatable(),
    asks(
        "issues.documents.get",
        "issue.documents.read",
        Company::Required,
    )
    .repeatable(),
    asks(
        "issues.documents.upsert",
        "issue.documents.write",
        Company::Required,
    ),
    asks(
        "issues.documents.delete",
        "issue.documents.write",
        Company::Required,
    ),
    asks("approvals.list", "approvals.read", Company::Required).repeatable(),
    asks("approvals.get", "approvals.read", Company::Required).repeatable(),
    asks("approvals.decide", "approvals.respond", Company::Required),
    asks("agents.list", "agents.read", Company::Required).repeatable(),
    asks("agents.get", "agents.read", Company::Required).repeatable(),
    asks("agents.pause", "agents.pause", Company::Required),
    asks("agents.resume", "agents.resume", Company::Required),
    asks("agents.invoke", "agents.invoke", Company::Required),
    asks("agents.managed.get", "agents.managed", Company::Required).repeatable(),
    asks(
        "agents.managed.reconcile",
        "agents.managed",
        Company::Required,
    ),
    asks("agents.managed.reset", "agents.managed", Company::Required),
    asks(
        "agents.sessions.create",
        "agent.sessions.create",
        Company::Required,
    ),
    asks(
        "agents.sessions.list",
        "agent.sessions.list",
        Company::Required,
    )
    .repeatable(),
    asks(
        "agents.sessions.sendMessage",
        "agent.sessions.send",
        Company::Required,
    ),
    asks(
        "agents.sessions.close",
        "agent.sessions.close",
        Company::Required,
    ),
    asks("goals.list", "goals.read", Company::Required).repeatable(),
    asks("goals.get", "goals.read", Company::Required).repeatable(),
    asks("goals.create", "goals.create", Company::Required),
    asks("goals.update", "goals.update", Company::Required),
    asks(
        "access.members.list",
        "access.members.read",
        Company::Required,
    )
    .repeatable(),
    asks(
        "access.members.get",
        "access.members.read",
        Company::Required,
    )
    .repeatable(),
    asks(
        "access.members.update",
        "access.members.write",
        Company::Required,
    ),
    asks(
        "access.invites.list",
        "access.invites.read",
        Company::Required,
    )
    .repeatable(),
    asks(
        "access.invites.create",
        "access.invites.write",
        Company::Required,
    ),
    asks(
        "access.invites.revoke",
        "access.invites.write",
        Company::Required,
    ),
    asks(
        "authorization.grants.list",
        "authorization.grants.read",
        Company::Required,
    )
    .repeatable(),
    asks(
        "authorization.grants.set",
        "authorization.grants.write",
        Company::Required,
    ),
    asks(
        "authorization.policies.summary",
        "authorization.policies.read",
        Company::Required,
    )
    .repeatable(),
    asks(
        "authorization.policies.get",
        "authorization.policies.read",
        Company::Required,
    )
    .repeatable(),
    asks(
        "authorization.policies.update",
        "authorization.policies.write",
        Company::Required,
    ),
    asks(
        "authorization.policies.previewAssignment",
        "authorization.policies.read",
        Company::Required,
    )
    .repeatable(),
    asks(
        "authorization.policies.explainAssignment",
        "authorization.policies.read",
        Company::Required,
    )
    .repeatable(),
    asks(
        "authorization.audit.search",
        "authorization.audit.read",
        Company::Required,
    )
    .repeatable(),
];

/// Notifications of workers. `log` comes as a request as well, and stands there.
const TOLD: &[Method] = &[
    tells("streams.open", Company::Required).handled(Handling::Streams),
    tells("streams.emit", Company::Required).handled(Handling::Streams),
    tells("streams.close", Company::Required).handled(Handling::Streams),
    tells("execute.log", Company::None),
    tells("loginPty.output", Company::None),
    tells("loginPty.exit", Company::None),
    tells("duplexChannel.data", Company::None),
    tells("duplexChannel.exit", Company::None),
];

/// All methods.
pub const TABLES: [&[Method]; 3] = [TO_WORKER, TO_HOST, TOLD];
