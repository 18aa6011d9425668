//! The folder that the steps of a packing share, and nothing else.

use std::fs;
use std::path::{Path, PathBuf};

use paperclip_artifact::inputs::Inputs;
use paperclip_artifact::lock::Lock;
use paperclip_artifact_format::platform::Platform;
use paperclip_oci::canonical;
use paperclip_oci::digest::Digest;
use paperclip_packing_api::report::Fetched;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::steps::error::PackError;

/// The origin of a lock.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub(super) enum LockOrigin {
    Request,
    Recorded,
    Resolved,
}

/// What `fetch` leaves for the steps after it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct State {
    pub(super) inputs: Inputs,
    pub(super) lock_digest: Digest,
    pub(super) lock_origin: LockOrigin,
    #[serde(default)]
    pub(super) relock: Option<String>,
    pub(super) trees: Vec<Tree>,
    /// Whether the artifact names the platforms it is for.
    pub(super) bound: bool,
}

/// A tree that npm made, and the platforms it fits.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub(super) struct Tree {
    pub(super) folder: PathBuf,
    pub(super) platforms: Vec<Platform>,
}

/// The trees of an artifact.
pub(super) struct Planted {
    pub(super) trees: Vec<Tree>,
    pub(super) bound: bool,
}

/// The folder that the steps share.
#[derive(Clone, Debug)]
pub struct Work {
    pub(super) folder: PathBuf,
}

impl Work {
    /// A work folder that exists; what a step before left in it is used.
    #[must_use]
    pub fn at(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    pub(super) fn tree(&self) -> PathBuf {
        self.folder.join("tree")
    }

    pub(super) fn tree_for(&self, platform: &Platform) -> PathBuf {
        self.folder.join(format!("tree-{}", platform.cpu))
    }

    pub(super) fn state(&self) -> PathBuf {
        self.folder.join("fetched.json")
    }

    pub(super) fn lock(&self) -> PathBuf {
        self.folder.join("package-lock.json")
    }

    /// What the registry said of signatures. A plugin of one file has none.
    pub(super) fn evidence(&self) -> PathBuf {
        self.folder.join("evidence.json")
    }

    pub(super) fn manifest(&self) -> PathBuf {
        self.folder.join("plugin-manifest.json")
    }

    /// Writes down what the steps after this need to know.
    pub(super) fn keep(
        &self,
        inputs: Inputs,
        lock: &Lock,
        Planted { trees, bound }: Planted,
        (lock_origin, relock): (LockOrigin, Option<&str>),
    ) -> Result<Fetched, PackError> {
        self.write(&self.lock(), lock.bytes())?;
        let fetched = Fetched {
            integrity: inputs.integrity.clone(),
            lock_digest: lock.digest(),
            packages: lock.len(),
        };
        let state = State {
            inputs,
            lock_digest: lock.digest(),
            lock_origin,
            relock: relock.map(str::to_owned),
            trees,
            bound,
        };
        self.write(&self.state(), &canonical::readable(&json!(state)))?;
        Ok(fetched)
    }

    pub(super) fn write(&self, path: &Path, content: &[u8]) -> Result<(), PackError> {
        fs::write(path, content).map_err(|e| work_error(path, e))
    }

    pub(super) fn read_bytes(&self, path: &Path) -> Result<Vec<u8>, PackError> {
        fs::read(path).map_err(|e| work_error(path, e))
    }

    pub(super) fn read<T: DeserializeOwned>(&self, path: &Path) -> Result<T, PackError> {
        serde_json::from_slice(&self.read_bytes(path)?).map_err(|e| work_error(path, e))
    }
}

pub(super) fn work_error(path: &Path, why: impl std::fmt::Display) -> PackError {
    PackError::Work {
        path: path.to_owned(),
        why: why.to_string(),
    }
}
