//! Plugin artifacts: lock, install, evaluate, normalise, push, pull and verify.
//!
//! An artifact is one npm package with its whole dependency tree, packed as an OCI
//! image whose bytes follow from its inputs. Everything a package or a registry says is
//! hostile here: reads are bounded and every byte is checked against a digest.

pub mod archive;
pub mod attachment;
mod bounded;
pub mod evaluate;
pub mod given;
pub mod inline;
pub mod inputs;
pub mod inspect;
pub mod install;
pub mod limits;
pub mod local;
pub mod lock;
pub mod lookup;
pub mod manifest;
pub mod native;
pub mod normalise;
pub mod outcome;
pub mod pack;
pub mod promote;
pub mod provenance;
pub mod publish;
pub mod pull;
pub mod registry;
pub mod relock;
pub mod request;
pub mod resolve;
pub mod sbom;
pub mod seal;
pub mod tarballs;
pub mod toolchain;
pub mod tree;
pub mod trust;
pub mod verify;
