//! The plugins of this host: their pods, and how work reaches one that serves.

mod config;
mod failure;
pub mod hold;
mod identity;
mod invocations;
mod plugin;
mod pod;
mod registry;
mod release;
mod sequence;

pub use config::Config;
pub use failure::{CallFailure, Cause};
pub use identity::{ParsePluginIdError, PluginId};
pub use invocations::Invocations;
pub use plugin::{Call, Place, Plugin};
pub use pod::Pod;
pub use registry::{Registry, Selector};
pub use release::{Release, ReleaseError};
