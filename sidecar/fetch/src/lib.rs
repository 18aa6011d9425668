//! `paperclip-fetch`: the artifact and the shim, delivered into the pod's folders.
//!
//! Of an artifact with an image a platform it takes that of this node's CPU.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use paperclip_artifact::{
    pull,
    trust::{self, PublicKey},
};
use paperclip_artifact_format::platform::Platform;
use paperclip_oci::{
    Digest,
    client::{StoreClient, StoreOptions},
    reference::{Reference, Repository, Version},
};

pub mod args;

use args::FetchArgs;

/// Name of the shim, beside this program and in the pod.
const SHIM: &str = "paperclip-shim";

/// Delivers both. Running it again over a finished folder changes nothing.
pub async fn run(args: FetchArgs) -> anyhow::Result<()> {
    let (repository, digest) = parse_reference(&args.reference)
        .with_context(|| format!("parsing the reference `{}`", args.reference))?;
    let shim = match args.shim {
        Some(path) => path,
        None => beside_this_program()?,
    };
    copy_shim(&shim, &args.bin_dir.join(SHIM))
        .with_context(|| format!("copying {} to {}", shim.display(), args.bin_dir.display()))?;
    let platform =
        Platform::here().context("this node's CPU is none that artifacts are packed for")?;
    let options = StoreOptions::from_folder(&repository.address, &args.store_dir)?;
    let store = StoreClient::new(options)?;
    let keys = match &args.signing_keys {
        Some(keys) => PublicKey::parse_all(keys).context("reading the signing keys")?,
        None => Vec::new(),
    };
    let (marker, folder) = (&*args.marker, &*args.artifact_dir);
    let artifact = (&*repository.path, &digest);
    deliver(&store, artifact, &keys, marker, folder, &platform)
        .await
        .with_context(|| format!("fetching {}", args.reference))
}

/// Delivers the artifact, once one of the keys is found to have signed it. What is there
/// already was checked when it came, and asks nobody.
async fn deliver(
    store: &StoreClient,
    (repository, digest): (&str, &Digest),
    keys: &[PublicKey],
    marker: &str,
    folder: &Path,
    here: &Platform,
) -> anyhow::Result<()> {
    if !keys.is_empty() && !pull::is_delivered(folder, marker) {
        let key = trust::platform::check(store, repository, digest, keys).await?;
        tracing::info!(%digest, %key, "the platform signed the artifact");
    }
    pull::fetch(store, repository, digest, marker, folder, here).await?;
    Ok(())
}

/// `<store host:port>/<repository>@sha256:<64 hex digits>`
fn parse_reference(text: &str) -> anyhow::Result<(Repository, Digest)> {
    let Reference {
        repository,
        version,
    } = text.parse()?;
    match version {
        Version::Digest(digest) => Ok((repository, digest)),
        Version::Tag(_) => anyhow::bail!("it has no digest"),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{
        Router,
        body::Bytes,
        extract::{Request, State},
        http::{Method, StatusCode, header::LOCATION},
        response::{IntoResponse as _, Response},
    };
    use paperclip_artifact::{
        tree,
        trust::{SigningKey, cosign::signature_tag, platform::Origin},
    };
    use paperclip_oci::image::{ImageBuilder, LayerBuilder};
    use std::{
        collections::BTreeMap,
        sync::{Arc, Mutex},
    };

    const REPOSITORY: &str = "plugins/p";

    /// The content of the registry, by path.
    type Content = Arc<Mutex<BTreeMap<String, Bytes>>>;

    async fn serve(State(content): State<Content>, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        let mut content = content.lock().unwrap();
        match (parts.method, path.split_once("/blobs/uploads/")) {
            (Method::POST, _) => {
                (StatusCode::ACCEPTED, [(LOCATION, format!("{path}one"))]).into_response()
            }
            (Method::PUT, Some((repository, _))) => {
                let query = parts.uri.query().unwrap().replace("%3A", ":");
                let digest = query.strip_prefix("digest=").unwrap();
                content.insert(format!("{repository}/blobs/{digest}"), body);
                StatusCode::CREATED.into_response()
            }
            (Method::PUT, None) => {
                content.insert(path, body);
                StatusCode::CREATED.into_response()
            }
            _ => match content.get(&path) {
                Some(bytes) => bytes.clone().into_response(),
                None => StatusCode::NOT_FOUND.into_response(),
            },
        }
    }

    /// A store with an artifact in it.
    struct World {
        content: Content,
        store: StoreClient,
        digest: Digest,
        marker: String,
    }

    impl World {
        async fn new() -> Self {
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
            let content = Content::default();
            let router = Router::new().fallback(serve).with_state(content.clone());
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap().to_string();
            tokio::spawn(async move { axum::serve(listener, router).await });
            let store = StoreClient::new(StoreOptions::plain(&address)).unwrap();
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join("package.json"), "{}").unwrap();
            let marker = tree::marker(&tree::list(folder.path(), tree::LIMITS).unwrap());
            let facts = LayerBuilder::new().bytes(".paperclip/marker", marker.clone(), 0o644);
            let tree = LayerBuilder::new().bytes("package.json", "{}", 0o644);
            let image = ImageBuilder::new()
                .layer(facts.build().unwrap())
                .layer(tree.build().unwrap())
                .build();
            let digest = store.push_image(REPOSITORY, &image, &[]).await.unwrap();
            Self {
                content,
                store,
                digest,
                marker,
            }
        }

        async fn sign(&self, key: &SigningKey) {
            let origin = Origin::default();
            let signed = trust::platform::sign(&self.store, REPOSITORY, &self.digest, &origin, key);
            signed.await.unwrap();
        }

        /// From now on the store denies that there is a signature.
        fn strip(&self) {
            let tag = signature_tag(&self.digest);
            let path = format!("/v2/{REPOSITORY}/manifests/{tag}");
            self.content.lock().unwrap().remove(&path).unwrap();
        }

        async fn fetch(&self, keys: &[&SigningKey], folder: &Path) -> Result<(), String> {
            let keys: Vec<_> = keys.iter().map(|key| key.public().clone()).collect();
            let delivered = deliver(
                &self.store,
                (REPOSITORY, &self.digest),
                &keys,
                &self.marker,
                folder,
                &Platform::default(),
            )
            .await;
            delivered.map_err(|error| format!("{error:#}"))
        }
    }

    fn key() -> SigningKey {
        let key = rcgen::KeyPair::generate().unwrap();
        SigningKey::parse(key.serialize_pem().as_bytes()).unwrap()
    }

    #[tokio::test]
    async fn artifact_is_delivered_when_one_of_the_keys_signed_it() {
        let (world, old, new) = (World::new().await, key(), key());
        world.sign(&old).await;
        let folder = tempfile::tempdir().unwrap();
        world.fetch(&[&new, &old], folder.path()).await.unwrap();
        assert!(folder.path().join("package.json").is_file());
    }

    #[tokio::test]
    async fn store_that_serves_what_is_not_signed_or_by_others_is_refused_by_name() {
        let (world, ours, others) = (World::new().await, key(), key());
        let folder = tempfile::tempdir().unwrap();
        world.sign(&others).await;
        let refused = async || {
            let refused = world.fetch(&[&ours], folder.path()).await.unwrap_err();
            assert!(refused.contains(world.digest.as_str()), "{refused}");
            let left = fs::read_dir(folder.path()).unwrap().count();
            assert_eq!(left, 0, "nothing is unpacked");
            refused
        };
        let foreign = refused().await;
        assert!(foreign.contains("does not hold"), "{foreign}");
        world.strip();
        let missing = refused().await;
        let wanted = format!("wanted one by {}", ours.public().id());
        assert!(missing.contains(&wanted), "{missing}");
    }

    #[tokio::test]
    async fn what_is_there_already_and_what_was_packed_before_ask_for_no_signature() {
        let (world, ours) = (World::new().await, key());
        let folder = tempfile::tempdir().unwrap();
        world.fetch(&[], folder.path()).await.unwrap();
        world.fetch(&[&ours], folder.path()).await.unwrap();
    }

    #[test]
    fn a_reference_falls_into_store_repository_and_digest() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let text = format!("store.ns:5000/plugins/a/b@{digest}");
        let (repository, found) = parse_reference(&text).unwrap();
        assert_eq!(repository.to_string(), "store.ns:5000/plugins/a/b");
        assert_eq!(found.to_string(), digest);
        assert!(parse_reference("store.ns/x:tag").is_err());
    }
}
