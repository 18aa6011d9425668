//! Sources that are no npm registry.

pub mod promote;
pub mod single_file;
pub mod tarball;
