//! `get`: one plugin, what it declares and how it is.

use std::fmt::Write;

use super::Session;
use crate::{
    args::{Form, PluginName},
    error::Error,
    output,
    plugin::{self, Plugin},
    table::Table,
};

pub(super) async fn run(session: &Session, name: &PluginName) -> Result<(), Error> {
    let plugin = plugin::read(&session.cluster, name).await?;
    if session.global.output == Some(Form::Name) {
        return output::print(&format!(
            "paperclipplugin.plugins.paperclip.ing/{}\n",
            plugin.name()
        ));
    }
    output::answer(session.global.output, &plugin.object, || {
        Ok(description(&plugin))
    })
}

fn description(plugin: &Plugin) -> String {
    let status = plugin.parsed.status.clone().unwrap_or_default();
    let (host_namespace, host) = plugin.parsed.host_reference();
    let mut facts = vec![
        ("Plugin", plugin.full_name()),
        ("Host", format!("{host_namespace}/{host}")),
    ];
    if let Some(artifact) = &status.artifact {
        facts.push(("Source", artifact.source.clone()));
        facts.push(("Digest", artifact.digest.clone()));
    }
    if let Some(summary) = &status.plugin {
        let tools = summary.tools.iter().map(|tool| tool.name.clone());
        let jobs = summary.jobs.iter().map(|job| match &job.schedule {
            Some(schedule) => format!("{} ({schedule} UTC)", job.key),
            None => job.key.clone(),
        });
        let webhooks = summary.webhooks.iter().map(|webhook| webhook.key.clone());
        facts.push((
            "Manifest",
            format!(
                "{} {} ({})",
                summary.id, summary.version, summary.display_name
            ),
        ));
        facts.push(("Capabilities", summary.capabilities.join(", ")));
        facts.push(("Tools", tools.collect::<Vec<_>>().join(", ")));
        facts.push(("Jobs", jobs.collect::<Vec<_>>().join(", ")));
        facts.push(("Webhooks", webhooks.collect::<Vec<_>>().join(", ")));
    }
    let mut text = String::new();
    for (name, value) in facts {
        let value = if value.is_empty() { "-" } else { &value };
        let _ = writeln!(text, "{:<14}{value}", format!("{name}:"));
    }
    let mut conditions = Table::new(["CONDITION", "STATUS", "REASON", "MESSAGE"]);
    for condition in status.conditions {
        conditions.add_row([
            condition.type_,
            condition.status,
            condition.reason,
            condition.message,
        ]);
    }
    text.push('\n');
    text.push_str(&conditions.render());
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_description_names_what_the_plugin_declares() {
        let object = json!({
            "apiVersion": "plugins.paperclip.ing/v1alpha1", "kind": "PaperclipPlugin",
            "metadata": {"name": "tea", "namespace": "shop"},
            "spec": {"source": {"npm": {"package": "tea", "version": "1.0.0"}}, "host": {"name": "main"}},
            "status": {
                "conditions": [{"type": "Ready", "status": "True", "reason": "Succeeded", "message": "all is well", "lastTransitionTime": "2026-11-21T10:00:00Z"}],
                "plugin": {"id": "example.tea", "version": "1.0.0", "displayName": "Tea", "jobs": [{"key": "brew", "schedule": "0 4 * * *"}]},
            },
        });
        let plugin = Plugin {
            object: serde_json::from_value(object.clone()).unwrap(),
            parsed: serde_json::from_value(object).unwrap(),
        };
        assert_eq!(
            description(&plugin),
            "Plugin:       shop/tea\n\
             Host:         shop/main\n\
             Manifest:     example.tea 1.0.0 (Tea)\n\
             Capabilities: -\n\
             Tools:        -\n\
             Jobs:         brew (0 4 * * * UTC)\n\
             Webhooks:     -\n\
             \n\
             CONDITION   STATUS   REASON      MESSAGE\n\
             Ready       True     Succeeded   all is well\n"
        );
    }
}
