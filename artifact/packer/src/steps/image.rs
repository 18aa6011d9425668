//! The image of a tree: facts and tree as layers, annotations.

use std::path::Path;

use paperclip_artifact::inputs::Inputs;
use paperclip_artifact::tree::{self, Entry};
use paperclip_artifact::{limits, toolchain};
use paperclip_artifact_format::annotations;
use paperclip_artifact_format::names::{self, fact};
use paperclip_artifact_format::platform::Platform;
use paperclip_oci::canonical;
use paperclip_oci::image::{Image, ImageBuilder, ImageError, Layer, LayerBuilder};
use serde_json::{Value, json};

use crate::steps::error::PackError;
use crate::steps::work::State;

/// The marker of a tree, and the layers of its image.
pub(super) fn build_layers(
    state: &State,
    tree: &Path,
    lock: &[u8],
    manifest: &Value,
) -> Result<(String, [Layer; 2]), PackError> {
    let entries = tree::list(tree, tree::LIMITS)?;
    let marker = tree::marker(&entries);
    let facts = facts_layer(&state.inputs, &marker, lock, manifest)?;
    let tree = tree_layer(tree, &entries)?;
    let found = tree.content().len() as u64;
    if found > limits::LAYER {
        return Err(PackError::Layer { found });
    }
    Ok((marker, [facts, tree]))
}

/// The image of a tree. One that runs everywhere says so as all images did before there were
/// indexes: by the CPU that this release packs for first.
pub(super) fn build_image(
    state: &State,
    platform: &Platform,
    marker: &str,
    layers: [Layer; 2],
) -> Image {
    let any = Platform::default();
    let platform = if state.bound { platform } else { &any };
    let mut image = ImageBuilder::new();
    if let Some(architecture) = platform.oci_architecture() {
        image = image.architecture(architecture);
    }
    let named = annotations_of(state, marker).into_iter();
    let image = named.fold(image, |image, (name, value)| image.annotation(name, value));
    layers.into_iter().fold(image, ImageBuilder::layer).build()
}

fn facts_layer(
    inputs: &Inputs,
    marker: &str,
    lock: &[u8],
    manifest: &Value,
) -> Result<Layer, ImageError> {
    let artifact = canonical::readable(&json!({
        "package": inputs.package,
        "version": inputs.version,
        "packageDir": format!("node_modules/{}", inputs.package),
        "node": toolchain::NODE_VERSION,
        "npm": toolchain::NPM_VERSION,
    }));
    LayerBuilder::new()
        .bytes(&fact(names::ARTIFACT), artifact, 0o644)
        .bytes(&fact(names::MARKER), format!("{marker}\n"), 0o644)
        .bytes(&fact(names::LOCK), lock.to_vec(), 0o644)
        .bytes(
            &fact(names::PLUGIN_MANIFEST),
            canonical::compact(manifest),
            0o644,
        )
        .build()
}

fn tree_layer(root: &Path, entries: &[Entry]) -> Result<Layer, ImageError> {
    let layer = entries.iter().fold(
        LayerBuilder::new(),
        |layer, Entry { path, kind }| match kind {
            tree::Kind::Directory => layer.directory(path, kind.mode()),
            tree::Kind::File { .. } => layer.file(path, root.join(path), kind.mode()),
        },
    );
    layer.build()
}

pub(super) fn annotations_of(state: &State, marker: &str) -> [(&'static str, String); 7] {
    let State {
        inputs,
        lock_digest,
        ..
    } = state;
    [
        ("org.opencontainers.image.title", inputs.package.clone()),
        (annotations::VERSION, inputs.version.clone()),
        (annotations::PACKAGE, inputs.package.clone()),
        (annotations::MARKER, marker.to_owned()),
        (annotations::LOCK_DIGEST, lock_digest.to_string()),
        (
            "ing.paperclip.plugins.node",
            toolchain::NODE_VERSION.to_owned(),
        ),
        (
            "ing.paperclip.plugins.npm",
            toolchain::NPM_VERSION.to_owned(),
        ),
    ]
}
