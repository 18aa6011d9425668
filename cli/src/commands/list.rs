//! `list`: the plugins of a namespace, or of all.

use k8s_openapi::jiff::Timestamp;
use serde_json::json;

use super::Session;
use crate::{
    args::Form,
    error::Error,
    output,
    plugin::{self, Plugin},
    table::{Table, age_since},
};

pub(super) async fn run(session: &Session) -> Result<(), Error> {
    let global = &session.global;
    let all = global.all_namespaces;
    let namespace = (!all).then(|| session.cluster.namespace());
    let plugins = plugin::list(&session.cluster, namespace).await?;
    match global.output {
        Some(Form::Json) => output::print(&output::json(&as_list(&plugins))?),
        Some(Form::Yaml) => output::print(&output::yaml(&as_list(&plugins))?),
        Some(Form::Name) => output::print(&names(&plugins)),
        Some(Form::Wide) | None if plugins.is_empty() => {
            eprintln!(
                "no plugins in {}",
                namespace.map_or("any namespace".into(), |name| format!("namespace {name}"))
            );
            Ok(())
        }
        form => output::print(&table(
            &plugins,
            all,
            form == Some(Form::Wide),
            Timestamp::now(),
        )),
    }
}

fn as_list(plugins: &[Plugin]) -> serde_json::Value {
    let items: Vec<_> = plugins.iter().map(|plugin| &plugin.object).collect();
    json!({"apiVersion": "v1", "kind": "List", "items": items})
}

fn names(plugins: &[Plugin]) -> String {
    plugins
        .iter()
        .map(|plugin| format!("paperclipplugin.plugins.paperclip.ing/{}\n", plugin.name()))
        .collect()
}

fn table(plugins: &[Plugin], with_namespace: bool, wide: bool, now: Timestamp) -> String {
    let mut table = if with_namespace {
        Table::new(["NAMESPACE", "NAME"])
    } else {
        Table::new(["NAME"])
    };
    for heading in ["READY", "REASON", "PLUGIN", "VERSION", "AGE"] {
        table.add_heading(heading);
    }
    if wide {
        for heading in ["HOST", "DIGEST", "MESSAGE"] {
            table.add_heading(heading);
        }
    }
    for plugin in plugins {
        table.add_row(row(plugin, with_namespace, wide, now));
    }
    table.render()
}

fn row(plugin: &Plugin, with_namespace: bool, wide: bool, now: Timestamp) -> Vec<String> {
    let (ready, reason, message) = plugin.ready();
    let status = plugin.parsed.status.clone().unwrap_or_default();
    let artifact = status.artifact.unwrap_or_default();
    let mut cells = Vec::new();
    if with_namespace {
        cells.push(plugin.namespace());
    }
    cells.extend([
        plugin.name(),
        ready.to_owned(),
        reason.to_owned(),
        status.plugin.unwrap_or_default().id,
        artifact.version,
        age_since(plugin.parsed.metadata.creation_timestamp.as_ref(), now),
    ]);
    if wide {
        let (namespace, name) = plugin.parsed.host_reference();
        cells.extend([
            format!("{namespace}/{name}"),
            artifact.digest,
            message.to_owned(),
        ]);
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plugin() -> Plugin {
        let object = json!({
            "apiVersion": "plugins.paperclip.ing/v1alpha1", "kind": "PaperclipPlugin",
            "metadata": {"name": "tea", "namespace": "shop", "creationTimestamp": "1970-01-01T00:00:10Z"},
            "spec": {"source": {"npm": {"package": "tea", "version": "1.0.0"}}, "host": {"name": "main"}},
            "status": {
                "conditions": [{"type": "Ready", "status": "True", "reason": "Succeeded", "message": "all is well", "lastTransitionTime": "1970-01-01T00:00:20Z"}],
                "plugin": {"id": "example.tea", "version": "1.0.0", "displayName": "Tea"},
            },
        });
        Plugin {
            object: serde_json::from_value(object.clone()).unwrap(),
            parsed: serde_json::from_value(object).unwrap(),
        }
    }

    #[test]
    fn a_row_says_how_a_plugin_is() {
        assert_eq!(
            table(
                &[plugin()],
                false,
                false,
                Timestamp::from_second(55).unwrap()
            ),
            "NAME   READY   REASON      PLUGIN        VERSION   AGE\n\
             tea    True    Succeeded   example.tea   -         45s\n"
        );
    }

    #[test]
    fn the_wide_table_of_all_namespaces_has_host_and_message() {
        let text = table(&[plugin()], true, true, Timestamp::from_second(55).unwrap());
        let row = text.lines().nth(1).unwrap();
        assert!(row.starts_with("shop        tea"), "{row}");
        assert!(
            row.contains("shop/main") && row.ends_with("all is well"),
            "{row}"
        );
    }

    #[test]
    fn names_are_what_kubectl_takes() {
        assert_eq!(
            names(&[plugin()]),
            "paperclipplugin.plugins.paperclip.ing/tea\n"
        );
    }
}
