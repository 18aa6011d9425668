//! `relock`: has dependencies resolved anew, and shows what moved.

use std::time::Duration;

use kube::{
    Api,
    runtime::wait::{Condition, await_condition},
};
use paperclip_crds::{
    labels,
    v1alpha1::{LockChanges, PaperclipPlugin, PluginSource},
};
use serde_json::json;

use super::{Session, request};
use crate::{args::PluginName, error::Error, output, table::Table};

pub(super) async fn run(session: &Session, name: &PluginName, timeout: u64) -> Result<(), Error> {
    let namespace = session.cluster.namespace_of(name)?;
    let api: Api<PaperclipPlugin> = Api::namespaced(session.cluster.client.clone(), &namespace);
    let object = format!("PaperclipPlugin {namespace}/{}", name.name);
    let before = api.get(&name.name).await;
    let before = before.map_err(|source| Error::cluster(format!("read {object}"), source))?;
    check_source(&object, &before)?;
    let requests = Requests::of(&before);
    request::annotate(
        session,
        name,
        labels::RELOCK_REQUESTED_AT,
        "ask for a new lock of",
    )
    .await?;
    let done = await_condition(api, &name.name, requests.moved());
    let after = tokio::time::timeout(Duration::from_secs(timeout), done)
        .await
        .map_err(|_| Error::Failed(format!("{object} has no new lock after {timeout} s")))?
        .map_err(|error| Error::Failed(format!("watch {object}: {error}")))?;
    let Some(after) = after else {
        return Err(Error::Failed(format!("{object} is gone")));
    };
    tell(session, &object, &requests, &after)
}

/// A given lock, and what has none, are not resolved.
fn check_source(object: &str, plugin: &PaperclipPlugin) -> Result<(), Error> {
    match &plugin.spec.source {
        PluginSource::Npm(source) if source.lock.is_some() => Err(Error::Input {
            what: format!(
                "{object} is installed from the lock under spec.source.npm.lock: change that, or remove it"
            ),
        }),
        PluginSource::Npm(_) | PluginSource::Http(_) => Ok(()),
        _ => Err(Error::Input {
            what: format!("{object} has no dependencies of npm to be locked"),
        }),
    }
}

/// What was packed, and what had failed, before a new lock was asked for.
struct Requests {
    packed: Option<String>,
    digest: Option<String>,
    failed: Option<String>,
}

impl Requests {
    fn of(plugin: &PaperclipPlugin) -> Self {
        let status = plugin.status.as_ref();
        let artifact = status.and_then(|status| status.artifact.as_ref());
        Self {
            packed: artifact.map(|artifact| artifact.request.clone()),
            digest: artifact.map(|artifact| artifact.digest.clone()),
            failed: status.and_then(|status| status.failed_request.clone()),
        }
    }

    /// Until another request has ended, well or not.
    fn moved(&self) -> impl Condition<PaperclipPlugin> + use<> {
        let (packed, failed) = (self.packed.clone(), self.failed.clone());
        move |plugin: Option<&PaperclipPlugin>| match plugin {
            None => true,
            Some(plugin) => {
                let now = Self::of(plugin);
                let has_failed = now.failed.is_some() && now.failed != failed;
                now.packed != packed || has_failed
            }
        }
    }
}

fn tell(
    session: &Session,
    object: &str,
    before: &Requests,
    plugin: &PaperclipPlugin,
) -> Result<(), Error> {
    let now = Requests::of(plugin);
    if now.packed == before.packed {
        let what =
            format!("{object} could not get a new lock file: `kubectl paperclip why` says why");
        return Err(Error::Failed(what));
    }
    let status = plugin.status.as_ref();
    let artifact = status.and_then(|status| status.artifact.as_ref());
    let changes = artifact.and_then(|artifact| artifact.lock_changes.clone());
    let answer = json!({ "from": before.digest, "to": now.digest, "lockChanges": changes });
    output::answer(session.global.output, &answer, || {
        Ok(match (before.digest == now.digest, changes) {
            (true, _) => "Nothing moves: the new lock is the old one.\n".to_owned(),
            (false, Some(changes)) => table(&changes),
            (false, None) => {
                "The artifact is another; its lock could not be compared.\n".to_owned()
            }
        })
    })
}

fn table(changes: &LockChanges) -> String {
    let mut table = Table::new(["PACKAGE", "FROM", "TO"]);
    for change in &changes.changes {
        let version = |version: &Option<String>| version.clone().unwrap_or_else(|| "-".into());
        table.add_row([
            change.package.clone(),
            version(&change.from),
            version(&change.to),
        ]);
    }
    let mut text = table.render();
    let more = changes.total - i64::try_from(changes.changes.len()).unwrap_or_default();
    if more > 0 {
        text.push_str(&format!("and {more} more\n"));
    }
    text
}
