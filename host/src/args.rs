//! The command line.

use std::{
    net::{AddrParseError, SocketAddr},
    path::PathBuf,
    str::FromStr,
};

use clap::{Args, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;

use crate::{
    plugins::{ParsePluginIdError, PluginId},
    session::Target,
};

const EXAMPLES: &str = "\
Examples:
  In a cluster, as the chart starts it:
    paperclip-host serve --host-namespace paperclip --host-name main

  Without a cluster, with one plugin pod at a known address and a token from a file:
    paperclip-host serve --listen 127.0.0.1:3100 --database sqlite://host.db --tls-dir ./tls \\
      --host-namespace dev --host-name main --auth static-token-file --token-file ./token \\
      --plugin-address shop/commerce/0e8f5a4c-3a0f-4a52-9d39-0f0d6d2f8f11=127.0.0.1:8443";

/// Serves Paperclip plugins that run as pods: their state, events, jobs, webhooks and tools.
#[derive(Debug, Parser)]
#[command(name = "paperclip-host", version, about, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve until told to stop.
    #[command(after_help = EXAMPLES)]
    Serve(Box<ServeArgs>),
    /// Call a running host as its clients do, and say what is wrong.
    Check(CheckArgs),
}

/// Settings of `check`.
#[derive(Clone, Debug, Args)]
pub struct CheckArgs {
    /// Address of the HTTP API, such as http://main-paperclip-host:3100.
    #[arg(long, env = "PAPERCLIP_URL")]
    pub url: String,
    /// File of a bearer token; plugins are then listed with it.
    #[arg(long, env = "PAPERCLIP_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
}

/// Settings of `serve`.
#[derive(Clone, Debug, Args)]
pub struct ServeArgs {
    /// Address of the HTTP API.
    #[arg(long, env = "PAPERCLIP_LISTEN", default_value = "0.0.0.0:3100")]
    pub listen: SocketAddr,
    /// Address of /livez, /readyz and /metrics.
    #[arg(long, env = "PAPERCLIP_HEALTH_LISTEN", default_value = "0.0.0.0:8081")]
    pub health_listen: SocketAddr,
    /// SQLite database. The file is made when it is missing.
    #[arg(
        long,
        env = "PAPERCLIP_DATABASE",
        default_value = "sqlite:///var/lib/paperclip-host/host.db"
    )]
    pub database: String,
    /// Folder of tls.crt, tls.key and ca.crt, with which pods are dialled. Read again when they change.
    #[arg(long, env = "PAPERCLIP_TLS_DIR", default_value = "/etc/paperclip/tls")]
    pub tls_dir: PathBuf,
    /// Namespace of the PaperclipHost this process belongs to.
    #[arg(long, env = "PAPERCLIP_HOST_NAMESPACE")]
    pub host_namespace: String,
    /// Name of the PaperclipHost this process belongs to.
    #[arg(long, env = "PAPERCLIP_HOST_NAME")]
    pub host_name: String,
    /// Name of this process in logs and metrics. The name of the pod by default.
    #[arg(long, env = "HOSTNAME", default_value = "paperclip-host")]
    pub replica: String,
    /// How callers of the API prove who they are.
    #[arg(long, env = "PAPERCLIP_AUTH", value_enum, default_value_t = AuthMode::TokenReview)]
    pub auth: AuthMode,
    /// File of the tokens that count, one a line; each may do everything.
    #[arg(
        long,
        env = "PAPERCLIP_TOKEN_FILE",
        required_if_eq("auth", "static-token-file")
    )]
    pub token_file: Option<PathBuf>,
    /// A pod at a fixed address, as <namespace>/<name>/<uid>=<ip>:<port>. Repeatable. The cluster is then not asked.
    #[arg(long, env = "PAPERCLIP_PLUGIN_ADDRESS", value_delimiter = ',')]
    pub plugin_address: Vec<PluginAddress>,
    /// Namespace to look for plugin pods in. Repeatable; all namespaces where it is not given.
    #[arg(long, env = "PAPERCLIP_WATCH_NAMESPACE", value_delimiter = ',')]
    pub watch_namespace: Vec<String>,
    /// Addresses that plugins may reach by http.fetch although they are private, such as 10.20.0.0/16. Repeatable.
    #[arg(long, env = "PAPERCLIP_HTTP_FETCH_ALLOW_CIDR", value_delimiter = ',')]
    pub http_fetch_allow_cidr: Vec<IpNet>,
    /// Run webhooks and jobs without a company, as a Paperclip server does.
    #[arg(long, env = "PAPERCLIP_STRICT_SCOPES")]
    pub strict_scopes: bool,
    /// Calls of one plugin that may wait for a pod that serves, each for at most 10 s.
    #[arg(long, env = "PAPERCLIP_HOST_MAX_HELD_CALLS", default_value_t = crate::plugins::hold::QUEUE)]
    pub max_held_calls: usize,
}

/// How callers prove who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AuthMode {
    /// The API server reviews their bearer token and their rights.
    TokenReview,
    /// Their bearer token is in a file.
    StaticTokenFile,
}

/// A pod at a fixed address.
#[derive(Clone, Debug)]
pub struct PluginAddress(pub Target);

/// A text that is no such pod.
#[derive(Debug, thiserror::Error)]
pub enum ParsePluginAddressError {
    /// There is no `=`.
    #[error("{0:?} is no pod, wanted <namespace>/<name>/<uid>=<ip>:<port>")]
    Shape(String),
    /// What is before it is no plugin.
    #[error(transparent)]
    Plugin(#[from] ParsePluginIdError),
    /// What is after it is no address.
    #[error("address {address:?}, wanted <ip>:<port>")]
    Address {
        /// The text.
        address: String,
        /// Why.
        source: AddrParseError,
    },
}

impl FromStr for PluginAddress {
    type Err = ParsePluginAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (plugin, address) = text
            .split_once('=')
            .ok_or_else(|| ParsePluginAddressError::Shape(text.to_owned()))?;
        Ok(Self(Target {
            plugin: plugin.parse::<PluginId>()?,
            address: address
                .parse()
                .map_err(|source| ParsePluginAddressError::Address {
                    address: address.to_owned(),
                    source,
                })?,
            pod: None,
        }))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_fixed_pod_is_a_plugin_and_an_address() {
        let PluginAddress(target) = "shop/commerce/uid=127.0.0.1:8443".parse().unwrap();
        assert_eq!(target.plugin.to_string(), "shop/commerce/uid");
        assert_eq!(target.address.port(), 8443);
        assert!(
            "shop/commerce=127.0.0.1:8443"
                .parse::<PluginAddress>()
                .is_err()
        );
        assert!(
            "shop/commerce/uid=localhost"
                .parse::<PluginAddress>()
                .is_err()
        );
    }
}
