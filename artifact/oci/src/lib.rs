//! OCI: images, indexes, layouts and referrers as values, and a client of registries.
//!
//! What a registry says is hostile here: reads are bounded and every byte is checked against a
//! digest.

pub mod canonical;
pub mod client;
pub mod digest;
pub mod docker_config;
mod gzip;
pub mod image;
pub mod index;
pub mod layout;
pub mod limits;
pub mod reference;
pub mod referrers;
pub mod source;
mod token;

pub use digest::Digest;
