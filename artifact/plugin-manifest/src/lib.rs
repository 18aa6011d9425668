//! Paperclip's rules for a plugin manifest, checked again in Rust.
//!
//! [`releases`] says which release of Paperclip added what.
//! `shape` says how a rule for one value reads, `fields` is the table of all fields,
//! `features` holds what spans fields: capabilities, uniqueness, routes and the user interface.

mod features;
mod fields;
pub mod releases;
mod shape;
mod text;

use serde_json::Value;

/// Stands for the field where the manifest itself is meant.
pub const WHOLE_MANIFEST: &str = "the manifest";

/// A manifest breaks a rule.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("plugin manifest: `{field}` is {found}, wanted {wanted}")]
pub struct ManifestError {
    field: String,
    found: String,
    wanted: String,
}

impl ManifestError {
    fn new(field: &str, found: impl Into<String>, wanted: impl Into<String>) -> Self {
        let field = if field.is_empty() {
            WHOLE_MANIFEST
        } else {
            field
        };
        Self {
            field: field.to_owned(),
            found: found.into(),
            wanted: wanted.into(),
        }
    }

    /// The field, as in `tools[1].name`, or [`WHOLE_MANIFEST`].
    #[must_use]
    pub fn field(&self) -> &str {
        &self.field
    }

    /// The value found.
    #[must_use]
    pub fn found(&self) -> &str {
        &self.found
    }

    /// The rule.
    #[must_use]
    pub fn wanted(&self) -> &str {
        &self.wanted
    }

    /// The error that the manifest is larger than a bound, both in bytes.
    #[must_use]
    pub fn too_large(size: u64, limit: u64) -> Self {
        Self::new("", format!("{size} bytes"), format!("at most {limit}"))
    }
}

/// Checks a manifest against every rule of Paperclip's install, of whichever known release takes
/// most; see [`releases`].
///
/// # Errors
/// Names the first field that breaks a rule, what was found and what is wanted.
pub fn validate(manifest: &Value) -> Result<(), ManifestError> {
    shape::check_record("", manifest, &fields::MANIFEST)?;
    features::check(manifest)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn minimal() -> Value {
        json!({
            "id": "acme.x", "apiVersion": 1, "version": "1.2.0", "displayName": "X", "description": "d",
            "author": "a", "categories": ["connector"], "capabilities": ["plugin.state.read"],
            "entrypoints": {"worker": "./dist/worker.js"}
        })
    }

    fn with(path: &str, value: Value) -> Value {
        let mut manifest = minimal();
        manifest[path] = value;
        manifest
    }

    fn refusal(manifest: &Value) -> String {
        validate(manifest).unwrap_err().to_string()
    }

    #[test]
    fn smallest_manifest_passes_and_unknown_keys_do_not_matter() {
        assert_eq!(validate(&minimal()), Ok(()));
        assert_eq!(validate(&with("agentLifecycle", json!({"x": 1}))), Ok(()));
    }

    #[test]
    fn message_names_field_finding_and_wish() {
        let message = refusal(&with("apiVersion", json!("1")));
        assert_eq!(
            message,
            "plugin manifest: `apiVersion` is the string \"1\", wanted the number 1"
        );
    }

    #[test]
    fn each_required_field_is_required() {
        for field in [
            "id",
            "apiVersion",
            "version",
            "displayName",
            "description",
            "author",
            "categories",
            "capabilities",
            "entrypoints",
        ] {
            let mut manifest = minimal();
            manifest.as_object_mut().unwrap().remove(field);
            assert!(
                refusal(&manifest).contains(&format!("`{field}` is missing")),
                "{field}"
            );
        }
    }

    #[test]
    fn values_that_break_the_rule_of_one_field_are_refused() {
        for (field, value) in [
            ("id", json!("Acme")),
            ("id", json!("")),
            ("version", json!("1.2")),
            ("version", json!("1.2.3-")),
            ("displayName", json!("x".repeat(101))),
            ("categories", json!([])),
            ("categories", json!(["other"])),
            ("capabilities", json!([])),
            ("capabilities", json!(["agents.lifecycle.manage"])),
            ("entrypoints", json!({})),
            ("minimumHostVersion", json!("soon")),
            ("instanceConfigSchema", json!([])),
            ("instanceConfigSchema", json!({"properties": {}})),
            ("jobs", json!({})),
            ("ui", json!({"slots": []})),
        ] {
            assert!(
                refusal(&with(field, value.clone())).contains(field),
                "{field} {value}"
            );
        }
    }

    #[test]
    fn features_need_their_capabilities() {
        let tool = json!({"name": "t", "displayName": "T", "description": "d", "parametersSchema": {"type": "object"}});
        let mut manifest = with("tools", json!([tool]));
        assert!(refusal(&manifest).contains("agent.tools.register"));
        manifest["capabilities"] = json!(["agent.tools.register"]);
        assert_eq!(validate(&manifest), Ok(()));
        manifest["tools"] = json!([tool, tool]);
        assert!(refusal(&manifest).contains("tools[1].name"));
    }

    #[test]
    fn cron_has_five_fields_of_digits() {
        for (schedule, good) in [
            ("*/5 * * * *", true),
            ("0 3-5 1,15 * 0", true),
            ("0 0/2 * * *", true),
            ("0 1-9/2 * * *", true),
            ("* * * *", false),
            ("0 0 * * MON", false),
            ("@daily", false),
            ("a b c d e", false),
            ("*/ * * * *", false),
        ] {
            let mut manifest = with(
                "jobs",
                json!([{"jobKey": "j", "displayName": "J", "schedule": schedule}]),
            );
            manifest["capabilities"] = json!(["jobs.schedule"]);
            assert_eq!(validate(&manifest).is_ok(), good, "{schedule}");
        }
    }

    #[test]
    fn routes_do_not_leave_their_prefix() {
        for (path, good) in [
            ("/ok/:id", true),
            ("/a/../b", false),
            ("/a//b", false),
            ("/api/x", false),
            ("/plugins", false),
            ("x", false),
        ] {
            let route = json!({"routeKey": "r", "method": "GET", "path": path, "auth": "board",
                "capability": "api.routes.register"});
            let mut manifest = with("apiRoutes", json!([route]));
            manifest["capabilities"] = json!(["api.routes.register"]);
            assert_eq!(validate(&manifest).is_ok(), good, "{path}");
        }
    }

    #[test]
    fn user_interface_needs_its_folder_capability_and_free_routes() {
        let slot = |kind: &str, extra: Value| {
            let mut slot = json!({"type": kind, "id": "s", "displayName": "S", "exportName": "S"});
            slot.as_object_mut()
                .unwrap()
                .extend(extra.as_object().unwrap().clone());
            let mut manifest = with("ui", json!({"slots": [slot]}));
            manifest["capabilities"] = json!([
                "ui.page.register",
                "ui.sidebar.register",
                "ui.detailTab.register"
            ]);
            manifest["entrypoints"] = json!({"worker": "w.js", "ui": "./dist/ui"});
            manifest
        };
        assert_eq!(
            validate(&slot("page", json!({"routePath": "mine"}))),
            Ok(())
        );
        assert!(validate(&slot("page", json!({"routePath": "settings"}))).is_err());
        assert!(validate(&slot("routeSidebar", json!({}))).is_err());
        assert!(validate(&slot("sidebar", json!({"routePath": "mine"}))).is_err());
        assert!(validate(&slot("detailTab", json!({}))).is_err());
        assert!(validate(&slot("dashboardWidget", json!({}))).is_err());
        assert!(validate(&slot("nowhere", json!({}))).is_err());
        // A later release took it first.
        assert_eq!(validate(&slot("issueHeaderAction", json!({}))), Ok(()));
        let mut without = slot("page", json!({}));
        without["entrypoints"] = json!({"worker": "w.js"});
        assert!(refusal(&without).contains("entrypoints.ui"));
    }

    #[test]
    fn strict_objects_refuse_unknown_keys() {
        let driver = json!({"driverKey": "d", "displayName": "D", "configSchema": {}, "more": 1});
        let mut manifest = with("environmentDrivers", json!([driver]));
        manifest["capabilities"] = json!(["environment.drivers.register"]);
        assert!(refusal(&manifest).contains("environmentDrivers[0].more"));
    }
}
