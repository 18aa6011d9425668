//! The operator reconciles against an API server in memory.

mod host;
mod lifecycle;
mod nodes;
mod operator;
mod plugin;
mod tenants;
mod trust_policy;
mod verification;
