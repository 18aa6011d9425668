//! The start that programs of a plugin pod share: logs, TLS and the runtime.

use std::future::Future;

use tracing::Level;
use tracing_subscriber::{
    filter::Targets, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

/// One worker, which has one thread as well, is served by one: a second costs more in waking
/// and stealing than it does in work.
const THREADS: usize = 1;

/// Environment variable with what is logged: levels, by target where wanted.
const LOG: &str = "RUST_LOG";

/// Runs a program to its end, with structured logs on standard output.
///
/// # Errors
/// What the program fails with, and when there is no runtime to be had.
pub fn run(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tracing_subscriber::registry()
        .with(filter())
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
        .block_on(work)
}

/// Levels by target, and no expressions over fields: those bring an engine for regular
/// expressions into every sidecar.
fn filter() -> Targets {
    let wanted = std::env::var(LOG).ok();
    let wanted = wanted.and_then(|wanted| wanted.parse().ok());
    wanted.unwrap_or_else(|| Targets::new().with_default(Level::INFO))
}
