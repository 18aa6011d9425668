//! The command line.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use clap::Parser;
use paperclip_pod_layout::{path, port, variable};

/// The sidecar of a plugin pod: runs the worker and serves the bridge.
#[derive(Clone, Debug, Parser)]
#[command(name = "paperclip-sidecar", version)]
pub struct ServeArgs {
    /// Folder with `facts.json`.
    #[arg(long, env = "PAPERCLIP_FACTS_DIR", default_value = path::FACTS)]
    pub facts_dir: PathBuf,
    /// Folder with `config.json`. Without it the plugin has no config.
    #[arg(long, env = "PAPERCLIP_CONFIG_DIR")]
    pub config_dir: Option<PathBuf>,
    /// Folder with the unpacked artifact.
    #[arg(
        long,
        env = "PAPERCLIP_ARTIFACT_DIR",
        default_value = path::ARTIFACT
    )]
    pub artifact_dir: PathBuf,
    /// Folder with `tls.crt`, `tls.key` and `ca.crt`.
    #[arg(long, env = "PAPERCLIP_TLS_DIR", default_value = path::TLS)]
    pub tls_dir: PathBuf,
    /// Unix socket on which the shim reports.
    #[arg(
        long,
        env = variable::SOCKET,
        default_value = path::SOCKET
    )]
    pub socket: PathBuf,
    /// Address of the bridge.
    #[arg(long, env = "PAPERCLIP_GRPC_LISTEN", default_value = port::GRPC_LISTEN)]
    pub grpc_listen: SocketAddr,
    /// Address of /livez, /readyz and /metrics.
    #[arg(long, env = "PAPERCLIP_HEALTH_LISTEN", default_value = port::HEALTH_LISTEN)]
    pub health_listen: SocketAddr,
    /// Program that runs the worker's entry file.
    #[arg(long, env = "PAPERCLIP_NODE", default_value = "node")]
    pub node: String,
    /// PATH of the worker.
    #[arg(
        long,
        env = "PAPERCLIP_WORKER_PATH",
        default_value = "/usr/local/bin:/usr/bin:/bin"
    )]
    pub worker_path: String,
    /// Memory limit of the worker's container in bytes; Node's heap limit follows it.
    #[arg(long, env = "PAPERCLIP_WORKER_MEMORY_BYTES")]
    pub worker_memory_bytes: Option<u64>,
    /// Address of the API server, which no policy of a plugin pod allows: dialled to find out
    /// whether egress is closed. Set in every pod by the kubelet.
    #[arg(long, env = "KUBERNETES_SERVICE_HOST")]
    pub egress_probe_host: Option<IpAddr>,
    /// Port of it.
    #[arg(long, env = "KUBERNETES_SERVICE_PORT", default_value_t = 443)]
    pub egress_probe_port: u16,
    /// How often the worker is asked for its health, in milliseconds; it has half as long to answer.
    #[arg(long, env = "PAPERCLIP_HEALTH_INTERVAL_MS", default_value_t = 10_000)]
    pub health_interval_ms: u64,
    /// Name of the pod, for logs.
    #[arg(long, env = "POD_NAME", default_value = "")]
    pub pod_name: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use paperclip_pod_layout::arguments;

    #[test]
    fn a_sidecar_is_where_the_layout_has_it_whether_it_is_given_or_not() {
        let parse = |flags: &[&str]| {
            let flags = ["paperclip-sidecar"].iter().chain(flags);
            ServeArgs::try_parse_from(flags).unwrap()
        };
        let rendered = parse(&arguments::SIDECAR);
        assert_eq!(rendered.config_dir, Some(path::CONFIG.into()));
        let rendered = format!("{rendered:?}");
        let own = ServeArgs {
            config_dir: Some(path::CONFIG.into()),
            ..parse(&[])
        };
        assert_eq!(rendered, format!("{own:?}"));
        let limited = parse(&[arguments::WORKER_MEMORY, "1000"]);
        assert_eq!(limited.worker_memory_bytes, Some(1000));
    }
}
