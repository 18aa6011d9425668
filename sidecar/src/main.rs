//! `paperclip-sidecar`: see [`paperclip_sidecar::serve`].

use clap::Parser as _;
use paperclip_sidecar::{args::ServeArgs, program, serve};

fn main() -> anyhow::Result<()> {
    let args = ServeArgs::parse();
    program::run(serve::run(args))
}
