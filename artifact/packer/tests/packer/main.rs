//! Packing against registries, honest and not, and the real programs.

mod evaluate;
mod pack;
mod platforms;
mod poison;
mod private;
mod promote;
mod publish;
mod pull;
mod registry;
mod support;
mod tenants;
mod trust;
mod verify;
