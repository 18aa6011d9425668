//! A plugin manifest that breaks one of Paperclip's rules, one for each class of rule, each
//! applied as a user would: it is refused by the field within half a minute, nothing is made
//! for it, and a healthy plugin of the same file goes on.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, Result, ensure};
use json_patch::merge;
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::support::{
    COLD, Namespace, PLATFORM_NAMESPACE, condition, eventually, get, kubectl_with_input, pod_of,
};

const EXAMPLE: &str = include_str!("../../../examples/greeter.yaml");
/// How long the operator may take to name what is wrong.
const LIMIT: Duration = Duration::from_secs(30);

/// The field that is named, and what of a sound manifest is replaced.
fn broken() -> Vec<(&'static str, Value)> {
    let long = "x".repeat(501);
    let mut all = rules_of_one_value(&long);
    all.extend(rules_that_span_fields());
    all
}

/// A class for each kind of rule that a value has for itself.
fn rules_of_one_value(long: &str) -> Vec<(&'static str, Value)> {
    let route = |fields: Value| {
        let mut route = json!({"routeKey": "r", "method": "GET", "path": "/ok", "auth": "board",
            "capability": "api.routes.register"});
        merge(&mut route, &fields);
        json!({"capabilities": ["api.routes.register"], "apiRoutes": [route], "tools": null})
    };
    let driver = |fields: Value| {
        let mut driver =
            json!({"driverKey": "d", "displayName": "D", "configSchema": {"type": "object"}});
        merge(&mut driver, &fields);
        json!({"capabilities": ["environment.drivers.register"], "environmentDrivers": [driver],
            "tools": null})
    };
    let job = |fields: Value| {
        let mut job = json!({"jobKey": "j", "displayName": "J"});
        merge(&mut job, &fields);
        json!({"capabilities": ["jobs.schedule"], "jobs": [job], "tools": null})
    };
    vec![
        // Required fields.
        ("author", json!({"author": null})),
        ("capabilities", json!({"capabilities": null})),
        (
            "entrypoints.worker",
            json!({"entrypoints": {"worker": null}}),
        ),
        // Types.
        ("apiVersion", json!({"apiVersion": "1"})),
        ("jobs", json!({"jobs": {}})),
        ("displayName", json!({"displayName": 7})),
        // Patterns.
        ("version", json!({"version": "1.2"})),
        ("id", json!({"id": "Not An Id"})),
        ("minimumHostVersion", json!({"minimumHostVersion": "soon"})),
        ("jobs[0].schedule", job(json!({"schedule": "@daily"}))),
        ("apiRoutes[0].path", route(json!({"path": "/a/../b"}))),
        // Lengths.
        ("description", json!({"description": long})),
        ("categories", json!({"categories": []})),
        // One of a list.
        ("categories[0]", json!({"categories": ["gardening"]})),
        (
            "capabilities[0]",
            json!({"capabilities": ["agents.lifecycle.manage"]}),
        ),
        ("apiRoutes[0].method", route(json!({"method": "PUT"}))),
        // Schemas.
        ("instanceConfigSchema", json!({"instanceConfigSchema": []})),
        (
            "tools[0].parametersSchema",
            json!({"tools": [{"name": "t", "displayName": "T",
            "description": "T"}]}),
        ),
        // Records that are strict.
        ("environmentDrivers[0].more", driver(json!({"more": 1}))),
    ]
}

/// A class for each kind of rule that looks at more than one value.
fn rules_that_span_fields() -> Vec<(&'static str, Value)> {
    let page = |slot: Value| {
        let mut whole = json!({"type": "page", "id": "s", "displayName": "S", "exportName": "S"});
        merge(&mut whole, &slot);
        json!({"ui": {"slots": [whole]}, "entrypoints": {"worker": "./worker.js", "ui": "./ui"},
            "capabilities": ["agent.tools.register", "ui.page.register", "ui.detailTab.register",
                "ui.commentAnnotation.register"]})
    };
    let launcher = |fields: Value| {
        let mut whole = json!({"id": "l", "displayName": "L", "placementZone": "toolbarButton",
            "action": {"type": "openModal", "target": "t"}});
        merge(&mut whole, &fields);
        json!({"launchers": [whole], "entrypoints": {"worker": "./worker.js", "ui": "./ui"},
            "capabilities": ["agent.tools.register", "ui.action.register"]})
    };
    let provider = |fields: Value| {
        let mut whole = json!({"providerKey": "p", "displayName": "P", "objectTypes": ["thing"]});
        merge(&mut whole, &fields);
        json!({"objectReferences": [whole], "tools": null,
            "capabilities": ["external.objects.detect", "external.objects.read"]})
    };
    let tool = json!({"name": "t", "displayName": "T", "description": "T",
        "parametersSchema": {"type": "object"}});
    let skill = json!({"skillKey": "s", "displayName": "S",
        "files": [{"path": "SKILL.md", "content": "x"}]});
    let driver = json!({"driverKey": "d", "displayName": "D", "configSchema": {"type": "object"},
        "supportsLoginPty": true, "supportsSetupTokenLogin": false});
    vec![
        // Features and their capabilities.
        ("tools", json!({"capabilities": ["plugin.state.read"]})),
        (
            "jobs",
            json!({"jobs": [{"jobKey": "j", "displayName": "J"}]}),
        ),
        ("launchers[0]", {
            let mut without = launcher(json!({"render": {"environment": "hostOverlay"}}));
            without["capabilities"] = json!(["agent.tools.register"]);
            without
        }),
        // What is there only once.
        ("tools[1].name", json!({"tools": [tool, tool]})),
        // The user interface: its folder, reserved and missing paths, kinds of entities.
        ("entrypoints.ui", {
            let mut without = page(json!({}));
            without["entrypoints"] = json!({"ui": null});
            without
        }),
        (
            "ui.slots[0].routePath",
            page(json!({"routePath": "settings"})),
        ),
        (
            "ui.slots[0].entityTypes",
            page(json!({"type": "detailTab"})),
        ),
        (
            "ui.slots[0].entityTypes",
            page(json!({"type": "commentAnnotation", "entityTypes": ["issue"]})),
        ),
        // Launchers: where they render, and within which bounds.
        ("launchers[0].render", launcher(json!({}))),
        (
            "launchers[0].render.bounds",
            launcher(json!({"render": {"environment": "hostOverlay",
            "bounds": "inline"}})),
        ),
        (
            "launchers[0].action.target",
            launcher(json!({"action": {"type": "navigate",
            "target": "https://example.com"}})),
        ),
        // References between fields.
        (
            "objectReferences[0].webhookEndpointKeys",
            provider(json!({"webhookEndpointKeys": ["none"]})),
        ),
        (
            "objectReferences[0].refreshPolicy.staleAfterSeconds",
            provider(json!({"refreshPolicy":
            {"defaultTtlSeconds": 60, "staleAfterSeconds": 30}})),
        ),
        // Fields that contradict each other.
        (
            "environmentDrivers[0].supportsSetupTokenLogin",
            json!({"environmentDrivers": [driver],
            "capabilities": ["agent.tools.register", "environment.drivers.register"]}),
        ),
        (
            "skills[0].files",
            json!({"skills": [skill],
            "capabilities": ["agent.tools.register", "skills.managed"]}),
        ),
    ]
}

/// Jobs of the platform, by name and uid. One that ended stays for two minutes, which is longer
/// than this test waits.
fn jobs() -> Result<BTreeSet<String>> {
    let jobs = get(&["jobs", "-n", PLATFORM_NAMESPACE])?;
    let jobs = jobs["items"].as_array().context("items")?.iter();
    Ok(jobs
        .map(|job| format!("{} {}", job["metadata"]["name"], job["metadata"]["uid"]))
        .collect())
}

/// Whether a plugin does not go on, because of this field of its manifest.
fn is_refused_by(plugin: &Value, field: &str) -> bool {
    let ready = condition(plugin, "Ready");
    let says = ready["message"].as_str().unwrap_or_default();
    ready["reason"] == "ManifestInvalid"
        && says.contains(&format!("`{field}`"))
        && !condition(plugin, "Stalled").is_null()
}

fn name(at: usize) -> String {
    format!("broken-{at}")
}

#[test]
fn every_class_of_broken_manifest_is_refused_by_its_field() -> Result<()> {
    let namespace = Namespace::create("e2e-manifests")?;
    let ns = namespace.name();
    namespace.apply(EXAMPLE)?;
    namespace.wait_ready("greeter", COLD)?;
    let identity = || -> Result<(Value, Value)> {
        let deployments = get(&["deployments", "-n", ns])?;
        let uid = pod_of(ns, "greeter")?["metadata"]["uid"].clone();
        Ok((
            uid,
            deployments["items"][0]["metadata"]["generation"].clone(),
        ))
    };
    let (before, jobs_before) = (identity()?, jobs()?);
    let sound = get(&["paperclipplugin", "greeter", "-n", ns])?["spec"].clone();

    let cases = broken();
    let items = cases.iter().enumerate().map(|(at, (_, change))| {
        let mut spec = sound.clone();
        merge(&mut spec["manifest"], change);
        json!({"apiVersion": "plugins.paperclip.ing/v1alpha1", "kind": "PaperclipPlugin",
            "metadata": {"name": name(at)}, "spec": spec})
    });
    let items: Vec<Value> = items.collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    let applied = OffsetDateTime::now_utc();
    kubectl_with_input(&["apply", "-n", ns, "-f", "-"], &list.to_string())?;

    let refused = eventually("every refusal", LIMIT, || {
        let plugins = get(&["paperclipplugins", "-n", ns])?;
        let plugins = plugins["items"].as_array().context("items")?;
        let (mut refused, mut others) = (Vec::new(), Vec::new());
        for (at, (field, change)) in cases.iter().enumerate() {
            let plugin = plugins
                .iter()
                .find(|one| one["metadata"]["name"] == name(at));
            let plugin = plugin.context("a plugin for each case")?;
            match is_refused_by(plugin, field) {
                true => refused.push(condition(plugin, "Ready").clone()),
                false => others.push(format!("{field} after {change}: {}", plugin["status"])),
            }
        }
        ensure!(others.is_empty(), "{}", others.join("\n"));
        Ok(refused)
    })?;
    let slowest = refused.iter().map(|ready| {
        let at = ready["lastTransitionTime"].as_str().context("a time")?;
        Ok(OffsetDateTime::parse(at, &Rfc3339)? - applied)
    });
    let slowest = slowest.collect::<Result<Vec<_>>>()?.into_iter().max();
    println!(
        "manifests: {} refused, the last after {:.1} s",
        refused.len(),
        slowest.unwrap_or_default().as_seconds_f64()
    );

    let revisions = get(&["paperclippluginrevisions", "-n", ns])?;
    let revisions = revisions["items"].as_array().context("items")?;
    ensure!(revisions.len() == 1, "{revisions:?}");
    // A Job says nothing of the plugin that asked for it, so there must be none that is new.
    let made: Vec<_> = jobs()?.difference(&jobs_before).cloned().collect();
    ensure!(made.is_empty(), "Jobs were made: {made:?}");
    ensure!(identity()? == before, "the neighbour was touched");
    Ok(())
}
