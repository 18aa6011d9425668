//! The artifact of a package that was fetched and evaluated, put together.

use std::collections::BTreeMap;

use paperclip_artifact::attachment::Kind;
use paperclip_artifact::inputs::Inputs;
use paperclip_artifact::lock::Lock;
use paperclip_artifact::{provenance, sbom};
use paperclip_artifact_format::marker;
use paperclip_oci::digest::Digest;
use paperclip_oci::index::Packed;
use paperclip_oci::referrers::Referrer;
use serde_json::Value;

use crate::steps::error::PackError;
use crate::steps::image::{annotations_of, build_image, build_layers};
use crate::steps::work::{State, Tree, Work};

impl Work {
    /// Puts the image of a fetched and evaluated package together, or its images and an index
    /// of them where it is bound to platforms.
    ///
    /// # Errors
    /// When a step before did not end well or the tree is not as it left it.
    pub fn assemble(&self) -> Result<Assembled, PackError> {
        let state: State = self.read(&self.state())?;
        let lock = self.read_bytes(&self.lock())?;
        let manifest: Value = self.read(&self.manifest())?;
        let mut images = BTreeMap::new();
        let mut markers = BTreeMap::new();
        for tree in &state.trees {
            let (marker, layers) = build_layers(&state, &tree.folder, &lock, &manifest)?;
            for platform in &tree.platforms {
                let image = build_image(&state, platform, &marker, layers.clone());
                images.insert(platform.clone(), image);
                markers.insert(platform.clone(), marker.clone());
            }
        }
        let any = images.values().next().cloned();
        let (packed, marker) = match (state.bound, any, markers.values().next()) {
            (false, Some(image), Some(marker)) => (Packed::Image(image), marker.clone()),
            _ => {
                let named = markers.iter().map(|(one, marker)| (one, marker.as_str()));
                let marker = marker::join(named);
                let annotations = annotations_of(&state, &marker);
                let annotations = annotations.map(|(name, value)| (name.to_owned(), value));
                (Packed::index(images, annotations.into()), marker)
            }
        };
        let referrers = self.attach(&state, &packed, &lock)?;
        Ok(Assembled {
            packed,
            referrers,
            marker,
            state,
            lock,
        })
    }

    /// What goes with the artifact: bill of materials, provenance and lock.
    fn attach(
        &self,
        state: &State,
        packed: &Packed,
        lock: &[u8],
    ) -> Result<Vec<Referrer>, PackError> {
        let State {
            inputs,
            lock_digest,
            trees,
            bound,
            ..
        } = state;
        let Inputs {
            package, version, ..
        } = inputs;
        let digest = packed.digest();
        let parsed = Lock::parse(lock, package, version)?;
        let trees = trees.iter().map(|Tree { folder, platforms }| sbom::Tree {
            platforms: platforms.iter().filter(|_| *bound).cloned().collect(),
            folder: folder.clone(),
        });
        let trees: Vec<_> = trees.collect();
        let sbom = sbom::build(&digest, package, version, &parsed, &trees)?;
        let contents = [
            (Kind::Sbom, sbom::bytes(&sbom)),
            (
                Kind::Provenance,
                provenance::build(&digest, inputs, lock_digest),
            ),
            (Kind::Lock, lock.to_vec()),
        ];
        let attach =
            |(kind, content): (Kind, Vec<u8>)| kind.attach(packed.descriptor(), content.into());
        let evidence = match self.evidence().is_file() {
            true => Some((Kind::Evidence, self.read_bytes(&self.evidence())?)),
            false => None,
        };
        Ok(contents.into_iter().chain(evidence).map(attach).collect())
    }
}

/// An artifact that is ready to be pushed.
#[derive(Clone, Debug)]
pub struct Assembled {
    pub(super) packed: Packed,
    pub(super) referrers: Vec<Referrer>,
    pub(super) marker: String,
    pub(super) state: State,
    pub(super) lock: Vec<u8>,
}

impl Assembled {
    /// What it was packed from.
    pub(crate) fn inputs(&self) -> &Inputs {
        &self.state.inputs
    }

    /// The image, or the index and its images.
    #[must_use]
    pub fn packed(&self) -> &Packed {
        &self.packed
    }

    /// What is attached to it.
    #[must_use]
    pub fn referrers(&self) -> &[Referrer] {
        &self.referrers
    }

    /// The version as a tag: it holds no `+`.
    #[must_use]
    pub fn version_tag(&self) -> String {
        self.state.inputs.version.replace('+', "_")
    }

    /// Content of its marker file; of an index that of each platform.
    #[must_use]
    pub fn marker(&self) -> &str {
        &self.marker
    }

    /// Digest of the lock it was installed from.
    #[must_use]
    pub fn lock_digest(&self) -> &Digest {
        &self.state.lock_digest
    }

    /// The lock it was installed from.
    #[must_use]
    pub fn lock(&self) -> &[u8] {
        &self.lock
    }
}
