//! Evaluates a package's plugin manifest, which is JavaScript, in a sealed child.
//!
//! The child is this project's packer program, which seals itself and becomes Node (see
//! [`crate::sandbox::seal`]). It runs twice; what it prints is bounded, compared and then checked
//! in Rust against Paperclip's rules.

use std::fs;
use std::io::{self, Read};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use paperclip_artifact::{bounded, limits};
use paperclip_oci::canonical;
use paperclip_plugin_manifest::ManifestError;
use serde_json::Value;

use crate::npm::toolchain::Toolchain;

/// The packer program's hidden subcommand that seals itself and becomes Node.
pub const SEAL_COMMAND: &str = "sealed-node";

/// Wall time of one run.
const DEADLINE: Duration = Duration::from_secs(10);
/// How often a run is looked at while it works.
const POLL: Duration = Duration::from_millis(10);
/// Bytes of stderr that are kept for messages.
const MAX_STDERR: u64 = 16 * 1024;

/// Files that are tried, as Paperclip does, where `package.json` names none.
const FALLBACKS: [&str; 2] = ["dist/manifest.js", "manifest.js"];

/// Prints the default export, or else the namespace, of a module. What the module prints
/// while it is loaded goes to stderr. The stream of stdout is never made: it would turn the
/// pipe non-blocking, and a large manifest would not fit.
const LOADER: &str = r#"
import { writeSync } from "node:fs";
import { pathToFileURL } from "node:url";
Object.defineProperty(process, "stdout", { value: process.stderr });
const module = await import(pathToFileURL(process.argv[1]).href);
const text = JSON.stringify(module.default ?? module) ?? "null";
const bytes = Buffer.from(text, "utf8");
for (let at = 0; at < bytes.length; ) at += writeSync(1, bytes, at);
process.exit(0);
"#;

/// Why a package has no plugin manifest that could be used.
#[derive(Debug, thiserror::Error)]
pub enum EvaluateError {
    /// No manifest, or one outside the package.
    #[error("the package has no plugin manifest: {0}")]
    Missing(String),
    /// The manifest's code did not end well.
    #[error("the plugin manifest {file} cannot be evaluated: {why}")]
    Failed {
        /// The module.
        file: String,
        /// What happened.
        why: String,
    },
    /// Two runs, two manifests.
    #[error(
        "the plugin manifest {file} is another each time it is evaluated; it must not depend on time or chance"
    )]
    Unstable {
        /// The module.
        file: String,
    },
    /// The manifest breaks a rule.
    #[error(transparent)]
    Invalid(#[from] ManifestError),
    /// The worker file is missing.
    #[error("the plugin manifest names the worker `{worker}`: {why}")]
    Worker {
        /// `entrypoints.worker`.
        worker: String,
        /// What is wrong with it.
        why: String,
    },
    /// The child could not be started, or its seal not be applied.
    #[error("cannot evaluate the plugin manifest in a sealed process: {0}")]
    Seal(String),
    /// The tree could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// Evaluates manifests with one packer program and one Node.
#[derive(Clone, Debug)]
pub struct Evaluator {
    /// The packer program, which has [`SEAL_COMMAND`].
    pub packer: PathBuf,
    /// The pinned Node.
    pub toolchain: Toolchain,
}

impl Evaluator {
    /// The manifest of a package in an installed tree, checked.
    ///
    /// # Errors
    /// When there is none, it cannot be evaluated, differs between two runs, or breaks a rule.
    pub fn evaluate(&self, tree: &Path, package: &str) -> Result<Value, EvaluateError> {
        let folder = tree.join("node_modules").join(package);
        let file = find_manifest(&folder)?;
        let first = self.run(tree, &folder.join(&file), &file)?;
        let second = self.run(tree, &folder.join(&file), &file)?;
        if first != second {
            return Err(EvaluateError::Unstable { file });
        }
        let manifest: Value =
            serde_json::from_slice(&first).map_err(|e| EvaluateError::Failed {
                file,
                why: format!("it printed something that is no JSON: {e}"),
            })?;
        paperclip_plugin_manifest::validate(&manifest)?;
        check_worker(&folder, &manifest)?;
        let size = canonical::compact(&manifest).len() as u64;
        if size > limits::PLUGIN_MANIFEST {
            return Err(ManifestError::too_large(size, limits::PLUGIN_MANIFEST).into());
        }
        Ok(manifest)
    }

    fn run(&self, tree: &Path, path: &Path, file: &str) -> Result<Vec<u8>, EvaluateError> {
        let failed = |why: String| EvaluateError::Failed {
            file: file.to_owned(),
            why,
        };
        let mut child = self
            .command(tree, path)
            .spawn()
            .map_err(|e| EvaluateError::Seal(format!("{}: {e}", self.packer.display())))?;
        let stdout = read_in_thread(child.stdout.take(), limits::PLUGIN_MANIFEST + 1);
        let stderr = read_in_thread(child.stderr.take(), MAX_STDERR);
        let begun = Instant::now();
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break Some(status),
                Ok(None) if begun.elapsed() < DEADLINE && !stdout.is_finished() => {
                    std::thread::sleep(POLL);
                }
                // Done printing, or too late: a child that is about to exit gets its moment.
                Ok(None) if begun.elapsed() < DEADLINE => match finish(&mut child) {
                    Some(status) => break Some(status),
                    None => break None,
                },
                Ok(None) | Err(_) => break None,
            }
        };
        if status.is_none() {
            // Already gone is as good as killed.
            let _ = child.kill();
            let _ = child.wait();
        }
        let stdout = stdout.join().unwrap_or_default();
        let stderr = stderr.join().unwrap_or_default();
        if stdout.len() as u64 > limits::PLUGIN_MANIFEST {
            return Err(failed(format!(
                "it printed more than {} bytes",
                limits::PLUGIN_MANIFEST
            )));
        }
        match status {
            Some(status) if status.success() => Ok(stdout),
            Some(status) if status.code() == Some(SEAL_FAILED) => {
                Err(EvaluateError::Seal(tail(&stderr)))
            }
            Some(status) => Err(failed(format!("{}: {}", describe(status), tail(&stderr)))),
            None => Err(failed(format!("no end after {} s", DEADLINE.as_secs()))),
        }
    }

    fn command(&self, tree: &Path, path: &Path) -> Command {
        let mut command = Command::new(&self.packer);
        command
            .arg(SEAL_COMMAND)
            .arg("--program")
            .arg(self.toolchain.node())
            .arg("--readable")
            .arg(tree)
            .arg("--")
            .args([
                "--no-addons",
                "--max-old-space-size=128",
                "--disable-warning=ExperimentalWarning",
            ])
            .args(["--input-type=module", "--eval", LOADER, "--"])
            .arg(path)
            .current_dir(tree)
            .env_clear()
            .env("TZ", "UTC")
            .env("LANG", "C.UTF-8")
            // OpenSSL passes over a file that is missing and stops at one it may not read.
            .env("OPENSSL_CONF", "/nonexistent")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }
}

/// Exit code of the packer's hidden subcommand when the seal could not be applied. Node
/// has no such code of its own; a module that forges it only turns into another refusal.
pub const SEAL_FAILED: i32 = 97;

/// Waits a moment for a child whose output has ended.
fn finish(child: &mut std::process::Child) -> Option<ExitStatus> {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(2) {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) => std::thread::sleep(POLL),
            Err(_) => return None,
        }
    }
    None
}

/// Reads at most `limit` bytes, then closes the pipe.
fn read_in_thread<R: Read + Send + 'static>(
    stream: Option<R>,
    limit: u64,
) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        if let Some(stream) = stream {
            // What was read before a fault is what there is.
            let _ = stream.take(limit).read_to_end(&mut kept);
        }
        kept
    })
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("it exited with code {code}"),
        (None, Some(signal)) => format!("it was ended by signal {signal}"),
        (None, None) => "it ended".into(),
    }
}

/// The last part of what was printed, without frames of stacks, as one line of text.
fn tail(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let is_frame = |line: &str| {
        let number = line.split_once(": ").map_or("", |(number, _)| number);
        line.starts_with("at ")
            || (!number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
    };
    let lines = text.lines().map(str::trim);
    let lines: Vec<_> = lines
        .filter(|line| !line.is_empty() && !is_frame(line))
        .collect();
    let joined = lines.join(" | ");
    let skip = joined.chars().count().saturating_sub(800);
    joined
        .chars()
        .skip(skip)
        .filter(|c| !c.is_control())
        .collect()
}

/// The manifest's module, relative to the package.
fn find_manifest(folder: &Path) -> Result<String, EvaluateError> {
    let path = folder.join("package.json");
    let text = bounded::read(&path, limits::PACKAGE_JSON)
        .map_err(|e| EvaluateError::Missing(format!("cannot read its package.json: {e}")))?;
    let package: Value = serde_json::from_slice(&text)
        .map_err(|e| EvaluateError::Missing(format!("its package.json is no JSON: {e}")))?;
    let named = &package["paperclipPlugin"]["manifest"];
    if let Some(named) = named.as_str() {
        return match inside(folder, named) {
            Ok(()) => Ok(named.to_owned()),
            Err(why) => Err(EvaluateError::Missing(format!("`{named:.200}` {why}"))),
        };
    }
    let found = FALLBACKS
        .into_iter()
        .find(|file| inside(folder, file).is_ok());
    found.map(str::to_owned).ok_or_else(|| {
        let tried = FALLBACKS.join(" and ");
        EvaluateError::Missing(format!(
            "package.json has no paperclipPlugin.manifest, and {tried} are not there"
        ))
    })
}

fn check_worker(folder: &Path, manifest: &Value) -> Result<(), EvaluateError> {
    let worker = manifest["entrypoints"]["worker"]
        .as_str()
        .unwrap_or_default();
    inside(folder, worker).map_err(|why| EvaluateError::Worker {
        worker: worker.chars().take(200).collect(),
        why: why.to_owned(),
    })
}

/// Checks that a path names a regular file of the package. The tree holds no links.
fn inside(folder: &Path, path: &str) -> Result<(), &'static str> {
    let is_plain = Path::new(path)
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if path.is_empty() || path.contains(['\0', '\\']) || !is_plain {
        return Err("is outside the package");
    }
    match fs::symlink_metadata(folder.join(path)) {
        Ok(metadata) if metadata.is_file() => Ok(()),
        _ => Err("is no file of the package"),
    }
}
