//! The command line.

use std::path::PathBuf;

use clap::Parser;
use paperclip_pod_layout::{path, variable};

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
    #[arg(long, env = "PAPERCLIP_ARTIFACT_DIR", default_value = path::ARTIFACT)]
    pub artifact_dir: PathBuf,
    /// Folder to copy the shim into.
    #[arg(long, env = "PAPERCLIP_BIN_DIR", default_value = path::BIN)]
    pub bin_dir: PathBuf,
    /// Folder with `username`, `password` and `ca.crt` of the artifact store.
    #[arg(long, env = "PAPERCLIP_STORE_DIR", default_value = path::STORE)]
    pub store_dir: PathBuf,
    /// Public keys in PEM, one of which must have signed the artifact. Without them no signature
    /// is asked for.
    #[arg(long, env = variable::SIGNING_KEYS)]
    pub signing_keys: Option<String>,
    /// The shim to copy; by default the one beside this program.
    #[arg(long, env = "PAPERCLIP_SHIM")]
    pub shim: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use paperclip_pod_layout::arguments::{FETCH, MARKER, REFERENCE};

    #[test]
    fn fetch_is_where_the_layout_has_it_whether_it_is_given_or_not() {
        let parse = |flags: &[&str]| {
            let own = ["paperclip-fetch", REFERENCE, "r", MARKER, "m"];
            FetchArgs::try_parse_from(own.iter().chain(flags)).unwrap()
        };
        assert_eq!(format!("{:?}", parse(&FETCH)), format!("{:?}", parse(&[])));
    }
}
