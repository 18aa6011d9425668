//! `paperclip-sidecar`: see [`paperclip_sidecar::serve`].

use clap::Parser as _;
use paperclip_sidecar::{args::ServeArgs, serve};

fn main() -> anyhow::Result<()> {
    let args = ServeArgs::parse();
    paperclip_program::run(serve::run(args))
}
