//! A packed artifact verifies, and a layout that was tampered with is refused by name.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use paperclip_artifact::attachment::Kind;
use paperclip_artifact::inspect::Opened;
use paperclip_artifact::tree;
use paperclip_artifact::verify::{self, Verified};
use paperclip_artifact_format::names;
use paperclip_error_chain::chain;
use paperclip_oci::Digest;
use paperclip_oci::image::{ImageBuilder, LayerBuilder, Manifest};
use paperclip_oci::index::Packed;
use paperclip_oci::layout::Layout;
use paperclip_oci::source::Source;
use serde_json::{Value, json};

use crate::support;

const PACKAGE: &str = "paperclip-plugin-bcp-commerce";

fn pack(folder: &Path, lock: Option<&Path>) {
    let mut command = Command::new(support::packer());
    command
        .args(["pack", "--package", PACKAGE, "--version", "0.1.0"])
        .args(["--registry", &support::npm_registry().url, "--cache"])
        .arg(support::cache())
        .arg("--output")
        .arg(folder);
    if let Some(lock) = lock {
        command.arg("--lock").arg(lock);
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

/// Every file of a folder.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in [folder.to_owned(), folder.join("blobs/sha256")] {
        for file in fs::read_dir(entry).unwrap() {
            let path = file.unwrap().path();
            if path.is_file() {
                let name = path.strip_prefix(folder).unwrap().to_owned();
                found.insert(name, fs::read(path).unwrap());
            }
        }
    }
    found
}

async fn verified(folder: &Path) -> Result<Verified, String> {
    let layout = Layout::open(folder).unwrap();
    let digest = layout.image().map_err(|e| chain(&e))?;
    let work = tempfile::tempdir().unwrap();
    let verified = verify::verify(&Source::Layout(layout), &digest, work.path()).await;
    verified.map_err(|e| chain(&e))
}

/// A layout that can be changed, with all digests above the change made right again.
struct Forged {
    folder: tempfile::TempDir,
}

impl Forged {
    fn of(files: &BTreeMap<PathBuf, Vec<u8>>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("blobs/sha256")).unwrap();
        for (name, content) in files {
            fs::write(folder.path().join(name), content).unwrap();
        }
        Self { folder }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").unwrap();
        self.path().join("blobs/sha256").join(hex)
    }

    fn json(&self, path: &Path) -> Value {
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    }

    fn index(&self) -> Value {
        self.json(&self.path().join("index.json"))
    }

    fn write_index(&self, index: &Value) {
        fs::write(self.path().join("index.json"), index.to_string()).unwrap();
    }

    fn add(&self, content: &[u8]) -> (String, usize) {
        let digest = Digest::of(content).to_string();
        fs::write(self.blob(&digest), content).unwrap();
        (digest, content.len())
    }

    /// The manifest and the blob of the referrer of this kind.
    fn referrer(&self, kind: Kind) -> (usize, Value, Value) {
        let index = self.index();
        let listed = index["manifests"].as_array().unwrap();
        let at = listed
            .iter()
            .position(|one| one["artifactType"] == kind.media_type())
            .unwrap();
        let manifest = self.json(&self.blob(listed[at]["digest"].as_str().unwrap()));
        let blob = manifest["layers"][0]["digest"].as_str().unwrap();
        let content = self.json(&self.blob(blob));
        (at, manifest, content)
    }

    /// Changes the content of a referrer, and every digest that names it.
    fn change(&self, kind: Kind, change: impl Fn(&mut Value)) {
        let (at, mut manifest, mut content) = self.referrer(kind);
        change(&mut content);
        let (digest, size) = self.add(content.to_string().as_bytes());
        manifest["layers"][0]["digest"] = digest.into();
        manifest["layers"][0]["size"] = size.into();
        self.replace(at, &manifest);
    }

    fn replace(&self, at: usize, manifest: &Value) {
        let (digest, size) = self.add(manifest.to_string().as_bytes());
        let mut index = self.index();
        index["manifests"][at]["digest"] = digest.into();
        index["manifests"][at]["size"] = size.into();
        self.write_index(&index);
    }

    async fn refusal(&self) -> String {
        verified(self.path()).await.unwrap_err()
    }
}

/// A new image of the unpacked layers of an honest one, changed: every digest and the marker
/// are right, and only what the parts say of each other is not.
fn rebuilt(honest: &Path, change: impl Fn(&Path)) -> tempfile::TempDir {
    let layout = Layout::open(honest).unwrap();
    let manifest = layout.manifest(&layout.image().unwrap()).unwrap();
    let manifest: Manifest = serde_json::from_slice(&manifest).unwrap();
    let unpacked = tempfile::tempdir().unwrap();
    for layer in &manifest.layers {
        let blob = fs::File::open(layout.path(&layer.digest)).unwrap();
        let plain = flate2::read::GzDecoder::new(blob);
        tar::Archive::new(plain).unpack(unpacked.path()).unwrap();
    }
    change(unpacked.path());
    let facts = unpacked.path().join(names::FACTS);
    let marker = tree::marker(&tree::list(unpacked.path(), tree::LIMITS).unwrap());
    fs::write(facts.join("marker"), &marker).unwrap();
    let kept = tempfile::tempdir().unwrap();
    let moved = kept.path().join(names::FACTS);
    fs::rename(&facts, &moved).unwrap();
    let layers = [(names::FACTS, moved.as_path()), ("", unpacked.path())];
    let layers = layers.map(|(path, from)| {
        let layer = LayerBuilder::new().tree(path, from).unwrap();
        layer.build().unwrap()
    });
    let mut image = ImageBuilder::new();
    for layer in layers {
        image = image.layer(layer);
    }
    for (name, value) in manifest.annotations {
        image = image.annotation(&name, value);
    }
    let image = image
        .annotation("ing.paperclip.plugins.marker", marker)
        .build();
    let folder = tempfile::tempdir().unwrap();
    Layout::write(folder.path(), &Packed::Image(image), &[], "1").unwrap();
    folder
}

async fn parts_that_contradict_each_other_are_refused(honest: &Path) {
    let refusal = async |change: &dyn Fn(&Path)| {
        let folder = rebuilt(honest, change);
        verified(folder.path()).await.unwrap_err()
    };
    let why = refusal(&|_| ()).await;
    assert!(why.contains("has no SBOM"), "nothing else is wrong: {why}");
    let why = refusal(&|root| {
        let folder = root.join("node_modules/evil");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("package.json"), r#"{"version":"1.0.0"}"#).unwrap();
    })
    .await;
    assert!(
        why.contains("node_modules/evil is in the tree and not in the lock"),
        "{why}"
    );
    let why = refusal(&|root| fs::remove_dir_all(root.join("node_modules/zod")).unwrap()).await;
    assert!(
        why.contains("node_modules/zod is in the lock and not in the tree"),
        "{why}"
    );
    let why = refusal(&|root| {
        let path = root.join(".paperclip/package-lock.json");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{text} ")).unwrap();
    })
    .await;
    assert!(why.contains("the lock: its digest is"), "{why}");
    let why = refusal(&|root| {
        let path = root.join(".paperclip/plugin-manifest.json");
        fs::write(&path, r#"{"id":"x"}"#).unwrap();
    })
    .await;
    assert!(
        why.contains("the plugin manifest: plugin manifest: `"),
        "{why}"
    );
    let why = refusal(&|root| {
        let path = root.join(".paperclip/artifact.json");
        fs::write(&path, r#"{"package":"other","version":"0.1.0"}"#).unwrap();
    })
    .await;
    assert!(why.contains("and the artifact itself says other"), "{why}");
}

#[tokio::test]
async fn artifact_is_packed_twice_alike_verifies_and_is_refused_once_anything_is_changed() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    pack(&first, None);
    pack(&second, Some(&first.join("package-lock.json")));
    let honest = files(&first);
    assert!(
        honest == files(&second),
        "image and referrers, byte for byte"
    );

    let shown = verified(&first).await.unwrap();
    let parts: Vec<_> = shown
        .checks
        .iter()
        .map(|check| check.what.as_str())
        .collect();
    assert_eq!(
        parts,
        [
            "OCI manifest and config",
            "layers",
            "tree",
            "plugin manifest",
            "lock",
            "packages",
            "SBOM",
            "provenance",
            "lock",
            "evidence of signatures",
        ]
    );
    every_referrer_says_what_it_must(&first).await;
    parts_that_contradict_each_other_are_refused(&first).await;

    let layers = {
        let forged = Forged::of(&honest);
        let image = forged.index()["manifests"][0]["digest"].clone();
        let manifest = forged.json(&forged.blob(image.as_str().unwrap()));
        manifest["layers"].as_array().unwrap().clone()
    };
    for (layer, name) in layers.iter().zip(["facts layer", "tree layer"]) {
        let forged = Forged::of(&honest);
        let path = forged.blob(layer["digest"].as_str().unwrap());
        let mut content = fs::read(&path).unwrap();
        let last = content.len() - 1;
        content[last] ^= 1;
        fs::write(&path, content).unwrap();
        let why = forged.refusal().await;
        assert!(why.contains(name) && why.contains("its digest is"), "{why}");
    }

    let forged = Forged::of(&honest);
    forged.change(Kind::Sbom, |sbom| {
        sbom["components"]
            .as_array_mut()
            .unwrap()
            .retain(|one| one["name"] != "zod");
    });
    let why = forged.refusal().await;
    assert!(
        why.contains("SBOM: components: `node_modules/zod` is missing"),
        "{why}"
    );

    let forged = Forged::of(&honest);
    let other = Digest::of(b"other");
    forged.change(Kind::Provenance, |statement| {
        statement["subject"][0]["digest"]["sha256"] = other.hex().into();
    });
    let why = forged.refusal().await;
    assert!(
        why.contains(&format!("provenance: its subject is \"{}", other.hex())),
        "{why}"
    );

    let forged = Forged::of(&honest);
    forged.change(Kind::Lock, |lock| {
        lock["packages"]["node_modules/zod"] = Value::Null;
    });
    let why = forged.refusal().await;
    assert!(why.contains("refused: lock: its digest is"), "{why}");

    for (kind, name) in [
        (Kind::Sbom, "SBOM"),
        (Kind::Provenance, "provenance"),
        (Kind::Lock, "lock"),
    ] {
        let forged = Forged::of(&honest);
        let (at, ..) = forged.referrer(kind);
        let mut index = forged.index();
        index["manifests"].as_array_mut().unwrap().remove(at);
        forged.write_index(&index);
        let why = forged.refusal().await;
        assert!(why.contains(&format!("has no {name}")), "{why}");
    }

    let forged = Forged::of(&honest);
    let (at, mut manifest, _) = forged.referrer(Kind::Sbom);
    manifest["annotations"] = json!({});
    forged.replace(at, &manifest);
    let why = forged.refusal().await;
    assert!(
        why.contains("has no SBOM"),
        "what others attach does not count: {why}"
    );

    let forged = Forged::of(&honest);
    let index = forged.index();
    let image = index["manifests"][0]["digest"].as_str().unwrap();
    let mut manifest = forged.json(&forged.blob(image));
    manifest["annotations"]["ing.paperclip.plugins.marker"] = "0".repeat(64).into();
    forged.replace(0, &manifest);
    let why = forged.refusal().await;
    assert!(why.contains("the tree's marker is"), "{why}");
}

/// The bill of materials has what CycloneDX requires and lists the lock's entries; the
/// other two are what they say.
async fn every_referrer_says_what_it_must(folder: &Path) {
    let source = Source::Layout(Layout::open(folder).unwrap());
    let digest = source.tagged("any").await.unwrap();
    let opened = Opened::open(&source, &digest).await.unwrap();
    let read = async |kind| {
        let content = opened.attached(kind).await.unwrap();
        serde_json::from_slice::<Value>(&content).unwrap()
    };
    let (sbom, provenance, lock) = (
        read(Kind::Sbom).await,
        read(Kind::Provenance).await,
        read(Kind::Lock).await,
    );
    assert_eq!(sbom["bomFormat"], "CycloneDX");
    assert_eq!(sbom["specVersion"], "1.6");
    assert_eq!(sbom["metadata"]["component"]["bom-ref"], digest.as_str());
    let mut references = Vec::new();
    for component in sbom["components"].as_array().unwrap() {
        assert_eq!(component["type"], "library");
        let text = |field: &str| {
            component[field]
                .as_str()
                .unwrap_or_else(|| panic!("{component}"))
        };
        let (name, version) = (text("name"), text("version"));
        let named = match component["group"].as_str() {
            Some(group) => format!("{}/{name}", group.replace('@', "%40")),
            None => name.to_owned(),
        };
        assert_eq!(text("purl"), format!("pkg:npm/{named}@{version}"));
        assert_eq!(component["hashes"][0]["alg"], "SHA-512");
        assert_eq!(
            component["hashes"][0]["content"].as_str().unwrap().len(),
            128
        );
        references.push(text("bom-ref").to_owned());
    }
    let entries = lock["packages"].as_object().unwrap().keys();
    let mut entries: Vec<_> = entries.filter(|path| !path.is_empty()).cloned().collect();
    entries.sort();
    assert_eq!(references, entries);
    let zod = sbom["components"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["name"] == "zod");
    assert_eq!(
        zod.unwrap()["licenses"],
        json!([{"license": {"id": "MIT"}}])
    );
    for node in sbom["dependencies"].as_array().unwrap() {
        for target in node["dependsOn"].as_array().unwrap() {
            assert!(
                references.iter().any(|one| target == one.as_str()),
                "{target}"
            );
        }
    }
    assert_eq!(provenance["_type"], "https://in-toto.io/Statement/v1");
    assert_eq!(
        provenance["predicateType"],
        "https://slsa.dev/provenance/v1"
    );
    assert_eq!(provenance["subject"][0]["digest"]["sha256"], digest.hex());
    let text = provenance.to_string();
    assert!(
        text.contains(&support::npm_registry().url),
        "the registry is an input"
    );
    assert!(!text.contains("Time"), "it knows no time: {text}");
}
