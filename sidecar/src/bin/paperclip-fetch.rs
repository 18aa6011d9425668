//! `paperclip-fetch`: see [`paperclip_sidecar::fetch`].
//!
//! A program of its own, since what runs once at the start would be resident in every sidecar:
//! the store's client and all that checks artifacts.

use clap::Parser as _;
use paperclip_sidecar::{args::FetchArgs, fetch, program};

fn main() -> anyhow::Result<()> {
    let args = FetchArgs::parse();
    program::run(fetch::run(args))
}
