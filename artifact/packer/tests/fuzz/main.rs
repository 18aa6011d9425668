//! Arbitrary bytes where registries and packages write archives, locks, metadata and manifests.
//!
//! Inputs are mutations of a stored corpus, repeated by their seed. Each target runs for 15 s, or
//! for `PAPERCLIP_FUZZ_SECONDS`, side by side with the others; `PAPERCLIP_FUZZ_SEED` begins
//! elsewhere.

#[allow(dead_code, reason = "fuzzing needs a part")]
#[path = "../packer/support/mod.rs"]
mod support;

mod mutate;
mod targets;

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use mutate::Random;
use paperclip_artifact::lock::Lock;
use paperclip_artifact::{limits, pull};
use paperclip_artifact_format::platform::Platform;
use paperclip_oci::Digest;
use paperclip_packer::npm::archive::{self, Budget, Rule};
use paperclip_packer::npm::lookup;
use paperclip_packer::npm::packument::Document;
use serde_json::{Value, json};
use support::MemoryRegistry;

const TARGETS: [targets::Target; 5] = [
    ("tarballs", tarballs),
    ("locks", locks),
    ("metadata", metadata_of_npm),
    ("plugin_manifests", plugin_manifests),
    ("images", images),
];

/// What all runs together may add to the memory of the process: inputs are a few KiB.
const MOST_MEMORY: u64 = 128 * 1024 * 1024;

struct Run {
    random: Random,
    end: Instant,
    inputs: u64,
    taken: u64,
    memory: u64,
}

impl Run {
    fn begin() -> Self {
        let number = |variable: &str, otherwise: u64| {
            let stated = std::env::var(variable).ok();
            stated.map_or(otherwise, |text| text.parse().expect("a number"))
        };
        Self {
            random: Random::new(number("PAPERCLIP_FUZZ_SEED", 1)),
            end: Instant::now() + Duration::from_secs(number("PAPERCLIP_FUZZ_SECONDS", 15)),
            inputs: 0,
            taken: 0,
            memory: resident(),
        }
    }

    fn goes_on(&mut self) -> bool {
        self.inputs += 1;
        Instant::now() < self.end
    }

    /// A run whose inputs were all refused, or all taken, has tested little.
    fn ended(&self, target: &str) {
        let Self { inputs, taken, .. } = self;
        let grown = resident().saturating_sub(self.memory);
        println!("{target}: {inputs} inputs, {taken} taken, {grown} bytes more memory");
        assert!(
            *taken > 0 && taken < inputs,
            "{taken} of {inputs} were taken"
        );
        assert!(grown < MOST_MEMORY, "{grown} bytes more memory");
    }
}

fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.unwrap().trim().trim_end_matches(" kB");
    kibibytes.parse::<u64>().unwrap() * 1024
}

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    let entries = fs::read_dir(folder.join(name)).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::none());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// An archive: mostly whole and signed, so that mutations reach what is behind.
fn archive_of(random: &mut Random, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut archive = mutate::bytes(random, corpus, mutate::TAR);
    if !random.once_in(8) {
        mutate::sign_headers(&mut archive);
    }
    archive
}

#[test]
fn a_tarball_that_is_taken_holds_nothing_that_is_refused() {
    targets::end_of("tarballs");
}

fn tarballs() {
    let corpus = corpus("archives");
    let mut run = Run::begin();
    let mut rules = std::collections::BTreeSet::new();
    while run.goes_on() {
        let archive = archive_of(&mut run.random, &corpus);
        let mut blob = gzip(&archive);
        if run.random.once_in(8) {
            blob = mutate::bytes(&mut run.random, &[blob], mutate::TAR);
        }
        match archive::check(&blob[..], &mut Budget::default()) {
            Ok(()) => {
                run.taken += 1;
                read_again(&blob);
            }
            Err(broken) => {
                let message = broken.clone().of("p@1.0.0").to_string();
                assert!(
                    message.len() < 4096 && !message.contains(char::is_control),
                    "{message:?}"
                );
                rules.insert(broken.rule);
            }
        }
    }
    assert!(rules.contains(&Rule::Link) && rules.len() > 5, "{rules:?}");
    run.ended("tarballs");
}

/// A second reader, which follows pax headers by itself, agrees with the first.
fn read_again(blob: &[u8]) {
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(blob));
    for entry in archive.entries().unwrap() {
        let entry = entry.unwrap();
        let kind = entry.header().entry_type();
        assert!(
            kind.is_file()
                || kind.is_dir()
                || kind.is_contiguous()
                || kind.is_pax_global_extensions()
        );
        if kind.is_pax_global_extensions() {
            continue;
        }
        let path = entry.path_bytes();
        let path = std::str::from_utf8(&path).unwrap();
        assert!(
            !path.starts_with('/') && path.split('/').all(|part| part != ".."),
            "{path}"
        );
        assert!(entry.size() <= limits::FILE);
    }
}

#[test]
fn a_lock_that_is_taken_is_the_same_when_read_again() {
    targets::end_of("locks");
}

fn locks() {
    let corpus = corpus("locks");
    let platform = Platform::default();
    let mut run = Run::begin();
    while run.goes_on() {
        let text = mutate::bytes(&mut run.random, &corpus, mutate::JSON);
        let Ok(lock) = Lock::parse(&text, "p", "1.0.0") else {
            continue;
        };
        run.taken += 1;
        let again = Lock::parse(lock.bytes(), "p", "1.0.0").unwrap();
        assert_eq!(again.bytes(), lock.bytes());
        for tarball in lock.tarballs(&platform) {
            assert!(
                !tarball.name.contains("..") && !tarball.name.starts_with('/'),
                "{tarball:?}"
            );
        }
        let _ = lock.missing_peers();
    }
    run.ended("locks");
}

#[test]
fn metadata_of_npm_gives_a_text_or_a_refusal() {
    targets::end_of("metadata");
}

fn metadata_of_npm() {
    let corpus = corpus("metadata");
    let mut run = Run::begin();
    while run.goes_on() {
        let document = mutate::bytes(&mut run.random, &corpus, mutate::JSON);
        let Ok(parsed) = Document::parse(&document) else {
            continue;
        };
        match lookup::read(&parsed, "p", "1.0.0") {
            Ok(found) => {
                run.taken += 1;
                assert!(found.integrity.len() <= document.len());
            }
            Err(refusal) => assert!(!refusal.to_string().is_empty()),
        }
    }
    run.ended("metadata");
}

#[test]
fn plugin_manifests_are_taken_or_refused_in_words() {
    targets::end_of("plugin_manifests");
}

fn plugin_manifests() {
    let corpus = corpus("plugin-manifests");
    let mut run = Run::begin();
    while run.goes_on() {
        let text = mutate::bytes(&mut run.random, &corpus, mutate::JSON);
        let Ok(manifest) = serde_json::from_slice::<Value>(&text) else {
            continue;
        };
        match paperclip_plugin_manifest::validate(&manifest) {
            Ok(()) => run.taken += 1,
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
    run.ended("plugin manifests");
}

#[test]
fn images_of_a_store_are_taken_or_refused_whatever_it_sends() {
    targets::end_of("images");
}

fn images() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(send_images());
}

async fn send_images() {
    let (manifests, layers) = (corpus("images"), corpus("layers"));
    let registry = MemoryRegistry::default();
    let store = registry.serve().await;
    let mut run = Run::begin();
    while run.goes_on() {
        registry.clear();
        let bytes = mutate::bytes(&mut run.random, &manifests, mutate::JSON);
        let digest = Digest::of(&bytes);
        registry.put(&digest, bytes);
        let taken = store.manifest("plugins/p", &digest).await.is_ok();
        let facts = archive_of(&mut run.random, &layers);
        let digest = publish(&registry, &facts);
        let read = pull::read_plugin_manifest(&store, "plugins/p", &digest).await;
        run.taken += u64::from(taken || read.is_ok());
    }
    run.ended("images");
}

/// Puts an image of one archive twice into a registry, every digest right.
fn publish(registry: &MemoryRegistry, archive: &[u8]) -> Digest {
    let put = |media_type: &str, bytes: Vec<u8>| {
        let (digest, size) = (Digest::of(&bytes), bytes.len());
        registry.put(&digest, bytes);
        json!({"mediaType": format!("application/vnd.oci.image.{media_type}"), "digest": digest, "size": size})
    };
    let layer = put("layer.v1.tar+gzip", gzip(archive));
    let diff_id = Digest::of(archive);
    let config = json!({
        "architecture": "amd64", "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [diff_id, diff_id]},
    });
    let config = put("config.v1+json", config.to_string().into_bytes());
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config, "layers": [layer, layer],
    });
    let manifest = manifest.to_string().into_bytes();
    let digest = Digest::of(&manifest);
    registry.put(&digest, manifest);
    digest
}
