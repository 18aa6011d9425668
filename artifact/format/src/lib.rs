//! Names in and on an artifact, where it runs, and the marker of its tree: what programs need to
//! know that read none of its bytes.

pub mod annotations;
pub mod marker;
pub mod names;
pub mod platform;
