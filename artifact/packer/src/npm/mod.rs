//! npm: its registry, its resolution and its installation, each bounded and checked.

pub mod archive;
pub mod download;
pub mod error;
pub mod gateway;
pub mod install;
pub mod lookup;
pub mod normalise;
mod npmrc;
pub mod packument;
pub mod registry;
pub mod resolve;
mod run;
pub mod tarballs;
pub mod toolchain;
