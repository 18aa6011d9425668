//! Pulling: honest artifacts arrive whole, hostile ones leave nothing behind.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use paperclip_artifact::pull::{self, PullError};
use paperclip_artifact::tree;
use paperclip_artifact_format::platform::Platform;
use paperclip_oci::Digest;
use paperclip_oci::client::StoreClient;
use serde_json::json;
use tar::{EntryType, Header};

use crate::support::MemoryRegistry;

/// One entry as an archive has it; the name is written as it is.
struct Raw {
    name: &'static str,
    kind: EntryType,
    mode: u32,
    content: Vec<u8>,
    link: &'static str,
}

fn file(name: &'static str, content: &str) -> Raw {
    Raw {
        name,
        kind: EntryType::Regular,
        mode: 0o644,
        content: content.into(),
        link: "",
    }
}

fn folder(name: &'static str) -> Raw {
    Raw {
        name,
        kind: EntryType::Directory,
        mode: 0o755,
        content: Vec::new(),
        link: "",
    }
}

fn special(name: &'static str, kind: EntryType, link: &'static str) -> Raw {
    Raw {
        name,
        kind,
        mode: 0o644,
        content: Vec::new(),
        link,
    }
}

fn archive(entries: &[Raw]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for Raw {
        name,
        kind,
        mode,
        content,
        link,
    } in entries
    {
        let mut header = Header::new_gnu();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(*mode);
        header.set_size(content.len() as u64);
        header.set_cksum();
        archive.append(&header, &content[..]).unwrap();
    }
    archive.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The tree that every case starts from, and its marker.
fn honest_tree() -> Vec<Raw> {
    vec![
        folder("node_modules/"),
        file("node_modules/a.js", "1"),
        file("package.json", "{}"),
    ]
}

fn honest_marker() -> String {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("node_modules")).unwrap();
    fs::write(root.path().join("node_modules/a.js"), "1").unwrap();
    fs::write(root.path().join("package.json"), "{}").unwrap();
    tree::marker(&tree::list(root.path(), tree::LIMITS).unwrap())
}

fn facts(marker: &str) -> Vec<Raw> {
    vec![
        folder(".paperclip/"),
        file(
            ".paperclip/marker",
            Box::leak(marker.to_owned().into_boxed_str()),
        ),
        file(".paperclip/plugin-manifest.json", r#"{"id":"acme.x"}"#),
    ]
}

/// Puts an image of two archives into a registry.
async fn publish(facts: &[u8], tree: &[u8]) -> (StoreClient, Digest) {
    let registry = MemoryRegistry::default();
    let mut layers = Vec::new();
    for archive in [facts, tree] {
        let blob = gzip(archive);
        let digest = Digest::of(&blob);
        layers.push(json!({
            "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest, "size": blob.len(),
        }));
        registry.put(&digest, blob);
    }
    let config = json!({
        "architecture": "amd64", "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [Digest::of(facts), Digest::of(tree)]},
    });
    let config = config.to_string().into_bytes();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": Digest::of(&config), "size": config.len(),
        },
        "layers": layers,
    });
    let manifest = manifest.to_string().into_bytes();
    let digest = Digest::of(&manifest);
    registry.put(&Digest::of(&config), config);
    registry.put(&digest, manifest);
    (registry.serve().await, digest)
}

async fn pull_into(destination: &Path, tree: &[u8]) -> Result<(), PullError> {
    let marker = honest_marker();
    let (store, digest) = publish(&archive(&facts(&marker)), tree).await;
    pull::fetch(
        &store,
        "plugins/p",
        &digest,
        &marker,
        destination,
        &Platform::default(),
    )
    .await
}

/// Pulls a tree with something hostile added and gives the refusal.
async fn refusal(mut hostile: Vec<Raw>) -> String {
    let mut entries = honest_tree();
    entries.append(&mut hostile);
    let outside = tempfile::tempdir().unwrap();
    let destination = outside.path().join("destination");
    fs::create_dir(&destination).unwrap();
    let error = pull_into(&destination, &archive(&entries))
        .await
        .unwrap_err();
    assert!(
        !destination.join(".paperclip").exists(),
        "it must not pass for delivered"
    );
    let beside: Vec<_> = fs::read_dir(outside.path()).unwrap().collect();
    assert_eq!(
        beside.len(),
        1,
        "nothing may be written beside the destination"
    );
    error.to_string()
}

#[tokio::test]
async fn honest_artifact_arrives_whole_and_world_readable() {
    let destination = tempfile::tempdir().unwrap();
    pull_into(destination.path(), &archive(&honest_tree()))
        .await
        .unwrap();
    assert!(pull::is_delivered(destination.path(), &honest_marker()));
    let mode = |path: &str| {
        fs::metadata(destination.path().join(path))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(mode("node_modules"), 0o755);
    assert_eq!(mode("node_modules/a.js"), 0o644);
}

#[tokio::test]
async fn second_delivery_touches_nothing_and_a_damaged_one_is_repaired() {
    let destination = tempfile::tempdir().unwrap();
    let tree = archive(&honest_tree());
    pull_into(destination.path(), &tree).await.unwrap();
    let path = destination.path().join("node_modules/a.js");
    let written = fs::metadata(&path).unwrap().modified().unwrap();
    pull_into(destination.path(), &tree).await.unwrap();
    assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), written);
    fs::write(&path, "2").unwrap();
    fs::write(destination.path().join("node_modules/extra"), "").unwrap();
    pull_into(destination.path(), &tree).await.unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "1");
    assert!(!destination.path().join("node_modules/extra").exists());
}

#[tokio::test]
async fn half_done_delivery_starts_afresh() {
    let destination = tempfile::tempdir().unwrap();
    fs::create_dir_all(destination.path().join(".incomplete/root/node_modules")).unwrap();
    fs::create_dir_all(destination.path().join("node_modules/half")).unwrap();
    pull_into(destination.path(), &archive(&honest_tree()))
        .await
        .unwrap();
    assert!(pull::is_delivered(destination.path(), &honest_marker()));
}

#[tokio::test]
async fn paths_that_leave_the_tree_are_refused() {
    for name in [
        "../evil",
        "/etc/evil",
        "node_modules/../../evil",
        "./x",
        "a//b",
        "..",
        "node_modules\\evil",
    ] {
        let why = refusal(vec![file(name, "x")]).await;
        assert!(
            why.contains("leaves the tree") || why.contains("backslash"),
            "{name}: {why}"
        );
    }
}

#[tokio::test]
async fn links_devices_and_pax_headers_are_refused() {
    for (kind, link) in [
        (EntryType::Symlink, "/etc"),
        (EntryType::Symlink, "a.js"),
        (EntryType::Link, "package.json"),
        (EntryType::Char, ""),
        (EntryType::Block, ""),
        (EntryType::Fifo, ""),
        (EntryType::XHeader, ""),
        (EntryType::XGlobalHeader, ""),
        (EntryType::GNUSparse, ""),
    ] {
        let why = refusal(vec![special("node_modules/l", kind, link)]).await;
        assert!(why.contains("entry of type"), "{kind:?}: {why}");
    }
}

#[tokio::test]
async fn names_twice_without_parents_or_in_another_case_are_refused() {
    assert!(
        refusal(vec![file("package.json", "again")])
            .await
            .contains("twice")
    );
    assert!(
        refusal(vec![file("missing/x", "")])
            .await
            .contains("before its folder")
    );
    assert!(
        refusal(vec![file("package.json/x", "")])
            .await
            .contains("before its folder")
    );
    assert!(
        refusal(vec![file("PACKAGE.json", "")])
            .await
            .contains("case")
    );
    assert!(
        refusal(vec![folder(".paperclip/")])
            .await
            .contains("wrong layer")
    );
}

#[tokio::test]
async fn tree_that_is_not_the_marked_one_is_refused() {
    assert!(refusal(vec![file("extra", "")]).await.contains("marker"));
}

#[tokio::test]
async fn bomb_is_refused_before_it_fills_the_disk() {
    let size = tree::LIMITS.bytes + 1;
    let mut header = Header::new_gnu();
    header.set_path("bomb").unwrap();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_cksum();
    // Only the header: a bomb is refused by the size it states, long before its end.
    let mut bytes = archive(&honest_tree());
    bytes.truncate(bytes.len() - 1024);
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(&[0; 4096]);
    let destination = tempfile::tempdir().unwrap();
    let why = pull_into(destination.path(), &bytes)
        .await
        .unwrap_err()
        .to_string();
    assert!(why.contains("unpacks to more than"), "{why}");
}

#[tokio::test]
async fn bytes_that_are_not_of_the_digest_are_refused() {
    let registry = MemoryRegistry::default();
    let digest = Digest::of(b"the real manifest");
    registry.put(&digest, b"{}".to_vec());
    let store = registry.serve().await;
    let destination = tempfile::tempdir().unwrap();
    let error = pull::fetch(
        &store,
        "plugins/p",
        &digest,
        "x",
        destination.path(),
        &Platform::default(),
    )
    .await
    .unwrap_err();
    assert!(matches!(error, PullError::Store { .. }), "{error}");
}

#[tokio::test]
async fn plugin_manifest_is_read_from_the_first_layer_alone() {
    let marker = honest_marker();
    // The tree layer is no archive at all: nobody looks.
    let (store, digest) = publish(&archive(&facts(&marker)), b"not an archive").await;
    let manifest = pull::read_plugin_manifest(&store, "plugins/p", &digest)
        .await
        .unwrap();
    assert_eq!(manifest, json!({"id": "acme.x"}));
}
