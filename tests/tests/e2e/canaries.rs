//! Looks for secret values everywhere they must not be: resources, Secrets of others and Helm's
//! records among them, logs, environments and command lines of processes, disks of pods, the
//! host's tables, packed artifacts.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::Value;

use crate::support::{HOST_NAMESPACE, PLATFORM_NAMESPACE, cluster, get, kubectl};

/// Keys of Secrets of the platform that hold what nobody else may know.
const CREDENTIALS: [&str; 5] = ["password", "htpasswd", "token", "tls.key", "key.pem"];

/// A secret text and where it belongs.
struct Canary {
    origin: String,
    /// The Secrets that hold it, as `<namespace>/<name>`.
    secrets: Vec<String>,
    /// Ways in which it would be written down.
    forms: Vec<Vec<u8>>,
}

impl Canary {
    fn new(secrets: &[String], what: &str, value: &str) -> Self {
        let forms = [value.to_owned(), BASE64_STANDARD.encode(value)];
        Self {
            origin: format!("{what} of {}", secrets.join(" and ")),
            secrets: secrets.to_owned(),
            forms: forms.map(String::into_bytes).into(),
        }
    }

    fn is_in(&self, bytes: &[u8]) -> bool {
        self.forms
            .iter()
            .any(|form| memchr::memmem::find(bytes, form).is_some())
    }
}

/// What was looked at, and how much of it.
#[derive(Debug, Default)]
struct Looked {
    resources: usize,
    secrets: usize,
    logs: usize,
    processes: usize,
    files: usize,
    /// Of these files, those that were packed and looked at unpacked.
    unpacked: usize,
}

/// Looks everywhere but in these Secrets of a namespace for the values that were planted, and
/// everywhere but in its own Secret for every credential of the platform, the host and this
/// namespace.
///
/// # Errors
/// When one is found, naming the place, or when a place could not be looked at.
pub fn are_nowhere_else(planted: &[&str], namespace: &str, secrets: &[&str]) -> Result<()> {
    let secrets = secrets.iter().map(|name| format!("{namespace}/{name}"));
    let secrets: Vec<String> = secrets.collect();
    let mut canaries: Vec<Canary> = planted
        .iter()
        .map(|value| Canary::new(&secrets, &format!("planted {value}"), value))
        .collect();
    let namespaces = [PLATFORM_NAMESPACE, HOST_NAMESPACE, namespace];
    for namespace in namespaces {
        let found = credentials(namespace)?.into_iter();
        canaries.extend(found.filter(|canary| !secrets.contains(&canary.secrets[0])));
    }
    ensure!(
        canaries.len() > planted.len() + 6,
        "the platform's own credentials are looked for"
    );
    let mut looked = Looked::default();
    look_at_resources(&canaries, &mut looked)?;
    look_at_secrets(&canaries, &mut looked)?;
    for namespace in namespaces {
        look_at_logs(namespace, &canaries, &mut looked)?;
    }
    look_at_processes(&canaries, &mut looked)?;
    look_at_disks(&canaries, &mut looked)?;
    println!("canaries: {} nowhere in {looked:?}", canaries.len());
    // A search that sees nothing finds nothing.
    ensure!(looked.resources > 30 && looked.logs > 5, "{looked:?}");
    ensure!(looked.secrets > 5, "{looked:?}");
    ensure!(looked.processes > 5 && looked.unpacked > 2, "{looked:?}");
    Ok(())
}

/// Passwords and keys in the Secrets of a namespace.
fn credentials(namespace: &str) -> Result<Vec<Canary>> {
    let secrets = get(&["secrets", "-n", namespace])?;
    let mut canaries = Vec::new();
    for secret in secrets["items"].as_array().context("items")? {
        for key in CREDENTIALS {
            let Some(encoded) = secret["data"][key].as_str() else {
                continue;
            };
            let value = String::from_utf8(BASE64_STANDARD.decode(encoded)?)?;
            let secret = place_of(secret)?;
            // A key may be written in other lines than these; its middle stays what it is.
            let value = match key {
                "tls.key" | "key.pem" => value.lines().nth(1).context("a key in PEM")?,
                _ => value.trim(),
            };
            canaries.push(Canary::new(std::slice::from_ref(&secret), key, value));
        }
    }
    Ok(canaries)
}

/// `<namespace>/<name>` of an object.
fn place_of(object: &Value) -> Result<String> {
    let metadata = &object["metadata"];
    let namespace = metadata["namespace"].as_str().context("a namespace")?;
    Ok(format!(
        "{namespace}/{}",
        metadata["name"].as_str().context("a name")?
    ))
}

fn check<'a>(
    canaries: impl IntoIterator<Item = &'a Canary>,
    place: &str,
    bytes: &[u8],
) -> Result<()> {
    for canary in canaries {
        ensure!(
            !canary.is_in(bytes),
            "the secret {} is in {place}",
            canary.origin
        );
    }
    Ok(())
}

/// Every kind but Secrets, which are looked at below, events among them.
fn look_at_resources(canaries: &[Canary], looked: &mut Looked) -> Result<()> {
    let mut kinds = cluster().listable_kinds()?;
    kinds.retain(|kind| kind != "secrets");
    kinds.push("events".into());
    for kind in kinds {
        let objects = kubectl(&[
            "get",
            &kind,
            "-A",
            "-o",
            "yaml",
            "--ignore-not-found",
            "--show-managed-fields",
        ])?;
        check(
            canaries,
            &format!("the {kind} of the API"),
            objects.as_bytes(),
        )?;
        looked.resources += 1;
    }
    Ok(())
}

/// Every Secret of the cluster, as it is and decoded, for what belongs to another.
fn look_at_secrets(canaries: &[Canary], looked: &mut Looked) -> Result<()> {
    let secrets = get(&["secrets", "-A", "--show-managed-fields"])?;
    for secret in secrets["items"].as_array().context("items")? {
        let own = place_of(secret)?;
        let foreign = || {
            canaries
                .iter()
                .filter(|canary| !canary.secrets.contains(&own))
        };
        let place = format!("the Secret {own}");
        check(foreign(), &place, secret.to_string().as_bytes())?;
        for (key, encoded) in secret["data"].as_object().into_iter().flatten() {
            let mut content = BASE64_STANDARD.decode(encoded.as_str().context("base64")?)?;
            if secret["type"] == "helm.sh/release.v1" {
                content = helm_release(&content)?;
            }
            check(foreign(), &format!("{place}, key {key}"), &content)?;
        }
        looked.secrets += 1;
    }
    Ok(())
}

/// What Helm wrote down of a release: values and manifests.
fn helm_release(content: &[u8]) -> Result<Vec<u8>> {
    let packed = BASE64_STANDARD.decode(content)?;
    let mut release = Vec::new();
    flate2::read::GzDecoder::new(packed.as_slice()).read_to_end(&mut release)?;
    ensure!(release.starts_with(b"{"), "a release of Helm is JSON");
    Ok(release)
}

fn look_at_logs(namespace: &str, canaries: &[Canary], looked: &mut Looked) -> Result<()> {
    for pod in get(&["pods", "-n", namespace])?["items"]
        .as_array()
        .context("items")?
    {
        let name = pod["metadata"]["name"].as_str().context("name")?;
        for container in containers(pod) {
            let arguments = ["logs", "-n", namespace, name, "-c", &container];
            // A container that has not begun has no log.
            let Ok(log) = kubectl(&arguments) else {
                continue;
            };
            let place = format!("the log of {namespace}/{name} {container}");
            check(canaries, &place, log.as_bytes())?;
            looked.logs += 1;
        }
    }
    Ok(())
}

fn containers(pod: &Value) -> Vec<String> {
    ["initContainers", "containers"]
        .iter()
        .filter_map(|list| pod["spec"][list].as_array())
        .flatten()
        .filter_map(|container| Some(container["name"].as_str()?.to_owned()))
        .collect()
}

/// Environment and command line of every process in a pod.
fn look_at_processes(canaries: &[Canary], looked: &mut Looked) -> Result<()> {
    for entry in std::fs::read_dir("/proc")? {
        let folder = entry?.path();
        // A process may end between the listing and the reads.
        let read = |file: &str| std::fs::read(folder.join(file)).unwrap_or_default();
        if !String::from_utf8_lossy(&read("cgroup")).contains("kubepods") {
            continue;
        }
        for file in ["environ", "cmdline"] {
            let place = format!(
                "{file} of {}",
                String::from_utf8_lossy(&read("cmdline")).replace('\0', " ")
            );
            check(canaries, &place, &read(file))?;
        }
        looked.processes += 1;
    }
    Ok(())
}

/// Volumes of the host and the store, and the folders that pods write into.
fn look_at_disks(canaries: &[Canary], looked: &mut Looked) -> Result<()> {
    let mut roots = vec![cluster().dir().join("volumes")];
    for node in cluster().node_names() {
        let pods = cluster().dir().join(node).join("kubelet/pods");
        for pod in std::fs::read_dir(&pods).with_context(|| format!("read {}", pods.display()))? {
            roots.push(pod?.path().join("volumes/kubernetes.io~empty-dir"));
        }
    }
    for root in roots.into_iter().filter(|root| root.exists()) {
        for file in files_below(&root) {
            look_at_file(&file, canaries, looked)?;
        }
    }
    Ok(())
}

fn files_below(root: &Path) -> Vec<PathBuf> {
    walkdir::WalkDir::new(root)
        .into_iter()
        // A pod may end while its folder is read.
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_file())
        .map(walkdir::DirEntry::into_path)
        .collect()
}

fn look_at_file(file: &Path, canaries: &[Canary], looked: &mut Looked) -> Result<()> {
    let Ok(bytes) = std::fs::read(file) else {
        return Ok(());
    };
    let place = file.display().to_string();
    check(canaries, &place, &bytes)?;
    looked.files += 1;
    if bytes.starts_with(&[0x1f, 0x8b]) {
        let mut unpacked = Vec::new();
        // What is being written, or was broken off, is looked at as far as it goes.
        let _ = flate2::read::MultiGzDecoder::new(bytes.as_slice()).read_to_end(&mut unpacked);
        check(canaries, &format!("{place}, unpacked"), &unpacked)?;
        looked.unpacked += 1;
    }
    Ok(())
}
