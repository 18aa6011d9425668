//! `paperclip-sidecar fetch`: the artifact and the shim, delivered into the pod's folders.
//!
//! Of an artifact with an image a platform it takes that of this node's CPU.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use paperclip_artifact::{
    Digest,
    platform::Platform,
    pull,
    store::{StoreClient, StoreOptions},
};

use crate::args::FetchArgs;

/// Name of the shim, beside this program and in the pod.
const SHIM: &str = "paperclip-shim";

/// Delivers both. Running it again over a finished folder changes nothing.
pub async fn run(args: FetchArgs) -> anyhow::Result<()> {
    let reference = Reference::parse(&args.reference)
        .with_context(|| format!("parsing the reference `{}`", args.reference))?;
    let shim = match args.shim {
        Some(path) => path,
        None => beside_this_program()?,
    };
    copy_shim(&shim, &args.bin_dir.join(SHIM))
        .with_context(|| format!("copying {} to {}", shim.display(), args.bin_dir.display()))?;
    let platform =
        Platform::here().context("this node's CPU is none that artifacts are packed for")?;
    let options = StoreOptions::from_folder(reference.store, &args.store_dir)?;
    let store = StoreClient::new(options)?;
    pull::fetch(
        &store,
        reference.repository,
        &reference.digest,
        &args.marker,
        &args.artifact_dir,
        &platform,
    )
    .await
    .with_context(|| format!("fetching {}", args.reference))
}

fn beside_this_program() -> io::Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name(SHIM))
}

/// Copies under another name first, so that a half copy never has the name.
fn copy_shim(from: &Path, to: &Path) -> io::Result<()> {
    let partial = to.with_extension("partial");
    fs::copy(from, &partial)?;
    fs::set_permissions(&partial, fs::Permissions::from_mode(0o755))?;
    fs::rename(&partial, to)
}

/// `<store host:port>/<repository>@sha256:<64 hex digits>`
#[derive(Debug)]
struct Reference<'a> {
    store: &'a str,
    repository: &'a str,
    digest: Digest,
}

impl<'a> Reference<'a> {
    fn parse(text: &'a str) -> anyhow::Result<Self> {
        let (name, digest) = text.rsplit_once('@').context("it has no digest")?;
        let (store, repository) = name.split_once('/').context("it has no repository")?;
        Ok(Self {
            store,
            repository,
            digest: digest.parse().context("its digest is not sha256 in hex")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_falls_into_store_repository_and_digest() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let text = format!("store.ns:5000/plugins/a/b@{digest}");
        let parsed = Reference::parse(&text).unwrap();
        assert_eq!(
            (parsed.store, parsed.repository),
            ("store.ns:5000", "plugins/a/b")
        );
        assert_eq!(parsed.digest.to_string(), digest);
        assert!(Reference::parse("store/x:tag").is_err());
    }
}
