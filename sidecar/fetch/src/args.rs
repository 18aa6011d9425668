//! The command line.

use std::path::PathBuf;

use clap::Parser;

/// Delivers the artifact and the shim into the folders of a plugin pod, then exits.
#[derive(Clone, Debug, Parser)]
#[command(name = "paperclip-fetch", version)]
pub struct FetchArgs {
    /// `<store host:port>/<repository>@sha256:<64 hex digits>`
    #[arg(long, env = "PAPERCLIP_REFERENCE")]
    pub reference: String,
    /// The marker that the artifact must have.
    #[arg(long, env = "PAPERCLIP_MARKER")]
    pub marker: String,
    /// Folder to unpack into.
    #[arg(
        long,
        env = "PAPERCLIP_ARTIFACT_DIR",
        default_value = "/paperclip/artifact"
    )]
    pub artifact_dir: PathBuf,
    /// Folder to copy the shim into.
    #[arg(long, env = "PAPERCLIP_BIN_DIR", default_value = "/paperclip/bin")]
    pub bin_dir: PathBuf,
    /// Folder with `username`, `password` and `ca.crt` of the artifact store.
    #[arg(long, env = "PAPERCLIP_STORE_DIR", default_value = "/paperclip/store")]
    pub store_dir: PathBuf,
    /// Public keys in PEM, one of which must have signed the artifact. Without them no signature
    /// is asked for.
    #[arg(long, env = "PAPERCLIP_SIGNING_KEYS")]
    pub signing_keys: Option<String>,
    /// The shim to copy; by default the one beside this program.
    #[arg(long, env = "PAPERCLIP_SHIM")]
    pub shim: Option<PathBuf>,
}
