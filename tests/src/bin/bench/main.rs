//! Benchmarks of the long run: each step keeps its figures in a file, and the last joins them.

mod apply;
mod bridge;
mod load;
mod pack;
mod pod;
mod raw;
mod report;
mod statistics;
mod usage;
mod workers;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};
use paperclip_tests::Cluster;

/// Measures what the design promises in numbers.
#[derive(Parser)]
#[command(
    name = "bench",
    after_help = "A missed target is printed as missed and is no failure. tests/long.sh runs all of it."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The bridge against raw stdio, as processes of this machine.
    Bridge {
        /// The sidecar, built for release.
        #[arg(long)]
        sidecar: PathBuf,
        /// The shim, built for release.
        #[arg(long)]
        shim: PathBuf,
        /// Interleaved runs.
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        /// File for the figures.
        #[arg(long)]
        figures: PathBuf,
    },
    /// Throughput and cost of the bridge alone, printed run by run.
    Quick {
        /// The sidecar, built for release.
        #[arg(long)]
        sidecar: PathBuf,
        /// The shim, built for release.
        #[arg(long)]
        shim: PathBuf,
        /// Interleaved runs.
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// Calls in one run.
        #[arg(long, default_value_t = 200_000)]
        calls: usize,
    },
    /// From apply to Ready, and memory, on a cluster with the platform installed.
    Apply {
        /// Name of the cluster.
        #[arg(long, env = "PAPERCLIP_TEST_CLUSTER")]
        name: String,
        /// Packings of a version that was never packed.
        #[arg(long, default_value_t = 5)]
        cold: usize,
        /// Starts of an artifact that is in the store.
        #[arg(long, default_value_t = 10)]
        warm: usize,
        /// File for the figures.
        #[arg(long)]
        figures: PathBuf,
    },
    /// Packing against `npm ci`, as processes of this machine.
    Pack {
        /// Name of the cluster whose npm registry is used.
        #[arg(long, env = "PAPERCLIP_TEST_CLUSTER")]
        name: String,
        /// The packer, built for release.
        #[arg(long)]
        packer: PathBuf,
        /// Interleaved runs of each size.
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// File for the figures.
        #[arg(long)]
        figures: PathBuf,
    },
    /// Runs a command and prints what it took; for `pack` itself.
    #[command(hide = true)]
    Measured {
        /// The command.
        #[arg(last = true)]
        command: Vec<String>,
    },
    /// Joins figures into one page and prints it.
    Report {
        /// The page.
        #[arg(long)]
        page: PathBuf,
        /// Files with figures.
        figures: Vec<PathBuf>,
    },
}

#[tokio::main]
async fn main() -> Result<()> {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("a crypto provider was installed before main"))?;
    match Arguments::parse().command {
        Command::Bridge {
            sidecar,
            shim,
            rounds,
            figures,
        } => {
            let programs = pod::programs(&sidecar, &shim)?;
            bridge::measure(&programs, rounds).await?.save(&figures)
        }
        Command::Quick {
            sidecar,
            shim,
            rounds,
            calls,
        } => bridge::quick(&pod::programs(&sidecar, &shim)?, rounds, calls).await,
        Command::Apply {
            name,
            cold,
            warm,
            figures,
        } => {
            let cluster = Cluster::attach(&name)?;
            apply::measure(&cluster, cold, warm).await?.save(&figures)
        }
        Command::Pack {
            name,
            packer,
            rounds,
            figures,
        } => {
            let cluster = Cluster::attach(&name)?;
            pack::measure(&cluster, &packer, rounds)?.save(&figures)
        }
        Command::Measured { command } => pack::measured(&command),
        Command::Report { page, figures } => report::write_page(&figures, &page),
    }
}
