//! Against the CNCF registry, a program not written here, with TLS and a credential.

use std::path::Path;
use std::process::Command;

use paperclip_artifact::attachment::Kind;
use paperclip_artifact::inputs::{self, Inputs};
use paperclip_artifact::{inspect, pull, verify};
use paperclip_artifact_format::platform::{Platform, Platforms};
use paperclip_oci::client::{Credentials, StoreClient, StoreError, StoreOptions};
use paperclip_oci::image::{ImageBuilder, LayerBuilder};
use paperclip_oci::layout::Layout;
use paperclip_oci::referrers;
use paperclip_oci::source::Source;
use paperclip_packing_api::naming;
use paperclip_packing_api::report::{self, FailureReason, Fetched, StepReport};
use paperclip_packing_api::request::{PackRequest, StoreEndpoints};

use crate::support;
use crate::support::real::{RealRegistry, job, run, step};

#[tokio::test]
async fn image_comes_back_by_digest_and_tag() {
    let registry = RealRegistry::start().await;
    let store = StoreClient::new(registry.options()).unwrap();
    store.ping().await.unwrap();
    let layer = LayerBuilder::new()
        .bytes("a", &b"1"[..], 0o644)
        .build()
        .unwrap();
    let image = ImageBuilder::new().layer(layer).build();
    for _ in 0..2 {
        let digest = store
            .push_image("platform/tool", &image, &["v1"])
            .await
            .unwrap();
        assert_eq!(digest, image.digest());
    }
    let (digest, manifest) = store
        .tagged_manifest("platform/tool", "v1")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(digest, image.digest());
    assert_eq!(
        manifest,
        store.manifest("platform/tool", &digest).await.unwrap()
    );
    assert!(
        store
            .has_blob("platform/tool", image.layers()[0].digest())
            .await
            .unwrap()
    );
    assert!(
        store
            .tagged_manifest("platform/tool", "v2")
            .await
            .unwrap()
            .is_none()
    );
    let content = store
        .blob("platform/tool", &manifest.layers[0], 1 << 20)
        .await
        .unwrap();
    assert_eq!(&content, image.layers()[0].content());
}

#[tokio::test]
async fn referrers_are_found_after_a_push_and_a_second_push_adds_only_what_is_missing() {
    let registry = RealRegistry::start().await;
    let store = StoreClient::new(registry.options()).unwrap();
    let image = ImageBuilder::new().build();
    let digest = store.push_image("plugins/p", &image, &[]).await.unwrap();
    let list = async || referrers::list(&store, "plugins/p", &digest).await.unwrap();
    assert_eq!(list().await, []);
    let all = Kind::ALL.map(|kind| kind.attach(image.descriptor(), kind.name().as_bytes().into()));
    // The first push is cut off after one of three.
    for count in [1, 3, 3, 2] {
        referrers::push(&store, "plugins/p", &digest, &all[..count])
            .await
            .unwrap();
    }
    assert_eq!(list().await, all.clone().map(|one| one.listed().clone()));
    for referrer in &all {
        let listed = referrer.listed();
        let manifest = store
            .manifest("plugins/p", &listed.descriptor.digest)
            .await
            .unwrap();
        assert_eq!(manifest.subject, Some(image.descriptor()));
        let content = store.blob("plugins/p", &manifest.layers[0], 100).await;
        assert_eq!(content.unwrap(), referrer.content());
    }
    // This registry lists none by itself, which is why the tag is there.
    let tag = referrers::fallback_tag(&digest);
    assert!(
        store
            .tagged_bytes("plugins/p", &tag)
            .await
            .unwrap()
            .is_some()
    );
}

#[tokio::test]
async fn two_that_push_referrers_at_once_lose_none_of_the_same() {
    let registry = RealRegistry::start().await;
    let store = StoreClient::new(registry.options()).unwrap();
    let image = ImageBuilder::new().build();
    let digest = store.push_image("plugins/p", &image, &[]).await.unwrap();
    let all = Kind::ALL.map(|kind| kind.attach(image.descriptor(), kind.name().as_bytes().into()));
    let push = || referrers::push(&store, "plugins/p", &digest, &all);
    let (one, two, three) = tokio::join!(push(), push(), push());
    one.and(two).and(three).unwrap();
    let found = referrers::list(&store, "plugins/p", &digest).await.unwrap();
    assert_eq!(found, all.map(|one| one.listed().clone()));
}

#[tokio::test]
async fn credential_and_certificate_are_required() {
    let registry = RealRegistry::start().await;
    let wrong = Credentials {
        username: "pusher".into(),
        password: "guess".into(),
    };
    for credentials in [None, Some(wrong)] {
        let store = StoreClient::new(StoreOptions {
            credentials,
            ..registry.options()
        })
        .unwrap();
        let error = store.ping().await.unwrap_err();
        assert!(
            matches!(&error, StoreError::Refused { status, .. } if status.as_u16() == 401),
            "{error}"
        );
    }
    let untrusted = StoreClient::new(StoreOptions {
        ca_pem: None,
        ..registry.options()
    })
    .unwrap();
    assert!(matches!(
        untrusted.ping().await,
        Err(StoreError::Unreachable { .. })
    ));
}

#[tokio::test]
async fn artifact_comes_back_under_its_tag_and_type() {
    let registry = RealRegistry::start().await;
    let store = StoreClient::new(registry.options()).unwrap();
    let kind = inputs::LOCK_MEDIA_TYPE;
    assert_eq!(
        store
            .artifact("plugins/p", kind, "lock-1", 100)
            .await
            .unwrap(),
        None
    );
    store
        .push_artifact("plugins/p", kind, "{}".into(), "lock-1")
        .await
        .unwrap();
    assert_eq!(
        store
            .artifact("plugins/p", kind, "lock-1", 100)
            .await
            .unwrap()
            .unwrap(),
        "{}"
    );
    assert!(
        store
            .artifact("plugins/p", kind, "lock-1", 1)
            .await
            .is_err()
    );
    assert!(
        store
            .artifact("plugins/p", "application/other", "lock-1", 100)
            .await
            .is_err()
    );
}

fn request(registry: &RealRegistry) -> PackRequest {
    let package = "paperclip-plugin-bcp-commerce";
    let endpoint = registry.options().address;
    PackRequest {
        registry: support::npm_registry().url,
        package: package.into(),
        version: "0.1.0".into(),
        platforms: Platforms::default(),
        store: StoreEndpoints {
            read: endpoint.clone(),
            push: endpoint,
            plain_http: false,
        },
        repository: naming::repository(package),
        ..PackRequest::default()
    }
}

#[tokio::test]
async fn lock_that_another_packing_recorded_wins() {
    let registry = RealRegistry::start().await;
    let request = request(&registry);
    let work = tempfile::tempdir().unwrap();
    let message = step("fetch", &registry, work.path(), &request).await;
    let Some(StepReport::Ok(fetched)) = report::parse::<Fetched>(&message) else {
        panic!("{message}")
    };
    step("evaluate", &registry, work.path(), &request).await;
    let inputs = Inputs {
        registry: request.registry.clone(),
        package: request.package.clone(),
        version: request.version.clone(),
        integrity: fetched.integrity,
        platforms: request.platforms.clone(),
        owner: None,
    };
    let store = StoreClient::new(registry.options()).unwrap();
    let kind = inputs::LOCK_MEDIA_TYPE;
    store
        .push_artifact(
            &request.repository,
            kind,
            "{}".into(),
            &inputs.lock_tag(None),
        )
        .await
        .unwrap();
    let (success, message) = run("push", &registry, work.path(), &request).await;
    assert!(!success);
    let failure = report::parse_failure(&message).unwrap();
    assert_eq!(failure.reason, FailureReason::PackingFailed);
    assert!(
        failure.message.contains("pack again from the recorded one"),
        "{message}"
    );
}

#[tokio::test]
async fn job_packs_into_the_store_records_the_lock_and_a_pod_can_pull() {
    let registry = RealRegistry::start().await;
    let request = request(&registry);
    let first = job(&registry, &request).await;
    let second = job(&registry, &request).await;
    assert_eq!(first, second, "the second packing is of the recorded lock");

    let store = StoreClient::new(registry.options()).unwrap();
    let manifest = pull::read_plugin_manifest(&store, &first.repository, &first.digest)
        .await
        .unwrap();
    assert!(manifest["id"].is_string());
    let pod = tempfile::tempdir().unwrap();
    pull::fetch(
        &store,
        &first.repository,
        &first.digest,
        &first.marker,
        pod.path(),
        &Platform::default(),
    )
    .await
    .unwrap();
    let attached = referrers::list(&store, &first.repository, &first.digest)
        .await
        .unwrap();
    let kinds: Vec<_> = attached
        .iter()
        .map(|one| one.artifact_type.as_str())
        .collect();
    let mut expected = Kind::ALL.map(Kind::media_type).to_vec();
    // What the registry said of signatures.
    expected.push(Kind::Evidence.media_type());
    assert_eq!(kinds, expected, "each once");
    let source = Source::Store {
        client: store,
        repository: first.repository.clone(),
    };
    let opened = inspect::Opened::open(&source, &first.digest).await.unwrap();
    let told = inspect::inspect(&opened).await.unwrap();
    assert_eq!(told.platforms, ["any"]);
    assert_eq!(told.plugin.id, manifest["id"]);
    // The lock alone gives the same on a laptop: the image and all that is attached.
    let lock = pod.path().join(".paperclip/package-lock.json");
    let layout = tempfile::tempdir().unwrap();
    let packed = tokio::process::Command::new(support::packer())
        .args(["pack", "--package", &request.package])
        .args([
            "--version",
            &request.version,
            "--registry",
            &request.registry,
        ])
        .args([
            Path::new("--lock"),
            &lock,
            Path::new("--output"),
            layout.path(),
        ])
        .args([Path::new("--cache"), &support::cache()])
        .status();
    assert!(packed.await.unwrap().success());
    let here = Source::Layout(Layout::open(layout.path()).unwrap());
    assert_eq!(here.tagged("0.1.0").await.unwrap(), first.digest);
    assert_eq!(here.referrers(&first.digest).await.unwrap(), attached);
    let work = tempfile::tempdir().unwrap();
    verify::verify(&source, &first.digest, work.path())
        .await
        .unwrap();
    let toolchain = support::toolchain().await;
    let imported = Command::new(toolchain.node())
        .args([
            "--input-type=module",
            "--eval",
            "import '@paperclipai/plugin-sdk'",
        ])
        .current_dir(pod.path())
        .status()
        .unwrap();
    assert!(imported.success(), "the SDK of the delivered tree loads");
}
