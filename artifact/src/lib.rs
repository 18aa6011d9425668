//! Plugin artifacts: pulled, inspected, verified, and judged by policies.
//!
//! An artifact is one npm package with its whole dependency tree, packed as an OCI
//! image whose bytes follow from its inputs. Everything a package or a registry says is
//! hostile here: reads are bounded and every byte is checked against a digest.

pub mod attachment;
pub mod bounded;
pub mod failure;
pub mod inputs;
pub mod inspect;
pub mod installed;
pub mod integrity;
pub mod limits;
pub mod lock;
pub mod lock_diff;
pub mod native;
pub mod provenance;
pub mod pull;
pub mod sbom;
pub mod toolchain;
pub mod tree;
pub mod trust;
pub mod verify;
