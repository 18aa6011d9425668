//! Packs npm packages into plugin artifacts: lock, install, evaluate, normalise, push.
//!
//! Everything a package or a registry says is hostile here: reads are bounded and every byte is
//! checked against a digest.

pub mod evidence;
pub mod local;
pub mod npm;
pub mod sandbox;
pub mod source;
pub mod steps;
