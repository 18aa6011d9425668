//! `revisions`: what ran, what runs, and what failed to.

use k8s_openapi::jiff::Timestamp;
use kube::{Api, ResourceExt, api::ListParams};
use paperclip_crds::{labels, v1alpha1::PaperclipPluginRevision};

use super::Session;
use crate::{
    args::{Form, PluginName},
    error::Error,
    output,
    plugin::{self, Plugin},
    table::{Table, age_since},
};

pub(super) async fn run(session: &Session, name: &PluginName) -> Result<(), Error> {
    let plugin = plugin::read(&session.cluster, name).await?;
    let revisions = list(session, &plugin).await?;
    let form = session.global.output;
    if form == Some(Form::Name) {
        let line = |one: &PaperclipPluginRevision| {
            format!(
                "paperclippluginrevision.plugins.paperclip.ing/{}\n",
                one.name_any()
            )
        };
        return output::print(&revisions.iter().map(line).collect::<String>());
    }
    output::answer(form, &revisions, || {
        Ok(table(
            &revisions,
            form == Some(Form::Wide),
            Timestamp::now(),
        ))
    })
}

/// The plugin's revisions, oldest first.
pub(super) async fn list(
    session: &Session,
    plugin: &Plugin,
) -> Result<Vec<PaperclipPluginRevision>, Error> {
    let api: Api<PaperclipPluginRevision> =
        Api::namespaced(session.cluster.client.clone(), &plugin.namespace());
    let selector = format!("{}={}", labels::PLUGIN_UID, plugin.uid());
    let found = api.list(&ListParams::default().labels(&selector)).await;
    let doing = format!("list revisions of PaperclipPlugin {}", plugin.full_name());
    let mut revisions = found
        .map_err(|source| Error::cluster(&doing, source))?
        .items;
    for revision in &mut revisions {
        revision.metadata.managed_fields = None;
    }
    revisions.sort_by_key(|revision| revision.spec.number);
    Ok(revisions)
}

fn table(revisions: &[PaperclipPluginRevision], wide: bool, now: Timestamp) -> String {
    let mut table = Table::new(["REVISION", "STATE", "VERSION", "DIGEST", "CONFIG", "AGE"]);
    if wide {
        table.add_heading("PODS");
        table.add_heading("MESSAGE");
    }
    for revision in revisions {
        let (spec, status) = (&revision.spec, revision.status.clone().unwrap_or_default());
        let state = status
            .state
            .map_or_else(|| "Pending".into(), |state| format!("{state:?}"));
        let digest = spec.artifact.digest.trim_start_matches("sha256:");
        let mut cells = vec![
            spec.number.to_string(),
            state,
            spec.artifact.version.clone(),
            digest.chars().take(12).collect(),
            spec.config_hash.chars().take(8).collect(),
            age_since(revision.metadata.creation_timestamp.as_ref(), now),
        ];
        if wide {
            cells.push(spec.activation.to_string());
            cells.push(status.message.unwrap_or_default());
        }
        table.add_row(cells);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn revisions_are_told_in_short() {
        let revision = json!({
            "metadata": {"name": "tea-2", "creationTimestamp": "2026-11-21T10:00:00Z"},
            "spec": {"plugin": "tea", "number": 2, "manifestDigest": "", "templateHash": "t", "configHash": "0123456789ab",
                "activation": 2, "summary": {"id": "", "version": "", "displayName": ""},
                "artifact": {"source": "", "version": "1.1.0", "repository": "", "digest": format!("sha256:{}", "a".repeat(64)), "marker": "", "sizeBytes": 1},
                "grant": {"origin": "FirstRevision", "capabilities": []}},
            "status": {"state": "Failed", "message": "too late"},
        });
        let revision: PaperclipPluginRevision = serde_json::from_value(revision).unwrap();
        assert_eq!(
            table(&[revision], true, "2026-11-21T10:03:00Z".parse().unwrap()),
            "REVISION   STATE    VERSION   DIGEST         CONFIG     AGE   PODS   MESSAGE\n\
             2          Failed   1.1.0     aaaaaaaaaaaa   01234567   3m    2      too late\n"
        );
    }
}
