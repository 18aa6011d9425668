//! The plugins of this host: their pods, and how work reaches one that serves.

mod facts;
mod identity;
mod invocations;
mod plugin;
mod pod;
mod registry;
pub mod routing;

pub use facts::{Facts, FactsError};
pub use identity::{ParsePluginIdError, PluginId};
pub use invocations::Invocations;
pub use plugin::{Call, Plugin};
pub use pod::Pod;
pub use registry::{Registry, Selector};
