//! The table of fields: what each may hold, for itself.

use super::shape::Rule::{Boolean, Integer, MapOf, Number, Object, OneOf, Pattern, Schema};
use super::shape::{ANY, Field, Record, Rule, list, list_of, optional, required, text};
use super::text as is;

const fn loose(fields: &'static [Field]) -> Record {
    Record {
        fields,
        strict: false,
    }
}

const fn strict(fields: &'static [Field]) -> Record {
    Record {
        fields,
        strict: true,
    }
}

const VERSION: Rule = Pattern {
    is: is::is_version,
    words: "a version such as 1.2.3",
    max: ANY,
};
const ID: Rule = Pattern {
    is: is::is_id,
    words: "lower-case letters, digits, '.', '_' and '-'",
    max: ANY,
};
const KEY: Rule = Pattern {
    is: is::is_key,
    words: "lower-case letters, digits, '.', '_', ':' and '-'",
    max: 100,
};
const CRON: Rule = Pattern {
    is: is::is_cron,
    words: "five cron fields of digits",
    max: ANY,
};
const UUID: Rule = Pattern {
    is: is::is_uuid,
    words: "a UUID",
    max: ANY,
};
const RELATIVE: Rule = Pattern {
    is: is::is_relative_path,
    words: "a relative path",
    max: ANY,
};
const PLAIN_PATH: Rule = Pattern {
    is: is::is_plain_path,
    words: "a relative path",
    max: 500,
};
const BINDING: Rule = Pattern {
    is: is::is_binding_field,
    words: "the name of a field",
    max: 100,
};
const WORD: Rule = text(1, ANY);
const MAX_INTEGER: i64 = 9_007_199_254_740_991;

pub(super) const CATEGORIES: [&str; 4] = ["connector", "workspace", "automation", "ui"];

/// Every capability of Paperclip 2026.916.1.
pub(super) const CAPABILITIES: [&str; 79] = [
    "companies.read",
    "projects.read",
    "project.workspaces.read",
    "execution.workspaces.read",
    "issues.read",
    "issue.relations.read",
    "issue.subtree.read",
    "issue.comments.read",
    "issue.interactions.read",
    "issue.attachments.read",
    "approvals.read",
    "issue.documents.read",
    "agents.read",
    "goals.read",
    "activity.read",
    "costs.read",
    "issues.orchestration.read",
    "access.members.read",
    "access.invites.read",
    "authorization.grants.read",
    "authorization.policies.read",
    "authorization.audit.read",
    "database.namespace.read",
    "goals.create",
    "goals.update",
    "issues.create",
    "issues.update",
    "issue.relations.write",
    "issues.checkout",
    "issues.wakeup",
    "issue.comments.create",
    "issue.comments.create_human_attributed",
    "issue.interactions.create",
    "issue.interactions.respond",
    "approvals.respond",
    "issue.documents.write",
    "projects.managed",
    "routines.managed",
    "skills.managed",
    "agents.pause",
    "agents.resume",
    "agents.invoke",
    "agents.managed",
    "access.members.write",
    "access.invites.write",
    "authorization.grants.write",
    "authorization.policies.write",
    "agent.sessions.create",
    "agent.sessions.list",
    "agent.sessions.send",
    "agent.sessions.close",
    "activity.log.write",
    "metrics.write",
    "telemetry.track",
    "database.namespace.migrate",
    "database.namespace.write",
    "external.objects.detect",
    "external.objects.read",
    "external.objects.write",
    "external.objects.refresh",
    "plugin.state.read",
    "plugin.state.write",
    "events.subscribe",
    "events.emit",
    "jobs.schedule",
    "webhooks.receive",
    "api.routes.register",
    "http.outbound",
    "secrets.read-ref",
    "environment.drivers.register",
    "local.folders",
    "agent.tools.register",
    "instance.settings.register",
    "ui.sidebar.register",
    "ui.page.register",
    "ui.detailTab.register",
    "ui.dashboardWidget.register",
    "ui.commentAnnotation.register",
    "ui.action.register",
];

const ENTRYPOINTS: Record = loose(&[required("worker", WORD), optional("ui", WORD)]);

const JOB: Record = loose(&[
    required("jobKey", WORD),
    required("displayName", WORD),
    optional("description", text(0, ANY)),
    optional("schedule", CRON),
]);

const WEBHOOK: Record = loose(&[
    required("endpointKey", WORD),
    required("displayName", WORD),
    optional("description", text(0, ANY)),
]);

const TOOL: Record = loose(&[
    required("name", WORD),
    required("displayName", WORD),
    required("description", WORD),
    required("parametersSchema", Schema),
]);

const CORE_TABLES: [&str; 13] = [
    "companies",
    "projects",
    "goals",
    "agents",
    "issues",
    "issue_documents",
    "issue_relations",
    "issue_comments",
    "heartbeat_runs",
    "cost_events",
    "approvals",
    "issue_approvals",
    "budget_incidents",
];

const DATABASE: Record = loose(&[
    required("migrationsDir", RELATIVE),
    optional(
        "namespaceSlug",
        Pattern {
            is: is::is_namespace_slug,
            words: "lower-case letters, digits and '_'",
            max: 40,
        },
    ),
    optional("coreReadTables", list(&OneOf(&CORE_TABLES))),
]);

const COMPANY_RESOLUTION: Record = loose(&[
    required("from", OneOf(&["body", "query", "issue"])),
    optional("key", WORD),
    optional("param", WORD),
]);

const API_ROUTE: Record = loose(&[
    required("routeKey", KEY),
    required("method", OneOf(&["GET", "POST", "PATCH", "DELETE"])),
    required(
        "path",
        Pattern {
            is: is::is_route_path,
            words: "a path below the plugin's own prefix",
            max: ANY,
        },
    ),
    required(
        "auth",
        OneOf(&["board", "agent", "board-or-agent", "webhook"]),
    ),
    required("capability", OneOf(&["api.routes.register"])),
    optional(
        "checkoutPolicy",
        OneOf(&["none", "required-for-agent-in-progress", "always-for-agent"]),
    ),
    optional("companyResolution", Rule::Record(&COMPANY_RESOLUTION)),
]);

const TEMPLATE_CONFIG_BINDING: Record = strict(&[
    required("field", BINDING),
    optional("unsetFields", list_of(&BINDING, 0, 20)),
]);

const SANDBOX_CAPABILITIES: Record = strict(&[
    optional("reusableLeases", Boolean),
    optional("nativeSyncIn", Boolean),
    optional("nativeSyncOut", Boolean),
    optional("persistentProcessSessions", Boolean),
    optional("independentControlCommands", Boolean),
    optional("incrementalSessionOutput", Boolean),
    optional("concurrentSyncOperations", Boolean),
    optional("duplexCommandStream", Boolean),
    optional("runnerWebSocketIngress", Boolean),
]);

const ENVIRONMENT_DRIVER: Record = strict(&[
    required("driverKey", ID),
    optional("kind", OneOf(&["environment_driver", "sandbox_provider"])),
    required("displayName", text(1, 100)),
    optional("description", text(0, 500)),
    required("configSchema", Schema),
    optional("supportsReusableLeases", Boolean),
    optional("supportsInteractiveSetup", Boolean),
    optional("supportsTemplateCapture", Boolean),
    optional("supportsTemplateDelete", Boolean),
    optional("supportsLoginPty", Boolean),
    optional("supportsSetupTokenLogin", Boolean),
    optional("supportsTasks", Boolean),
    optional(
        "interactiveSetupConnectionTypes",
        list_of(&text(1, 100), 0, 10),
    ),
    optional("templateRefKind", text(1, 100)),
    optional("templateIdentityPaths", list_of(&text(1, 200), 0, 20)),
    optional(
        "templateConfigBinding",
        Rule::Record(&TEMPLATE_CONFIG_BINDING),
    ),
    optional("sandboxCapabilities", Rule::Record(&SANDBOX_CAPABILITIES)),
]);

const INSTRUCTIONS: Record = loose(&[
    optional("entryFile", text(0, 200)),
    optional("content", text(0, 200_000)),
    optional("files", MapOf(&text(0, 200_000))),
    optional("assetPath", text(0, 500)),
]);

const AGENT: Record = loose(&[
    required("agentKey", KEY),
    required("displayName", text(1, 100)),
    optional("role", text(0, 100)),
    optional("title", text(0, 200)),
    optional("icon", text(0, 100)),
    optional("capabilities", text(0, 2000)),
    optional("adapterType", text(0, 100)),
    optional("adapterPreference", list_of(&text(0, ANY), 0, 10)),
    optional("adapterConfig", Object),
    optional("runtimeConfig", Object),
    optional("permissions", Object),
    optional("status", OneOf(&["idle", "paused"])),
    optional(
        "budgetMonthlyCents",
        Integer {
            min: 0,
            max: MAX_INTEGER,
        },
    ),
    optional("instructions", Rule::Record(&INSTRUCTIONS)),
]);

const PROJECT: Record = loose(&[
    required("projectKey", KEY),
    required("displayName", text(1, 120)),
    optional("description", text(0, 2000)),
    optional(
        "status",
        OneOf(&[
            "backlog",
            "planned",
            "in_progress",
            "completed",
            "cancelled",
        ]),
    ),
    optional("color", text(0, 32)),
    optional("settings", Object),
]);

const RESOURCE_REFERENCE: Record = loose(&[
    optional("pluginKey", text(0, ANY)),
    required("resourceKind", OneOf(&["agent", "project"])),
    required("resourceKey", KEY),
]);

const VARIABLE: Record = loose(&[
    required(
        "name",
        Pattern {
            is: is::is_variable,
            words: "a letter, then letters, digits and '_'",
            max: ANY,
        },
    ),
    optional(
        "type",
        OneOf(&["text", "textarea", "number", "boolean", "select", "date"]),
    ),
    optional("options", list_of(&text(0, ANY), 0, 50)),
]);

const TRIGGER: Record = loose(&[
    required("kind", OneOf(&["schedule", "webhook", "api"])),
    optional("label", text(0, 120)),
    optional("enabled", Boolean),
    optional("cronExpression", text(0, ANY)),
    optional("timezone", text(0, ANY)),
    optional(
        "signingMode",
        OneOf(&["bearer", "hmac_sha256", "github_hmac", "none"]),
    ),
    optional(
        "replayWindowSec",
        Integer {
            min: 30,
            max: 86_400,
        },
    ),
]);

const ISSUE_TEMPLATE: Record = loose(&[
    optional("surfaceVisibility", OneOf(&["default", "plugin_operation"])),
    optional("originId", text(0, 255)),
    optional("billingCode", text(0, 200)),
]);

const ROUTINE: Record = loose(&[
    required("routineKey", KEY),
    required("title", text(1, 200)),
    optional("description", text(0, 10_000)),
    optional("assigneeRef", Rule::Record(&RESOURCE_REFERENCE)),
    optional("projectRef", Rule::Record(&RESOURCE_REFERENCE)),
    optional("goalId", UUID),
    optional("status", OneOf(&["active", "paused", "archived"])),
    optional("priority", OneOf(&["critical", "high", "medium", "low"])),
    optional(
        "concurrencyPolicy",
        OneOf(&["coalesce_if_active", "always_enqueue", "skip_if_active"]),
    ),
    optional(
        "catchUpPolicy",
        OneOf(&["skip_missed", "enqueue_missed_with_cap"]),
    ),
    optional(
        "activityGatePolicy",
        OneOf(&["always", "require_external_activity"]),
    ),
    optional("activityGateScope", OneOf(&["company", "project"])),
    optional("variables", list(&Rule::Record(&VARIABLE))),
    optional("triggers", list_of(&Rule::Record(&TRIGGER), 0, 20)),
    optional("issueTemplate", Rule::Record(&ISSUE_TEMPLATE)),
]);

const SKILL_FILE: Record = loose(&[
    required("path", PLAIN_PATH),
    required("content", text(0, 200_000)),
]);

const SKILL: Record = loose(&[
    required("skillKey", KEY),
    required("displayName", text(1, 100)),
    optional("slug", KEY),
    optional("description", text(0, 2000)),
    optional("markdown", text(0, 200_000)),
    optional("files", list_of(&Rule::Record(&SKILL_FILE), 0, 50)),
]);

const LOCAL_FOLDER: Record = loose(&[
    required("folderKey", KEY),
    required("displayName", text(1, 100)),
    optional("description", text(0, 500)),
    optional("access", OneOf(&["read", "readWrite"])),
    optional("requiredDirectories", list(&PLAIN_PATH)),
    optional("requiredFiles", list(&PLAIN_PATH)),
]);

const REFRESH_POLICY: Record = loose(&[
    optional(
        "defaultTtlSeconds",
        Integer {
            min: 0,
            max: 86_400,
        },
    ),
    optional(
        "staleAfterSeconds",
        Integer {
            min: 0,
            max: 604_800,
        },
    ),
]);

const OBJECT_REFERENCE: Record = loose(&[
    required(
        "providerKey",
        Pattern {
            is: is::is_provider_key,
            words: "a lower-case letter, then letters, digits, '_', '.' and '-'",
            max: 80,
        },
    ),
    required("displayName", text(1, 100)),
    required(
        "objectTypes",
        list_of(
            &Pattern {
                is: is::is_object_type,
                words: "a lower-case letter, then letters, digits and '_'",
                max: 80,
            },
            1,
            ANY,
        ),
    ),
    optional("urlPatterns", list(&text(0, 500))),
    optional("refreshPolicy", Rule::Record(&REFRESH_POLICY)),
    optional("webhookEndpointKeys", list(&WORD)),
]);

const ENTITY_TYPES: [&str; 8] = [
    "project",
    "issue",
    "agent",
    "goal",
    "run",
    "comment",
    "execution_workspace",
    "project_workspace",
];

/// Places that take slots and launchers, then those for slots only.
const SLOT_TYPES: [&str; 17] = [
    "page",
    "settingsPage",
    "sidebar",
    "sidebarPanel",
    "projectSidebarItem",
    "dashboardWidget",
    "detailTab",
    "taskDetailView",
    "globalToolbarButton",
    "toolbarButton",
    "contextMenuItem",
    "commentAnnotation",
    "commentContextMenuItem",
    "routeSidebar",
    "companySettingsPage",
    "issueHeaderAction",
    "appShellOverlay",
];
const LAUNCHER_ZONES: [&str; 13] = [
    "page",
    "settingsPage",
    "sidebar",
    "sidebarPanel",
    "projectSidebarItem",
    "dashboardWidget",
    "detailTab",
    "taskDetailView",
    "globalToolbarButton",
    "toolbarButton",
    "contextMenuItem",
    "commentAnnotation",
    "commentContextMenuItem",
];

const SLOT: Record = loose(&[
    required("type", OneOf(&SLOT_TYPES)),
    required("id", WORD),
    required("displayName", WORD),
    required("exportName", WORD),
    optional("entityTypes", list(&OneOf(&ENTITY_TYPES))),
    optional(
        "routePath",
        Pattern {
            is: is::is_route_segment,
            words: "lower-case letters, digits and '-'",
            max: ANY,
        },
    ),
    optional(
        "order",
        Integer {
            min: -MAX_INTEGER,
            max: MAX_INTEGER,
        },
    ),
]);

const ACTION: Record = loose(&[
    required(
        "type",
        OneOf(&[
            "navigate",
            "openModal",
            "openDrawer",
            "openPopover",
            "performAction",
            "deepLink",
        ]),
    ),
    required("target", WORD),
    optional("params", Object),
]);

const RENDER: Record = loose(&[
    required(
        "environment",
        OneOf(&[
            "hostInline",
            "hostOverlay",
            "hostRoute",
            "external",
            "iframe",
        ]),
    ),
    optional(
        "bounds",
        OneOf(&["inline", "compact", "default", "wide", "full"]),
    ),
]);

const LAUNCHER: Record = loose(&[
    required("id", WORD),
    required("displayName", WORD),
    optional("description", text(0, ANY)),
    required("placementZone", OneOf(&LAUNCHER_ZONES)),
    optional("exportName", WORD),
    optional("entityTypes", list(&OneOf(&ENTITY_TYPES))),
    optional(
        "order",
        Integer {
            min: -MAX_INTEGER,
            max: MAX_INTEGER,
        },
    ),
    required("action", Rule::Record(&ACTION)),
    optional("render", Rule::Record(&RENDER)),
]);

const UI: Record = loose(&[
    optional("slots", list_of(&Rule::Record(&SLOT), 1, ANY)),
    optional("launchers", list(&Rule::Record(&LAUNCHER))),
]);

/// The whole manifest.
pub(super) const MANIFEST: Record = loose(&[
    required("id", ID),
    required("apiVersion", Number(1)),
    required("version", VERSION),
    required("displayName", text(1, 100)),
    required("description", text(1, 500)),
    required("author", text(1, 200)),
    required("categories", list_of(&OneOf(&CATEGORIES), 1, ANY)),
    optional("minimumHostVersion", VERSION),
    optional("minimumPaperclipVersion", VERSION),
    required("capabilities", list_of(&OneOf(&CAPABILITIES), 1, ANY)),
    required("entrypoints", Rule::Record(&ENTRYPOINTS)),
    optional("instanceConfigSchema", Schema),
    optional("jobs", list(&Rule::Record(&JOB))),
    optional("webhooks", list(&Rule::Record(&WEBHOOK))),
    optional("tools", list(&Rule::Record(&TOOL))),
    optional("database", Rule::Record(&DATABASE)),
    optional("apiRoutes", list(&Rule::Record(&API_ROUTE))),
    optional(
        "environmentDrivers",
        list(&Rule::Record(&ENVIRONMENT_DRIVER)),
    ),
    optional("agents", list(&Rule::Record(&AGENT))),
    optional("projects", list(&Rule::Record(&PROJECT))),
    optional("routines", list(&Rule::Record(&ROUTINE))),
    optional("skills", list(&Rule::Record(&SKILL))),
    optional("localFolders", list(&Rule::Record(&LOCAL_FOLDER))),
    optional("objectReferences", list(&Rule::Record(&OBJECT_REFERENCE))),
    optional("launchers", list(&Rule::Record(&LAUNCHER))),
    optional("ui", Rule::Record(&UI)),
]);

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn capabilities_are_79_and_none_is_there_twice() {
        let unique: BTreeSet<_> = super::CAPABILITIES.iter().collect();
        assert_eq!(unique.len(), 79);
    }
}
