//! The test cluster from the command line: `cluster up`, `cluster down`, and what is between.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};
use paperclip_oci::client::StoreOptions;
use paperclip_tests::{Cluster, images, npm::proxy, platform::Installation, programs};

/// Two-node Kubernetes on this machine, for tests.
#[derive(Parser)]
#[command(
    name = "cluster",
    after_help = "Examples:\n  cluster up\n  cluster images && cluster install\n  export KUBECONFIG=$(cluster kubeconfig)\n  cluster down"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Bring a cluster up, unless it is.
    Up(Named),
    /// Take a cluster down, whatever there is of it.
    Down(Named),
    /// List clusters; fails when a part of one does not run.
    Status,
    /// Print addresses and files of a cluster as JSON.
    Env(Named),
    /// Print the path of a cluster's kubeconfig.
    Kubeconfig(Named),
    /// Print the path of a program: kubectl, helm, helm3, ctr, registry, node. Builds it on first use.
    Tool {
        /// Name of the program.
        name: String,
    },
    /// Make the platform's images of the programs that were built with this one, and push them to
    /// the cluster's registry, or to another.
    Images {
        #[command(flatten)]
        cluster: Named,
        /// Registry to push to instead, `host:port` or `host`.
        #[arg(long)]
        registry: Option<String>,
        /// Speak plain HTTP to that registry.
        #[arg(long, requires = "registry")]
        plain_http: bool,
    },
    /// Install the charts, with the images last pushed.
    Install {
        #[command(flatten)]
        cluster: Named,
        /// Kubeconfig of another cluster.
        #[arg(long, requires = "registry")]
        kubeconfig: Option<PathBuf>,
        /// Registry the images were pushed to.
        #[arg(long, requires = "kubeconfig")]
        registry: Option<String>,
        /// npm registry for packing. Default: the cluster's, or for another cluster the one npm uses here.
        #[arg(long)]
        npm: Option<String>,
        /// Helm program to install with. Default: the Helm 4 built here.
        #[arg(long)]
        helm: Option<PathBuf>,
    },
    /// The cluster's npm registry.
    #[command(subcommand)]
    Npm(NpmCommand),
    /// Serve as the counting proxy before the npm registry.
    #[command(hide = true)]
    NpmProxy(proxy::Options),
}

#[derive(Subcommand)]
enum NpmCommand {
    /// Print how often pods fetched each path, as JSON.
    Counts(Named),
    /// Start counting anew.
    Reset(Named),
    /// Refuse pods from now on.
    Cut(Named),
    /// Serve pods again.
    Restore(Named),
    /// Pack and publish a folder.
    Publish {
        #[command(flatten)]
        cluster: Named,
        /// Folder with a package.json.
        folder: PathBuf,
    },
}

#[derive(Args)]
struct Named {
    /// Name of the cluster.
    #[arg(long, default_value = "dev", env = "PAPERCLIP_TEST_CLUSTER")]
    name: String,
}

impl Named {
    fn attach(&self) -> Result<Cluster> {
        Cluster::attach(&self.name)
    }
}

fn main() -> Result<()> {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("a crypto provider was installed before main"))?;
    run(Arguments::parse().command)
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Up(cluster) => Cluster::up(&cluster.name).map(drop),
        Command::Down(cluster) => Cluster::down(&cluster.name),
        Command::Status => status(),
        Command::Env(cluster) => environment(&cluster.attach()?),
        Command::Kubeconfig(cluster) => print(cluster.attach()?.kubeconfig().display()),
        Command::Tool { name } => print(tool(&name)?.display()),
        Command::Images {
            cluster,
            registry,
            plain_http,
        } => {
            let mut store = match registry {
                Some(registry) => StoreOptions::plain(&registry),
                None => StoreOptions::plain(&cluster.attach()?.registry()),
            };
            store.plain_http =
                plain_http || !store.address.contains('.') || is_address(&store.address);
            print(images::build_and_push(store)?)
        }
        Command::Install {
            cluster,
            kubeconfig,
            registry,
            npm,
            helm,
        } => {
            let mut installation = match kubeconfig.zip(registry) {
                Some((kubeconfig, registry)) => elsewhere(kubeconfig, registry, npm)?,
                None => {
                    let cluster = cluster.attach()?;
                    cluster.keep_inventory()?;
                    Installation::on(&cluster)?
                }
            };
            if let Some(helm) = helm {
                installation.helm = helm;
            }
            tokio::runtime::Runtime::new()?.block_on(installation.apply())
        }
        Command::Npm(command) => npm(command),
        Command::NpmProxy(options) => {
            tokio::runtime::Runtime::new()?.block_on(proxy::serve(options))
        }
    }
}

fn print(value: impl std::fmt::Display) -> Result<()> {
    println!("{value}");
    Ok(())
}

/// Whether a registry is named by an address: those of tests and of laboratories have no TLS.
fn is_address(registry: &str) -> bool {
    registry.parse::<std::net::SocketAddr>().is_ok()
}

fn status() -> Result<()> {
    let mut broken = Vec::new();
    for (name, missing) in Cluster::all()? {
        if missing.is_empty() {
            println!("{name}: up");
        } else {
            println!("{name}: not running: {}", missing.join(", "));
            broken.push(name);
        }
    }
    if broken.is_empty() {
        Ok(())
    } else {
        bail!("not up: {}", broken.join(", "))
    }
}

fn environment(cluster: &Cluster) -> Result<()> {
    let npm = cluster.npm();
    let environment = serde_json::json!({
        "name": cluster.name(),
        "KUBECONFIG": cluster.kubeconfig(),
        "registry": cluster.registry(),
        "imageTag": cluster.image_tag().ok(),
        "npm": {"inCluster": npm.url_in_cluster(), "onThisMachine": npm.url_on_this_machine(), "upstream": npm.upstream_url()},
        "nodes": cluster.node_names(),
        "auditLog": cluster.audit_log(),
        "logs": cluster.dir().join("logs"),
        "kubectl": cluster.kubectl_path(),
    });
    print(serde_json::to_string_pretty(&environment)?)
}

fn tool(name: &str) -> Result<PathBuf> {
    match name {
        "kubectl" => programs::kubernetes("kubectl"),
        "helm" => programs::helm(),
        "helm3" => programs::helm3(),
        "ctr" => programs::containerd("ctr"),
        "registry" => programs::registry(),
        "node" => Ok(programs::node()?.node()),
        _ => bail!("no tool {name}: wanted kubectl, helm, helm3, ctr, registry or node"),
    }
}

fn elsewhere(kubeconfig: PathBuf, registry: String, npm: Option<String>) -> Result<Installation> {
    Ok(Installation {
        helm: programs::helm()?,
        kubectl: programs::kubernetes("kubectl")?,
        kubeconfig,
        image_tag: images::pushed_tag(&registry)?,
        image_registry: registry,
        npm_registry: npm.map_or_else(programs::upstream_npm_registry, Ok)?,
        storage_class: String::new(),
        allowed_cidrs: Vec::new(),
    })
}

fn npm(command: NpmCommand) -> Result<()> {
    match command {
        NpmCommand::Counts(cluster) => print(serde_json::to_string_pretty(
            &cluster.attach()?.npm().counts()?,
        )?),
        NpmCommand::Reset(cluster) => cluster.attach()?.npm().reset_counts(),
        NpmCommand::Cut(cluster) => cluster.attach()?.npm().cut(),
        NpmCommand::Restore(cluster) => cluster.attach()?.npm().restore(),
        NpmCommand::Publish { cluster, folder } => {
            let folder = folder
                .canonicalize()
                .with_context(|| format!("find {}", folder.display()))?;
            cluster.attach()?.npm().publish(&folder)
        }
    }
}
