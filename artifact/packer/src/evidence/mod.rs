//! Evidence of signatures, gathered where a package or an image comes from. Nothing is judged here.

pub mod image;
pub mod npm;
