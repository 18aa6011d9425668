//! `paperclip-fetch`: see [`paperclip_fetch`].
//!
//! A program of its own, since what runs once at the start would be resident in every sidecar:
//! the store's client and all that checks artifacts.

use clap::Parser as _;
use paperclip_fetch::args::FetchArgs;

fn main() -> anyhow::Result<()> {
    let args = FetchArgs::parse();
    paperclip_program::run(paperclip_fetch::run(args))
}
