//! Flags of the program; each is also an environment variable.

use std::net::SocketAddr;

use clap::Parser;
use paperclip_artifact_format::platform::Platform;

/// Brings `PaperclipPlugin` and `PaperclipHost` objects about.
#[derive(Clone, Debug, Parser)]
#[command(name = "paperclip-operator", version)]
pub struct Args {
    /// Namespace of the platform: packing Jobs, the CA and the Lease live there.
    #[arg(long, env = "POD_NAMESPACE")]
    pub namespace: String,
    /// Name of this pod, the holder named in the Lease.
    #[arg(long, env = "POD_NAME")]
    pub pod_name: String,
    /// Address that `/livez`, `/readyz` and `/metrics` are served at.
    #[arg(long, env = "PAPERCLIP_LISTEN", default_value = "0.0.0.0:8081")]
    pub listen: SocketAddr,
    /// URL of the npm registry that packing Jobs ask. Part of every artifact's key, so it
    /// has no default.
    #[arg(long, env = "PAPERCLIP_NPM_REGISTRY")]
    pub npm_registry: String,
    /// Secret of this namespace with `ca.crt` and `npmrc`, either of them, for the npm registry.
    #[arg(long, env = "PAPERCLIP_NPM_SECRET")]
    pub npm_secret: Option<String>,
    /// Let plugins name registries and tarballs by `http` URLs.
    #[arg(long, env = "PAPERCLIP_ALLOW_INSECURE_SOURCES")]
    pub allow_insecure_sources: bool,
    /// How many packing Jobs may run at once. Others wait in the order of their requests.
    #[arg(long, env = "PAPERCLIP_MAX_PACKING_JOBS", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..))]
    pub max_packing_jobs: u16,
    /// Platforms that artifacts are packed for, as in `linux/arm64`, separated by commas.
    /// Without any, those of the cluster's nodes.
    #[arg(long, env = "PAPERCLIP_PLATFORMS", value_delimiter = ',')]
    pub platforms: Vec<Platform>,
    /// `host:port` of the artifact store for the read credential.
    #[arg(long, env = "PAPERCLIP_STORE_READ")]
    pub store_read: String,
    /// `host:port` of the artifact store for plugins' pods, which takes pull tokens of the operator.
    /// Without it pods show the read credential where that is taken.
    #[arg(long, env = "PAPERCLIP_STORE_PULL")]
    pub store_pull: Option<String>,
    /// `host:port` of the artifact store for the push credential.
    #[arg(long, env = "PAPERCLIP_STORE_PUSH")]
    pub store_push: String,
    /// Secret of this namespace with the read credential: `username`, `password`, `ca.crt`.
    #[arg(
        long,
        env = "PAPERCLIP_STORE_READ_SECRET",
        default_value = "paperclip-store-read"
    )]
    pub store_read_secret: String,
    /// Secret of this namespace with the push credential.
    #[arg(
        long,
        env = "PAPERCLIP_STORE_PUSH_SECRET",
        default_value = "paperclip-store-push"
    )]
    pub store_push_secret: String,
    /// Service of the store in this namespace, whose certificate and credentials the
    /// operator makes. Without it the store is another's and so are the Secrets.
    #[arg(long, env = "PAPERCLIP_STORE_SERVICE")]
    pub store_service: Option<String>,
    /// Image of the sidecar, the shim and the fetch step.
    #[arg(long, env = "PAPERCLIP_SIDECAR_IMAGE")]
    pub sidecar_image: String,
    /// Image of packing Jobs.
    #[arg(long, env = "PAPERCLIP_PACKER_IMAGE")]
    pub packer_image: String,
    /// Image of worker containers.
    #[arg(long, env = "PAPERCLIP_RUNTIME_IMAGE")]
    pub runtime_image: String,
    /// Pull policy of those images.
    #[arg(
        long,
        env = "PAPERCLIP_IMAGE_PULL_POLICY",
        default_value = "IfNotPresent"
    )]
    pub image_pull_policy: String,
    /// Reconciles of one kind that run at the same time.
    #[arg(long, env = "PAPERCLIP_CONCURRENCY", default_value_t = 16)]
    pub concurrency: u16,
}

impl Args {
    /// `host:port` of the artifact store for plugins' pods.
    #[must_use]
    pub fn store_pull(&self) -> &str {
        self.store_pull.as_deref().unwrap_or(&self.store_read)
    }
}
