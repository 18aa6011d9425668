//! An artifact goes from one registry to another with its digest, and what is no artifact does
//! not.

use paperclip_artifact::attachment::Kind;
use paperclip_artifact::verify;
use paperclip_oci::image::{Descriptor, ImageBuilder, LayerBuilder, MANIFEST_MEDIA_TYPE, Manifest};
use paperclip_oci::source::Source;
use paperclip_oci::{Digest, referrers};
use paperclip_packer::local::Local;
use paperclip_packer::source::promote::{self, PromoteError};
use paperclip_packing_api::report::{Failure, FailureReason};
use paperclip_packing_api::resolve::{Reference, Resolved};
use paperclip_packing_api::single_file::SingleFile;
use serde_json::json;

use crate::support;
use crate::support::oci::OciRegistry;

const THERE: &str = "team/greeter";
const HERE: &str = "plugins/acme.greeter";
const TAG: &str = "request-0";
const PASSWORD: &str = "secret";
const SIGNATURE: &str = "application/vnd.acme.signature";

/// A registry that wants a password and holds an artifact under the tag `1.0.0`.
async fn packed() -> (OciRegistry, Digest) {
    let registry = OciRegistry::start(Some(PASSWORD)).await;
    let single_file = SingleFile {
        manifest: json!({
            "id": "acme.greeter", "apiVersion": 1, "version": "1.0.0", "displayName": "Greeter",
            "description": "Greets.", "author": "Acme", "categories": ["automation"],
            "capabilities": ["events.subscribe"], "entrypoints": {"worker": "./worker.js"},
        }),
        worker: "process.stdin.resume();\n".into(),
    };
    support::install_crypto();
    let local = Local {
        registry: &support::npm_registry(),
        cache: &support::cache(),
        program: support::packer().to_owned(),
    };
    let assembled = local.pack_single_file(&single_file, |_| ()).await.unwrap();
    let store = registry.client(Some(PASSWORD));
    let pushed = assembled.push(&store, THERE, "1.0.0").await.unwrap();
    (registry, pushed.digest)
}

/// Somebody else attaches something of another kind.
async fn sign(registry: &OciRegistry, there: &Source, digest: &Digest) {
    let store = registry.client(Some(PASSWORD));
    let size = there.manifest(digest).await.unwrap().len() as u64;
    let descriptor = |content: &[u8]| Descriptor::of(SIGNATURE, content);
    let manifest = Manifest {
        schema_version: 2,
        media_type: MANIFEST_MEDIA_TYPE.into(),
        artifact_type: Some(SIGNATURE.into()),
        config: descriptor(b"{}"),
        layers: vec![descriptor(b"signed")],
        subject: Some(Descriptor {
            media_type: MANIFEST_MEDIA_TYPE.into(),
            digest: digest.clone(),
            size,
        }),
        annotations: Default::default(),
    };
    for blob in ["{}", "signed"] {
        let digest = Digest::of(blob.as_bytes());
        store.push_blob(THERE, &digest, blob.into()).await.unwrap();
    }
    let content = serde_json::to_vec(&manifest).unwrap();
    let reference = Digest::of(&content);
    let pushed = store.push_manifest(THERE, reference.as_str(), content.clone().into());
    pushed.await.unwrap();
    let tag = referrers::fallback_tag(digest);
    let index = store.tagged_bytes(THERE, &tag).await.unwrap().unwrap();
    let mut index: serde_json::Value = serde_json::from_slice(&index).unwrap();
    let mut listed = json!(Descriptor::of(MANIFEST_MEDIA_TYPE, &content));
    listed["artifactType"] = SIGNATURE.into();
    index["manifests"].as_array_mut().unwrap().push(listed);
    let pushed = store.push_manifest(THERE, &tag, index.to_string().into());
    pushed.await.unwrap();
}

fn source(registry: &OciRegistry, password: Option<&str>) -> Source {
    Source::Store {
        client: registry.client(password),
        repository: THERE.into(),
    }
}

async fn bring(source: &Source, digest: &Digest) -> Result<tempfile::TempDir, PromoteError> {
    let folder = tempfile::tempdir().unwrap();
    let (layout, scratch) = (folder.path().join("layout"), folder.path().join("scratch"));
    promote::bring(source, digest, &layout, &scratch).await?;
    Ok(folder)
}

async fn refusal(source: &Source, digest: &Digest) -> Failure {
    Failure::from(&bring(source, digest).await.unwrap_err())
}

#[tokio::test]
async fn an_artifact_keeps_its_digest_and_what_refers_to_it() {
    let (registry, digest) = packed().await;
    let there = source(&registry, Some(PASSWORD));
    let looked = promote::look_up(&there, &Reference::Tag("1.0.0".into())).await;
    let wanted = Resolved {
        package: Some("acme.greeter".into()),
        version: "1.0.0".into(),
        integrity: digest.to_string(),
    };
    assert_eq!(looked.unwrap(), wanted);

    sign(&registry, &there, &digest).await;
    let folder = bring(&there, &digest).await.unwrap();
    let here = OciRegistry::start(None).await;
    let store = here.client(None);
    let layout = folder.path().join("layout");
    let pushed = promote::push(&layout, &digest, &store, HERE, TAG)
        .await
        .unwrap();
    assert_eq!(pushed.digest, digest);
    let found = store.tagged_manifest(HERE, TAG).await.unwrap().unwrap();
    assert_eq!(found.0, digest);
    let copied = Source::Store {
        client: store.clone(),
        repository: HERE.into(),
    };
    let work = tempfile::tempdir().unwrap();
    verify::verify(&copied, &digest, work.path()).await.unwrap();
    let listed = referrers::list(&store, HERE, &digest).await.unwrap();
    let before = there.referrers(&digest).await.unwrap();
    assert_eq!(listed, before);
    assert_eq!(listed.len(), Kind::ALL.len() + 1);
    let signature = listed.iter().find(|one| one.artifact_type == SIGNATURE);
    let signature = &signature.unwrap().descriptor.digest;
    let signature = store.manifest(HERE, signature).await.unwrap();
    let content = store.blob(HERE, &signature.layers[0], 100).await.unwrap();
    assert_eq!(content, "signed");
    // A second run adds nothing.
    let all = here.content(HERE);
    promote::push(&layout, &digest, &store, HERE, TAG)
        .await
        .unwrap();
    assert_eq!(here.content(HERE), all);
}

#[tokio::test]
async fn a_blob_that_is_another_is_refused_and_nothing_is_pushed() {
    let (registry, digest) = packed().await;
    let there = source(&registry, Some(PASSWORD));
    let store = registry.client(Some(PASSWORD));
    let manifest = store.manifest(THERE, &digest).await.unwrap();
    registry.spoil(THERE, &manifest.layers[1].digest);
    let refused = refusal(&there, &digest).await;
    assert_eq!(refused.reason, FailureReason::PackageRefused, "{refused:?}");
    assert!(
        refused.message.contains(manifest.layers[1].digest.as_str()),
        "{refused:?}"
    );
}

#[tokio::test]
async fn an_image_that_is_no_artifact_is_refused_by_what_it_lacks() {
    let registry = OciRegistry::start(None).await;
    let there = source(&registry, None);
    let store = registry.client(None);
    let layer = |name: &str| {
        let layer = LayerBuilder::new().bytes(name, "x", 0o644);
        layer.build().unwrap()
    };
    let one = ImageBuilder::new().layer(layer("a")).build();
    let two = ImageBuilder::new()
        .layer(layer("a"))
        .layer(layer("b"))
        .build();
    for (image, says) in [(one, "two gzip layers"), (two, "ing.paperclip.plugins.")] {
        let digest = store.push_image(THERE, &image, &["any"]).await.unwrap();
        let reference = Reference::Tag("any".into());
        let looked = promote::look_up(&there, &reference).await.unwrap_err();
        let looked = Failure::from(&looked);
        assert_eq!(looked.reason, FailureReason::PackageRefused, "{looked:?}");
        assert!(looked.message.contains(says), "{looked:?}");
        let refused = refusal(&there, &digest).await;
        assert_eq!(refused.reason, FailureReason::PackageRefused, "{refused:?}");
    }
}

#[tokio::test]
async fn access_denied_and_a_missing_tag_are_told_apart() {
    let (registry, digest) = packed().await;
    for password in [None, Some("wrong")] {
        let there = source(&registry, password);
        let denied = refusal(&there, &digest).await;
        assert_eq!(
            denied.reason,
            FailureReason::RegistryAccessDenied,
            "{denied:?}"
        );
        assert!(!denied.message.contains("wrong"), "{denied:?}");
    }
    let there = source(&registry, Some(PASSWORD));
    let gone = promote::look_up(&there, &Reference::Tag("2.0.0".into())).await;
    let gone = Failure::from(&gone.unwrap_err());
    assert_eq!(gone.reason, FailureReason::VersionNotFound, "{gone:?}");
}
