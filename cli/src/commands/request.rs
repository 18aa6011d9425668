//! `restart` and `reconcile`: annotations that the operator acts on.

use kube::{
    Api,
    api::{Patch, PatchParams},
};
use paperclip_crds::{labels, v1alpha1::PaperclipPlugin};
use serde_json::json;

use super::Session;
use crate::{args::PluginName, error::Error};

pub(super) async fn restart(session: &Session, name: &PluginName) -> Result<(), Error> {
    annotate(session, name, labels::RESTARTED_AT, "ask for new pods of").await
}

pub(super) async fn reconcile(session: &Session, name: &PluginName) -> Result<(), Error> {
    annotate(
        session,
        name,
        labels::RECONCILE_REQUESTED_AT,
        "request a reconcile of",
    )
    .await
}

/// Sets the annotation to a value it never had.
pub(super) async fn annotate(
    session: &Session,
    name: &PluginName,
    annotation: &str,
    asking: &str,
) -> Result<(), Error> {
    let namespace = session.cluster.namespace_of(name)?;
    let api: Api<PaperclipPlugin> = Api::namespaced(session.cluster.client.clone(), &namespace);
    let now = k8s_openapi::jiff::Timestamp::now().to_string();
    let patch = Patch::Merge(json!({ "metadata": { "annotations": { annotation: now } } }));
    let doing = format!("{asking} PaperclipPlugin {namespace}/{}", name.name);
    api.patch(&name.name, &PatchParams::default(), &patch)
        .await
        .map_err(|source| Error::cluster(&doing, source))?;
    eprintln!(
        "requested: `kubectl paperclip why {namespace}/{}` says how it goes",
        name.name
    );
    Ok(())
}
