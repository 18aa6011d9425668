//! Rules that span fields: capabilities for features, values that must be unique, and
//! what slots and launchers of the user interface may be.

use std::collections::BTreeSet;

use serde_json::Value;

use super::ManifestError;
use super::shape::join;

type Result = std::result::Result<(), ManifestError>;

/// Features and the capabilities each needs.
const NEEDS: [(&str, &[&str]); 12] = [
    ("jobs", &["jobs.schedule"]),
    ("webhooks", &["webhooks.receive"]),
    ("tools", &["agent.tools.register"]),
    (
        "database",
        &["database.namespace.migrate", "database.namespace.read"],
    ),
    ("apiRoutes", &["api.routes.register"]),
    ("environmentDrivers", &["environment.drivers.register"]),
    ("agents", &["agents.managed"]),
    ("projects", &["projects.managed"]),
    ("routines", &["routines.managed"]),
    ("skills", &["skills.managed"]),
    ("localFolders", &["local.folders"]),
    (
        "objectReferences",
        &["external.objects.detect", "external.objects.read"],
    ),
];

/// Lists and the key that must be unique in each.
const UNIQUE: [(&str, &str); 11] = [
    ("jobs", "jobKey"),
    ("webhooks", "endpointKey"),
    ("tools", "name"),
    ("apiRoutes", "routeKey"),
    ("environmentDrivers", "driverKey"),
    ("agents", "agentKey"),
    ("projects", "projectKey"),
    ("routines", "routineKey"),
    ("skills", "skillKey"),
    ("localFolders", "folderKey"),
    ("objectReferences", "providerKey"),
];

/// Places of the user interface and the capability each needs.
const PLACES: [(&str, &str); 15] = [
    ("page", "ui.page.register"),
    ("routeSidebar", "ui.sidebar.register"),
    ("companySettingsPage", "instance.settings.register"),
    ("settingsPage", "instance.settings.register"),
    ("sidebar", "ui.sidebar.register"),
    ("sidebarPanel", "ui.sidebar.register"),
    ("projectSidebarItem", "ui.sidebar.register"),
    ("dashboardWidget", "ui.dashboardWidget.register"),
    ("detailTab", "ui.detailTab.register"),
    ("taskDetailView", "ui.detailTab.register"),
    ("globalToolbarButton", "ui.action.register"),
    ("toolbarButton", "ui.action.register"),
    ("contextMenuItem", "ui.action.register"),
    ("commentAnnotation", "ui.commentAnnotation.register"),
    ("commentContextMenuItem", "ui.action.register"),
];

/// First segments that are Paperclip's own.
const RESERVED_ROUTES: [&str; 18] = [
    "dashboard",
    "onboarding",
    "companies",
    "company",
    "settings",
    "plugins",
    "org",
    "agents",
    "projects",
    "issues",
    "goals",
    "approvals",
    "costs",
    "activity",
    "inbox",
    "workspaces",
    "design-guide",
    "tests",
];
/// Those of the company's settings.
const RESERVED_SETTINGS: [&str; 7] = [
    "general",
    "environments",
    "access",
    "members",
    "invites",
    "secrets",
    "instance",
];

pub(super) fn check(manifest: &Value) -> Result {
    let host = &manifest["minimumHostVersion"];
    let paperclip = &manifest["minimumPaperclipVersion"];
    if !host.is_null() && !paperclip.is_null() && host != paperclip {
        return refuse(
            "minimumPaperclipVersion",
            "another than minimumHostVersion",
            "the same version",
        );
    }
    for (feature, capabilities) in NEEDS {
        if is_declared(&manifest[feature]) {
            capabilities
                .iter()
                .try_for_each(|capability| need(manifest, feature, capability))?;
        }
    }
    for (list, key) in UNIQUE {
        check_unique(list, items(&manifest[list]).map(|item| &item[key]), key)?;
    }
    check_routes(manifest)?;
    check_database(&manifest["database"])?;
    check_drivers(manifest)?;
    check_skills(manifest)?;
    check_references(manifest)?;
    check_interface(manifest)
}

fn is_declared(feature: &Value) -> bool {
    feature.is_object() || feature.as_array().is_some_and(|items| !items.is_empty())
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn refuse(field: &str, found: impl Into<String>, wanted: impl Into<String>) -> Result {
    Err(ManifestError::new(field, found, wanted))
}

fn need(manifest: &Value, field: &str, capability: &str) -> Result {
    if items(&manifest["capabilities"]).any(|declared| declared == capability) {
        return Ok(());
    }
    refuse(
        field,
        "declared",
        format!("the capability {capability} for it"),
    )
}

fn check_unique<'a>(list: &str, values: impl Iterator<Item = &'a Value>, key: &str) -> Result {
    let mut seen = BTreeSet::new();
    for (at, value) in values.enumerate() {
        if !seen.insert(value.as_str().unwrap_or_default()) {
            let field = if key.is_empty() {
                format!("{list}[{at}]")
            } else {
                format!("{list}[{at}].{key}")
            };
            return refuse(&field, format!("{value}, as one before"), "each only once");
        }
    }
    Ok(())
}

fn check_routes(manifest: &Value) -> Result {
    let mut seen = BTreeSet::new();
    for (at, route) in items(&manifest["apiRoutes"]).enumerate() {
        let pair = (route["method"].as_str(), route["path"].as_str());
        if !seen.insert(pair) {
            return refuse(
                &format!("apiRoutes[{at}].path"),
                "a path and method of one before",
                "each only once",
            );
        }
        let resolution = &route["companyResolution"];
        let wanted = match resolution["from"].as_str() {
            Some("issue") => "param",
            Some(_) => "key",
            None => continue,
        };
        if !resolution[wanted].is_string() {
            return refuse(
                &format!("apiRoutes[{at}].companyResolution.{wanted}"),
                "missing",
                "a string",
            );
        }
    }
    Ok(())
}

fn check_database(database: &Value) -> Result {
    check_unique(
        "database.coreReadTables",
        items(&database["coreReadTables"]),
        "",
    )
}

fn check_drivers(manifest: &Value) -> Result {
    for (at, driver) in items(&manifest["environmentDrivers"]).enumerate() {
        let path = format!("environmentDrivers[{at}]");
        let (new, old) = (
            driver["supportsLoginPty"].as_bool(),
            driver["supportsSetupTokenLogin"].as_bool(),
        );
        if new.zip(old).is_some_and(|(new, old)| new != old) {
            return refuse(
                &join(&path, "supportsSetupTokenLogin"),
                "another than supportsLoginPty",
                "the same",
            );
        }
        let unset = items(&driver["templateConfigBinding"]["unsetFields"]);
        check_unique(&join(&path, "templateConfigBinding.unsetFields"), unset, "")?;
    }
    Ok(())
}

fn check_skills(manifest: &Value) -> Result {
    for (at, skill) in items(&manifest["skills"]).enumerate() {
        let path = format!("skills[{at}].files");
        check_unique(
            &path,
            items(&skill["files"]).map(|file| &file["path"]),
            "path",
        )?;
        let is_main = |file: &Value| {
            file["path"]
                .as_str()
                .is_some_and(|p| p.eq_ignore_ascii_case("SKILL.md"))
        };
        if items(&skill["files"]).any(is_main) {
            return refuse(&path, "with a SKILL.md", "that text in `markdown`");
        }
    }
    Ok(())
}

fn check_references(manifest: &Value) -> Result {
    for (at, provider) in items(&manifest["objectReferences"]).enumerate() {
        let path = format!("objectReferences[{at}]");
        check_unique(
            &join(&path, "objectTypes"),
            items(&provider["objectTypes"]),
            "",
        )?;
        check_unique(
            &join(&path, "webhookEndpointKeys"),
            items(&provider["webhookEndpointKeys"]),
            "",
        )?;
        for key in items(&provider["webhookEndpointKeys"]) {
            if !items(&manifest["webhooks"]).any(|webhook| webhook["endpointKey"] == *key) {
                return refuse(
                    &join(&path, "webhookEndpointKeys"),
                    format!("naming {key}"),
                    "declared webhooks",
                );
            }
        }
        let policy = &provider["refreshPolicy"];
        let both = policy["defaultTtlSeconds"]
            .as_f64()
            .zip(policy["staleAfterSeconds"].as_f64());
        if both.is_some_and(|(fresh, stale)| stale < fresh) {
            return refuse(
                &join(&path, "refreshPolicy.staleAfterSeconds"),
                "less than defaultTtlSeconds",
                "at least that",
            );
        }
    }
    Ok(())
}

fn check_interface(manifest: &Value) -> Result {
    let ui = &manifest["ui"];
    let slots: Vec<_> = items(&ui["slots"]).collect();
    let lists = ["launchers", "ui.launchers"]
        .into_iter()
        .zip([&manifest["launchers"], &ui["launchers"]]);
    let launchers: Vec<_> = lists
        .flat_map(|(list, values)| {
            items(values)
                .enumerate()
                .map(move |(at, item)| (format!("{list}[{at}]"), item))
        })
        .collect();
    if (!slots.is_empty() || !launchers.is_empty()) && !manifest["entrypoints"]["ui"].is_string() {
        return refuse(
            "entrypoints.ui",
            "missing",
            "the folder of the user interface",
        );
    }
    check_unique("ui.slots", slots.iter().map(|slot| &slot["id"]), "id")?;
    check_unique(
        "ui.launchers",
        launchers.iter().map(|(_, launcher)| &launcher["id"]),
        "id",
    )?;
    for (at, slot) in slots.iter().enumerate() {
        check_slot(manifest, &format!("ui.slots[{at}]"), slot)?;
    }
    launchers
        .iter()
        .try_for_each(|(path, launcher)| check_launcher(manifest, path, launcher))
}

/// What a place needs, whether a slot or a launcher takes it.
fn check_place(manifest: &Value, path: &str, place: &str, item: &Value) -> Result {
    if let Some((_, capability)) = PLACES.iter().find(|(name, _)| *name == place) {
        need(manifest, path, capability)?;
    }
    let has_type = |wanted: &str| items(&item["entityTypes"]).any(|found| found == wanted);
    let field = join(path, "entityTypes");
    match place {
        "projectSidebarItem" if !has_type("project") => {
            refuse(&field, "without project", "project among them")
        }
        "detailTab" | "taskDetailView" | "contextMenuItem"
            if items(&item["entityTypes"]).next().is_none() =>
        {
            refuse(&field, "empty", "at least one")
        }
        _ => Ok(()),
    }
}

fn check_slot(manifest: &Value, path: &str, slot: &Value) -> Result {
    let kind = slot["type"].as_str().unwrap_or_default();
    check_place(manifest, path, kind, slot)?;
    let is_for_comments = items(&slot["entityTypes"]).any(|found| found == "comment");
    if matches!(kind, "commentAnnotation" | "commentContextMenuItem") && !is_for_comments {
        return refuse(
            &join(path, "entityTypes"),
            "without comment",
            "comment among them",
        );
    }
    let field = join(path, "routePath");
    match (kind, slot["routePath"].as_str()) {
        ("routeSidebar" | "companySettingsPage", None) => {
            refuse(&field, "missing", format!("a path for a {kind}"))
        }
        ("page" | "routeSidebar" | "companySettingsPage", Some(route)) => {
            let is_reserved = RESERVED_ROUTES.contains(&route)
                || (kind == "companySettingsPage" && RESERVED_SETTINGS.contains(&route));
            if is_reserved {
                refuse(&field, format!("`{route}`, which is reserved"), "another")
            } else {
                Ok(())
            }
        }
        (_, Some(_)) => refuse(&field, "given", format!("none for a {kind}")),
        (_, None) => Ok(()),
    }
}

fn check_launcher(manifest: &Value, path: &str, launcher: &Value) -> Result {
    check_place(
        manifest,
        path,
        launcher["placementZone"].as_str().unwrap_or_default(),
        launcher,
    )?;
    let action = launcher["action"]["type"].as_str().unwrap_or_default();
    let target = launcher["action"]["target"].as_str().unwrap_or_default();
    let environment = launcher["render"]["environment"].as_str();
    let (target_field, render_field) = (join(path, "action.target"), join(path, "render"));
    match (action, environment) {
        ("performAction", _) if target.contains('/') => {
            refuse(&target_field, "a path", "the name of an action")?;
        }
        ("performAction", Some(_)) => refuse(&render_field, "given", "none for performAction")?,
        ("navigate", _) if target.starts_with("http://") || target.starts_with("https://") => {
            refuse(&target_field, "a URL", "a path of Paperclip")?;
        }
        ("openModal" | "openDrawer" | "openPopover", None) => {
            refuse(
                &render_field,
                "missing",
                format!("where to render for {action}"),
            )?;
        }
        ("openModal", Some("hostInline")) | ("openPopover", Some("hostRoute")) => {
            refuse(
                &render_field,
                environment.unwrap_or_default(),
                format!("another environment for {action}"),
            )?;
        }
        ("openDrawer", Some(found)) if !matches!(found, "hostOverlay" | "iframe") => {
            refuse(&render_field, found, "hostOverlay or iframe for openDrawer")?;
        }
        _ => {}
    }
    check_bounds(path, &launcher["render"])
}

fn check_bounds(path: &str, render: &Value) -> Result {
    let (Some(environment), Some(bounds)) =
        (render["environment"].as_str(), render["bounds"].as_str())
    else {
        return Ok(());
    };
    let allowed: &[&str] = match environment {
        "hostInline" => &["inline", "compact", "default"],
        "hostRoute" => &["default", "wide", "full"],
        "hostOverlay" | "iframe" => &["compact", "default", "wide", "full"],
        _ => &[],
    };
    if allowed.contains(&bounds) {
        return Ok(());
    }
    let wanted = if allowed.is_empty() {
        "none".to_owned()
    } else {
        format!("one of {}", allowed.join(", "))
    };
    refuse(
        &join(path, "render.bounds"),
        bounds,
        format!("{wanted} for {environment}"),
    )
}
