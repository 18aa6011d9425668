//! Our own host of Paperclip plugins, for clusters without Paperclip.
//!
//! It dials every pod of the plugins that name it, answers what their workers
//! ask over an embedded database, and serves Paperclip's own HTTP paths.

pub mod args;
mod auth;
mod calls;
pub mod check;
pub mod clock;
mod company;
mod database;
mod discovery;
mod events;
mod host;
mod http;
mod jobs;
mod log_entries;
mod manifest;
mod metrics;
mod plugins;
mod rpc;
pub mod serve;
mod services;
mod session;
mod streams;

pub use company::COMPANY_ID;
