//! Plugin artifacts: lock, install, evaluate, normalise, push, pull and verify.
//!
//! An artifact is one npm package with its whole dependency tree, packed as an OCI
//! image whose bytes follow from its inputs. Everything a package or a registry says is
//! hostile here: reads are bounded and every byte is checked against a digest.

pub mod annotations;
pub mod attachment;
pub mod bounded;
pub mod inline;
pub mod inputs;
pub mod inspect;
pub mod installed;
pub mod limits;
pub mod lock;
pub mod login;
pub mod manifest;
pub mod native;
pub mod outcome;
pub mod provenance;
pub mod pull;
pub mod relock;
pub mod request;
pub mod resolve;
pub mod sbom;
pub mod stored;
pub mod toolchain;
pub mod tree;
pub mod trust;
pub mod verify;
