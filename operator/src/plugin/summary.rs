//! The part of a plugin manifest that status shows.

use paperclip_crds::v1alpha1::{DeclaredJob, DeclaredTool, DeclaredWebhook, PluginSummary};
use serde_json::Value;

/// Reads a manifest that packing has already checked; what is missing stays empty.
#[must_use]
pub fn summarise(manifest: &Value) -> PluginSummary {
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let list = |key: &str| manifest[key].as_array().cloned().unwrap_or_default();
    PluginSummary {
        id: text(manifest, "id"),
        version: text(manifest, "version"),
        display_name: text(manifest, "displayName"),
        capabilities: list("capabilities")
            .iter()
            .filter_map(|capability| capability.as_str().map(str::to_owned))
            .collect(),
        tools: list("tools")
            .iter()
            .map(|tool| DeclaredTool {
                name: text(tool, "name"),
            })
            .collect(),
        jobs: list("jobs")
            .iter()
            .map(|job| DeclaredJob {
                key: text(job, "jobKey"),
                schedule: job["schedule"].as_str().map(str::to_owned),
            })
            .collect(),
        webhooks: list("webhooks")
            .iter()
            .map(|webhook| DeclaredWebhook {
                key: text(webhook, "endpointKey"),
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_and_keys_are_kept() {
        let summary = summarise(&json!({"id": "x.y", "version": "1.0.0", "displayName": "X",
            "capabilities": ["jobs.schedule"], "tools": [{"name": "t"}],
            "jobs": [{"jobKey": "sync", "schedule": "* * * * *"}], "webhooks": [{"endpointKey": "in"}]}));
        assert_eq!(summary.tools, [DeclaredTool { name: "t".into() }]);
        assert_eq!(summary.jobs[0].schedule.as_deref(), Some("* * * * *"));
        assert_eq!(summary.webhooks, [DeclaredWebhook { key: "in".into() }]);
        assert_eq!(
            (summary.id.as_str(), summary.capabilities.len()),
            ("x.y", 1)
        );
    }
}
