//! The sandbox in which a plugin manifest, which is JavaScript, is evaluated.

pub mod evaluate;
pub mod seal;
