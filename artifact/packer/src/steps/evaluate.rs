//! Step two: the plugin manifest.

use paperclip_artifact_format::platform::Platform;
use paperclip_oci::canonical;
use paperclip_oci::digest::Digest;
use paperclip_packing_api::report::Evaluated;
use serde_json::Value;

use crate::sandbox::evaluate::Evaluator;
use crate::steps::error::PackError;
use crate::steps::work::{State, Work, work_error};

impl Work {
    /// Evaluates and checks the manifest of the fetched package, in each of its trees. Addons
    /// are never loaded, so this machine's CPU may be another than a tree's.
    ///
    /// # Errors
    /// When there is none, it breaks a rule, or trees have different ones.
    pub fn evaluate(&self, evaluator: &Evaluator) -> Result<Evaluated, PackError> {
        let state: State = self.read(&self.state())?;
        tracing::info!(
            package = state.inputs.package,
            "evaluating the plugin manifest"
        );
        let mut evaluated: Option<(&Platform, Value)> = None;
        for tree in &state.trees {
            let manifest = evaluator.evaluate(&tree.folder, &state.inputs.package)?;
            let platform = tree.platforms.first();
            let platform = platform.ok_or_else(|| work_error(&tree.folder, "it is for nobody"))?;
            match &evaluated {
                Some((first, before)) if *before != manifest => {
                    return Err(PackError::Manifests {
                        platforms: [*first, platform].into_iter().cloned().collect(),
                    });
                }
                Some(_) => {}
                None => evaluated = Some((platform, manifest)),
            }
        }
        let (_, manifest) = evaluated.ok_or_else(|| work_error(&self.state(), "it has no tree"))?;
        let bytes = canonical::compact(&manifest);
        self.write(&self.manifest(), &bytes)?;
        let text = |field: &str| manifest[field].as_str().unwrap_or_default().to_owned();
        Ok(Evaluated {
            plugin_id: text("id"),
            plugin_version: text("version"),
            manifest_digest: Digest::of(&bytes),
        })
    }
}
