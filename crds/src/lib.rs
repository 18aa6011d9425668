//! API types of the group `plugins.paperclip.ing`, and the YAML printed from them.
//!
//! Rules that the API server can check are in the schema; what is left is parsed
//! by the operator. The types know nothing of a cluster: no client, no I/O.

pub mod docs;
mod key;
pub mod labels;
pub mod v1alpha1;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON,
};
use kube::CustomResourceExt;
use serde_json::json;

pub use key::{Keyed, MalformedObject, ObjectKey};

/// The CustomResourceDefinitions of this release, in the order they are applied.
#[must_use]
pub fn definitions() -> Vec<CustomResourceDefinition> {
    let mut definitions = vec![
        v1alpha1::PaperclipPlugin::crd(),
        v1alpha1::PaperclipPluginRevision::crd(),
        v1alpha1::PaperclipHost::crd(),
        v1alpha1::PaperclipTrustPolicy::crd(),
    ];
    for definition in &mut definitions {
        // Removing the chart must not remove every plugin of the cluster.
        let annotations = definition.metadata.annotations.get_or_insert_default();
        annotations.insert("helm.sh/resource-policy".into(), "keep".into());
        unobserved_by_default(definition);
    }
    definitions
}

/// Gives a new object a status that says "not looked at yet". Without any status kstatus, and
/// with it `helm --wait`, takes an object that no controller has seen for one that is done.
fn unobserved_by_default(definition: &mut CustomResourceDefinition) {
    for version in &mut definition.spec.versions {
        let schema = version.schema.as_mut();
        let properties = schema.and_then(|schema| schema.open_api_v3_schema.as_mut());
        let properties = properties.and_then(|schema| schema.properties.as_mut());
        let Some(status) = properties.and_then(|properties| properties.get_mut("status")) else {
            continue;
        };
        let observed = status.properties.as_ref();
        if observed.is_some_and(|of| of.contains_key("observedGeneration")) {
            status.default = Some(JSON(json!({ "observedGeneration": -1 })));
        }
    }
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
