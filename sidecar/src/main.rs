//! `paperclip-sidecar`: see the library.

use clap::Parser as _;
use paperclip_sidecar::{
    args::{Cli, Command},
    fetch, serve,
};
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

/// One worker, which has one thread as well, is served by one: a second costs more in waking
/// and stealing than it does in work.
const THREADS: usize = 1;

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    tracing_subscriber::registry()
        .with(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info")))
        .with(
            fmt::layer()
                .json()
                .flatten_event(true)
                .with_current_span(false),
        )
        .init();
    // Only fails when a provider is installed already, which then serves as well.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build()?
        .block_on(async {
            match cli.command {
                Command::Fetch(args) => fetch::run(args).await,
                Command::Serve(args) => serve::run(args).await,
            }
        })
}
