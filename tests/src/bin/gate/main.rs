//! Runs everything that `tests/gate.sh` has built: checks, test binaries side by side, and the
//! end-to-end suite on clusters of its own. Prints the stages with their seconds and, last,
//! the counts; ends with an error when anything failed.

mod binaries;
mod checks;
mod end_to_end;
mod libtest;
mod limited;
mod part;
mod pool;
mod report;
mod seconds;

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Mutex,
    thread,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result};
use clap::Parser;
use paperclip_tests::{platform::repository, programs};

use crate::{
    binaries::TestBinary,
    end_to_end::Suite,
    part::Part,
    report::{Report, say},
    seconds::Seconds,
};

/// Longest that a test binary may take on a busy machine.
const BINARY_LIMIT: Duration = Duration::from_secs(10 * 60);
/// Package and target of the end-to-end suite.
const SUITE: &str = "paperclip-tests e2e";

/// The gate, after everything is built.
#[derive(Parser)]
struct Options {
    /// What `cargo build --message-format=json` printed.
    #[arg(long)]
    messages: PathBuf,
    /// Folder of programs as built.
    #[arg(long)]
    programs: PathBuf,
    /// When the gate began, in seconds since 1970.
    #[arg(long)]
    started: u64,
    /// Stages before this one, each with its first and last second since the gate began.
    #[arg(long = "stage", value_name = "NAME=FROM-TO")]
    stages: Vec<String>,
    /// Clusters for the end-to-end suite. None for no suite.
    #[arg(long, default_value_t = 2)]
    clusters: usize,
    /// Test binaries and checks that run at once.
    #[arg(long, default_value_t = 2)]
    at_once: usize,
    /// Only parts with this in their names, for work on the gate itself.
    #[arg(long)]
    only: Option<String>,
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    limited::end_on_signals()?;
    let started = SystemTime::UNIX_EPOCH + Duration::from_secs(options.started);
    let report = Report::since(started);
    for stage in &options.stages {
        let (name, from, to) = parse_stage(stage)?;
        report.add_stage(
            name,
            Duration::from_secs(from),
            Duration::from_secs(to.saturating_sub(from)),
        );
    }
    let folder = options.programs.join("../gate");
    let logs = folder.join("logs");
    if logs.exists() {
        fs::remove_dir_all(&logs)?;
    }
    fs::create_dir_all(&logs)?;
    let seconds = Seconds::load(&folder.join("seconds.json"));
    end_to_end::remove_leftovers()?;
    run(&options, &logs, &seconds, &report)?;
    seconds.keep()?;
    if limited::was_interrupted() {
        report.fail("interrupted".into());
    }
    Ok(if report.close() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn parse_stage(text: &str) -> Result<(&str, u64, u64)> {
    let parse = || {
        let (name, times) = text.rsplit_once('=')?;
        let (from, to) = times.split_once('-')?;
        Some((name, from.parse().ok()?, to.parse().ok()?))
    };
    parse().with_context(|| format!("{text:?} is not NAME=FROM-TO"))
}

/// The suite beside everything else.
fn run(options: &Options, logs: &Path, seconds: &Seconds, report: &Report) -> Result<()> {
    let (suite, others): (Vec<_>, Vec<_>) = binaries::of_messages(&options.messages)?
        .into_iter()
        .partition(|binary| binary.name == SUITE);
    let is_wanted = |name: &str| options.only.as_ref().is_none_or(|only| name.contains(only));
    thread::scope(|scope| {
        scope.spawn(|| on_clusters(options, suite.first(), logs, seconds, report));
        scope.spawn(|| {
            let environment = match environment() {
                Ok(environment) => environment,
                Err(error) => return report.fail(format!("what tests need: {error:#}")),
            };
            let mut parts = checks::all(&options.programs);
            parts.extend(others.iter().map(|binary| of_binary(binary, &environment)));
            parts.retain(|part| is_wanted(&part.name));
            report.stage("checks, unit and integration tests", || {
                pool::run(parts, options.at_once, logs, seconds, report);
            });
        });
    });
    Ok(())
}

/// What tests read, found out once for all of them.
fn environment() -> Result<Vec<(&'static str, OsString)>> {
    Ok(vec![
        // Tests of the artifact store run against the real registry.
        ("PAPERCLIP_TEST_REGISTRY", programs::registry()?.into()),
        (
            "PAPERCLIP_NPM_REGISTRY",
            programs::upstream_npm_registry()?.into(),
        ),
        // Otherwise the snapshots ask cargo where the workspace is.
        ("INSTA_WORKSPACE_ROOT", repository().canonicalize()?.into()),
    ])
}

fn of_binary(binary: &TestBinary, environment: &[(&str, OsString)]) -> Part {
    let mut command = binary.command();
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    Part::tests(&binary.name, command, BINARY_LIMIT)
}

fn on_clusters(
    options: &Options,
    binary: Option<&TestBinary>,
    logs: &Path,
    seconds: &Seconds,
    report: &Report,
) {
    if options.clusters == 0 {
        return;
    }
    let Some(binary) = binary else {
        return report.fail(format!("{SUITE} is not among what was built"));
    };
    // Once for all clusters, so that a failure to build is said once.
    if let Err(error) = report.stage("programs of the clusters", programs::prepare) {
        return report.fail(format!("programs of the clusters: {error:#}"));
    }
    let letters = ('a'..='z').take(options.clusters);
    let suite = Suite {
        binary,
        programs: &options.programs,
        logs,
        seconds,
        report,
        clusters: letters
            .map(|letter| format!("gate-{}-{letter}", std::process::id()))
            .collect(),
        coming_up: Mutex::default(),
    };
    say(&format!(
        "end-to-end suite on {} clusters of its own",
        options.clusters
    ));
    suite.run();
}
