//! Packing against `npm ci` of the same tree: time, memory and bytes.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use paperclip_tests::{Cluster, platform::repository, programs};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    report::{Better, Printed, Row, Section},
    statistics::median,
};

/// A plugin without code of its own that depends on real packages.
struct Size {
    name: &'static str,
    dependencies: &'static [(&'static str, &'static str)],
}

/// What plugins look like, from next to nothing to a whole tool chain.
/// Heading of the section.
pub const TITLE: &str = "Packing";
const SIZES: [Size; 3] = [
    Size {
        name: "small",
        dependencies: &[("zod", "3.25.76")],
    },
    Size {
        name: "medium",
        dependencies: &[
            ("axios", "1.7.9"),
            ("express", "4.21.2"),
            ("lodash", "4.17.21"),
            ("pino", "9.6.0"),
        ],
    },
    Size {
        name: "large",
        dependencies: &[
            ("@babel/core", "7.26.0"),
            ("eslint", "9.17.0"),
            ("typescript", "5.7.2"),
            ("webpack", "5.97.1"),
        ],
    },
];

/// What one run took.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Cost {
    seconds: f64,
    /// Of the largest process of the run.
    megabytes: f64,
}

/// Runs a command to its end in this process, which does nothing else, and prints its cost.
pub fn measured(command: &[String]) -> Result<()> {
    let (program, arguments) = command.split_first().context("a command to measure")?;
    let start = Instant::now();
    let output = Command::new(program).args(arguments).output()?;
    let seconds = start.elapsed().as_secs_f64();
    ensure!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    // The kernel counts kibibytes.
    let largest = getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss();
    let megabytes = largest as f64 * 1024.0 / 1e6;
    println!("{}", json!(Cost { seconds, megabytes }));
    Ok(())
}

/// Measures each size on a cluster's npm registry, which has fetched every tarball before.
pub fn measure(cluster: &Cluster, packer: &Path, rounds: usize) -> Result<Section> {
    ensure!(rounds > 0, "nothing to measure");
    let mut rows = Vec::new();
    for size in &SIZES {
        rows.extend(Bench::new(cluster, packer, size)?.rows(rounds)?);
    }
    Ok(Section {
        rows,
        ..Section::new(
            TITLE,
            format!(
                "A plugin that depends on real packages, packed by the packer as a process of this machine, \
             release build, against the pinned npm's `npm ci` of the same lock; both with an empty cache \
             from a registry on this machine that has the tarballs; medians of {rounds} interleaved runs. \
             Packing does more: it walks each tarball, evaluates the plugin manifest twice in a sealed \
             process, builds image, bill of materials and provenance, and writes the layout. Memory is the \
             resident peak of the largest process of a run."
            ),
        )?
    })
}

struct Bench<'a> {
    size: &'a Size,
    registry: String,
    packer: PathBuf,
    package: String,
    version: String,
    /// The lock of the tree, and the `package.json` it belongs to.
    project: tempfile::TempDir,
    entries: usize,
}

/// What one packing left.
struct Packed {
    cost: Cost,
    layout: tempfile::TempDir,
}

impl<'a> Bench<'a> {
    fn new(cluster: &Cluster, packer: &Path, size: &'a Size) -> Result<Self> {
        let since_epoch = std::time::SystemTime::UNIX_EPOCH.elapsed()?;
        let mut bench = Self {
            size,
            registry: cluster.npm().url_on_this_machine(),
            packer: packer.to_owned(),
            package: format!("paperclip-plugin-bench-{}", size.name),
            version: format!("1.0.{}", since_epoch.as_secs()),
            project: tempfile::tempdir()?,
            entries: 0,
        };
        bench.publish(cluster)?;
        // Has the registry fetch what it lacks, and gives the lock for both sides.
        let first = bench.pack(None)?;
        let lock = fs::read(first.layout.path().join("layout/package-lock.json"))?;
        let lock: Value = serde_json::from_slice(&lock)?;
        let packages = lock["packages"].as_object().context("packages")?;
        bench.entries = packages.len() - 1;
        let root = json!({"dependencies": packages[""]["dependencies"]});
        fs::write(bench.path("package.json"), root.to_string())?;
        fs::write(bench.path("package-lock.json"), lock.to_string())?;
        Ok(bench)
    }

    fn path(&self, file: &str) -> PathBuf {
        self.project.path().join(file)
    }

    /// The settings plugin under another name, with the dependencies.
    fn publish(&self, cluster: &Cluster) -> Result<()> {
        let source = repository().join("tests/plugins/settings");
        let copy = tempfile::tempdir()?;
        for file in ["manifest.js", "worker.js"] {
            fs::copy(source.join(file), copy.path().join(file))?;
        }
        let mut description: Value =
            serde_json::from_slice(&fs::read(source.join("package.json"))?)?;
        description["name"] = json!(self.package);
        description["version"] = json!(self.version);
        description["dependencies"] = self
            .size
            .dependencies
            .iter()
            .map(|(name, version)| ((*name).to_owned(), json!(version)))
            .collect();
        fs::write(copy.path().join("package.json"), description.to_string())?;
        cluster.npm().publish(copy.path())
    }

    fn pack(&self, lock: Option<&Path>) -> Result<Packed> {
        let layout = tempfile::tempdir()?;
        let mut command = Command::new(&self.packer);
        command
            .args(["pack", "--package", &self.package])
            .args(["--version", &self.version, "--registry", &self.registry])
            .arg("--output")
            .arg(layout.path().join("layout"));
        if let Some(lock) = lock {
            command.arg("--lock").arg(lock);
        }
        let cost = cost_of(&command)?;
        Ok(Packed { cost, layout })
    }

    /// Returns the cost, the bytes of the tarballs and those of the tree.
    fn npm_ci(&self) -> Result<(Cost, u64, u64)> {
        let folder = tempfile::tempdir()?;
        for file in ["package.json", "package-lock.json"] {
            fs::copy(self.path(file), folder.path().join(file))?;
        }
        let cache = folder.path().join("cache");
        let mut npm = programs::npm()?;
        npm.args(["ci", "--ignore-scripts", "--omit=dev", "--no-audit"])
            .args(["--no-fund", "--loglevel=error", "--registry"])
            .arg(&self.registry)
            .arg("--cache")
            .arg(&cache)
            .arg("--prefix")
            .arg(folder.path());
        let cost = cost_of(&npm)?;
        let tarballs = bytes_below(&cache.join("_cacache/content-v2/sha512"))?;
        Ok((
            cost,
            tarballs,
            bytes_below(&folder.path().join("node_modules"))?,
        ))
    }

    fn rows(&self, rounds: usize) -> Result<Vec<Row>> {
        let lock = self.path("package-lock.json");
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        let (mut sent, mut tree, mut image) = (0, 0, 0);
        for round in 1..=rounds {
            let (npm, tarballs, installed) = self.npm_ci()?;
            let packed = self.pack(Some(&lock))?;
            eprintln!(
                "packing, {}, run {round} of {rounds}: {:.1} s, npm ci {:.1} s",
                self.size.name, packed.cost.seconds, npm.seconds
            );
            image = bytes_below(&packed.layout.path().join("layout/blobs"))?;
            (sent, tree) = (tarballs, installed);
            ours.push(packed.cost);
            theirs.push(npm);
        }
        let of = |costs: &[Cost], field: fn(&Cost) -> f64| median(costs.iter().map(field));
        let [pack_time, npm_time] = [&ours, &theirs].map(|costs| of(costs, |cost| cost.seconds));
        let [pack_memory, npm_memory] =
            [&ours, &theirs].map(|costs| of(costs, |cost| cost.megabytes));
        let what = format!("{} plugin, {} packages", self.size.name, self.entries);
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        let times = Printed::new(pack_time / npm_time, 1);
        Ok(vec![
            Row::plain(
                format!("packing, {what}, time"),
                format!("{pack_time:.1} s against {npm_time:.1} s ({times} times)"),
            )
            .ratio(times, Better::Lower),
            Row::plain(
                format!("packing, {what}, memory"),
                format!("{pack_memory:.0} MB against {npm_memory:.0} MB"),
            ),
            Row::plain(
                format!("packing, {what}, bytes"),
                format!(
                    "{:.1} MB downloaded, {:.1} MB installed, {:.1} MB packed",
                    megabytes(sent),
                    megabytes(tree),
                    megabytes(image)
                ),
            ),
        ])
    }
}

/// Runs a command in a process of its own, which measures nothing else.
fn cost_of(command: &Command) -> Result<Cost> {
    let mut meter = Command::new(std::env::current_exe()?);
    meter
        .args(["measured", "--"])
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            meter.env(name, value);
        }
    }
    let output = meter.output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Bytes of all files below a folder.
fn bytes_below(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    let entries = fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            bytes += bytes_below(&entry.path())?;
        } else if kind.is_file() {
            bytes += entry.metadata()?.len();
        }
    }
    Ok(bytes)
}
