//! API types of the group `plugins.paperclip.ing`, and the YAML printed from them.
//!
//! Rules that the API server can check are in the schema; what is left is parsed
//! by the operator. The types know nothing of a cluster: no client, no I/O.

pub mod docs;
pub mod labels;
pub mod v1alpha1;

use kube::CustomResourceExt;

/// The CustomResourceDefinitions of this release, in the order they are applied.
#[must_use]
pub fn definitions()
-> Vec<k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition>
{
    let mut definitions = vec![
        v1alpha1::PaperclipPlugin::crd(),
        v1alpha1::PaperclipPluginRevision::crd(),
        v1alpha1::PaperclipHost::crd(),
    ];
    for definition in &mut definitions {
        // Removing the chart must not remove every plugin of the cluster.
        let annotations = definition.metadata.annotations.get_or_insert_default();
        annotations.insert("helm.sh/resource-policy".into(), "keep".into());
    }
    definitions
}

/// The definitions as one YAML stream.
///
/// # Errors
/// When a definition cannot be written as YAML, which would be a bug of this crate.
pub fn yaml() -> Result<String, serde_saphyr::ser::Error> {
    let mut text = String::new();
    for definition in definitions() {
        text.push_str("---\n");
        text.push_str(&serde_saphyr::to_string(&definition)?);
    }
    Ok(text)
}
