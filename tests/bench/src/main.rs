//! Benchmarks of the long run: each step keeps its figures in a file, and the last joins them.

mod apply;
mod bridge;
mod certificates;
mod hosts;
mod idle;
mod idle_cluster;
mod instructions;
mod load;
mod neighbours;
mod node_bridge;
mod nodes;
mod pack;
mod plugins;
mod pod;
mod raw;
mod report;
mod rivals;
mod sizes;
mod statistics;
mod stdio;
mod unary;
mod usage;
mod workers;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use paperclip_tests::Cluster;

use crate::{pod::Programs, report::Record};

/// Titles of the page's sections, in their order.
const SECTIONS: [&str; 11] = [
    bridge::TITLE,
    rivals::TITLE,
    sizes::TITLE,
    hosts::TITLE,
    instructions::TITLE,
    nodes::TITLE,
    neighbours::TITLE,
    idle::TITLE,
    idle_cluster::TITLE,
    apply::TITLE,
    pack::TITLE,
];

/// Measures what the design promises in numbers.
#[derive(Parser)]
#[command(
    name = "bench",
    after_help = "A missed target is printed as missed and is no failure; `report` fails when a ratio is \
                  1.5 times worse than the recorded one. tests/long.sh runs all of it."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// The programs that are measured.
#[derive(Args)]
struct Built {
    /// The sidecar, built for release.
    #[arg(long)]
    sidecar: PathBuf,
    /// The shim, built for release.
    #[arg(long)]
    shim: PathBuf,
}

impl Built {
    fn programs(&self) -> Result<Programs> {
        pod::programs(&self.sidecar, &self.shim)
    }
}

/// How often, and where the figures go.
#[derive(Args)]
struct Runs {
    /// Interleaved runs.
    #[arg(long)]
    rounds: usize,
    /// File for the figures.
    #[arg(long)]
    figures: PathBuf,
}

#[derive(Subcommand)]
enum Command {
    /// The bridge against raw stdio, as processes of this machine.
    Bridge {
        #[command(flatten)]
        built: Built,
        #[command(flatten)]
        runs: Runs,
    },
    /// The bridge against raw stdio, by size, from 100 B to 100 MB.
    Sizes {
        #[command(flatten)]
        built: Built,
        #[command(flatten)]
        runs: Runs,
    },
    /// One worker that 1, 8 and 32 hosts share.
    Hosts {
        #[command(flatten)]
        built: Built,
        #[command(flatten)]
        runs: Runs,
    },
    /// The bridge beside one written in Node, both as unary calls, and raw stdio.
    Rivals {
        #[command(flatten)]
        built: Built,
        #[command(flatten)]
        runs: Runs,
    },
    /// Instructions of the sidecar a call, by callgrind.
    Instructions {
        #[command(flatten)]
        built: Built,
        /// Folder for what callgrind writes, for `callgrind_annotate`.
        #[arg(long)]
        profiles: PathBuf,
        /// File for the figures.
        #[arg(long)]
        figures: PathBuf,
    },
    /// What a plugin costs that nobody calls.
    Idle {
        #[command(flatten)]
        built: Built,
        #[command(flatten)]
        runs: Runs,
        /// Length of a run.
        #[arg(long)]
        seconds: u64,
    },
    /// The operator, the host and the pods of plugins that nobody calls, on a cluster with the
    /// platform installed.
    IdleCluster {
        /// Name of the cluster.
        #[arg(long, env = "PAPERCLIP_TEST_CLUSTER")]
        name: String,
        /// How many plugins.
        #[arg(long)]
        plugins: usize,
        /// How long each look takes.
        #[arg(long)]
        seconds: u64,
        /// File for the figures.
        #[arg(long)]
        figures: PathBuf,
    },
    /// A plugin beside one that misbehaves, on a cluster with the platform installed.
    Neighbours {
        /// Name of the cluster.
        #[arg(long, env = "PAPERCLIP_TEST_CLUSTER")]
        name: String,
        #[command(flatten)]
        runs: Runs,
    },
    /// The bridge on one node and across two, on a cluster with the platform installed.
    Nodes {
        /// Name of the cluster.
        #[arg(long, env = "PAPERCLIP_TEST_CLUSTER")]
        name: String,
        #[command(flatten)]
        runs: Runs,
    },
    /// Throughput and cost of the bridge alone, printed run by run.
    Quick {
        #[command(flatten)]
        built: Built,
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
        #[arg(long)]
        cold: usize,
        /// Starts of an artifact that is in the store.
        #[arg(long)]
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
        #[arg(long)]
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
    /// Compares figures with those that are recorded, records them and makes the page anew.
    Report {
        /// Where figures are recorded.
        #[arg(long)]
        recorded: PathBuf,
        /// The page.
        #[arg(long)]
        page: PathBuf,
        /// Records also what is worse than before.
        #[arg(long)]
        accept: bool,
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
        Command::Bridge { built, runs } => {
            let section = bridge::measure(&built.programs()?, runs.rounds).await?;
            section.save(&runs.figures)
        }
        Command::Sizes { built, runs } => {
            let section = sizes::measure(&built.programs()?, runs.rounds).await?;
            section.save(&runs.figures)
        }
        Command::Hosts { built, runs } => {
            let section = hosts::measure(&built.programs()?, runs.rounds).await?;
            section.save(&runs.figures)
        }
        Command::Rivals { built, runs } => {
            let section = rivals::measure(&built.programs()?, runs.rounds).await?;
            section.save(&runs.figures)
        }
        Command::Instructions {
            built,
            profiles,
            figures,
        } => {
            let section = instructions::measure(&built.programs()?, &profiles).await?;
            section.save(&figures)
        }
        Command::Idle {
            built,
            runs,
            seconds,
        } => {
            let section = idle::measure(&built.programs()?, runs.rounds, seconds).await?;
            section.save(&runs.figures)
        }
        Command::IdleCluster {
            name,
            plugins,
            seconds,
            figures,
        } => {
            let cluster = Cluster::attach(&name)?;
            let section = idle_cluster::measure(&cluster, plugins, seconds).await?;
            section.save(&figures)
        }
        Command::Neighbours { name, runs } => {
            let cluster = Cluster::attach(&name)?;
            let section = neighbours::measure(&cluster, runs.rounds).await?;
            section.save(&runs.figures)
        }
        Command::Nodes { name, runs } => {
            let cluster = Cluster::attach(&name)?;
            let section = nodes::measure(&cluster, runs.rounds).await?;
            section.save(&runs.figures)
        }
        Command::Quick {
            built,
            rounds,
            calls,
        } => bridge::quick(&built.programs()?, rounds, calls).await,
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
        Command::Report {
            recorded,
            page,
            accept,
            figures,
        } => {
            let record = Record {
                figures: recorded,
                page,
            };
            record.take_in(&figures, &SECTIONS, accept)
        }
    }
}
