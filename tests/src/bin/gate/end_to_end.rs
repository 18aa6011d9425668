//! The end-to-end suite over clusters of its own. Each cluster runs one test at a time, so a
//! test may cordon, cut and kill; the clusters take modules from one queue, the longest first.
//!
//! When the queue is empty, each cluster looks back at its own run (`audit_…`); one of them
//! looks at those of all (`overall_…`), and one takes the platform away (`last_…`).

use std::{
    collections::{BTreeMap, VecDeque},
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Mutex, PoisonError,
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use paperclip_tests::Cluster;

use crate::{
    binaries::TestBinary,
    libtest::Counts,
    limited::was_interrupted,
    part::Part,
    report::{Report, say},
    seconds::Seconds,
};

/// Longest that a module may take on a busy machine.
const MODULE_LIMIT: Duration = Duration::from_secs(15 * 60);
/// Longest for one step of making a cluster.
const STEP_LIMIT: Duration = Duration::from_secs(10 * 60);

/// Names of tests by what they are.
#[derive(Debug, Default)]
struct Plan {
    /// By module, in any order.
    modules: Vec<(String, Vec<String>)>,
    audit: Vec<String>,
    overall: Vec<String>,
    last: Vec<String>,
}

impl Plan {
    /// Reads what `--list --format terse` printed.
    fn parse(list: &str) -> Self {
        let mut plan = Self::default();
        let mut modules: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for name in list.lines().filter_map(|line| line.strip_suffix(": test")) {
            let (module, test) = name.split_once("::").unwrap_or(("", name));
            let name = name.to_owned();
            match test.split('_').next() {
                // The long run has them.
                Some("long") => {}
                Some("audit") => plan.audit.push(name),
                Some("overall") => plan.overall.push(name),
                Some("last") => plan.last.push(name),
                _ => modules.entry(module).or_default().push(name),
            }
        }
        plan.modules = modules
            .into_iter()
            .map(|(module, tests)| (module.to_owned(), tests))
            .collect();
        plan
    }
}

/// Modules that no cluster has taken yet, the longest first.
struct Queue<'a> {
    modules: Mutex<VecDeque<(String, Vec<String>)>>,
    seconds: &'a Seconds,
    /// How long the tests take that take the platform away.
    last: u64,
    clusters: usize,
}

impl<'a> Queue<'a> {
    fn new(mut modules: Vec<(String, Vec<String>)>, seconds: &'a Seconds, clusters: usize) -> Self {
        modules.sort_by_key(|(module, _)| std::cmp::Reverse(seconds.of(&part_name(module))));
        Self {
            modules: Mutex::new(modules.into()),
            seconds,
            last: seconds.of(&part_name("last")),
            clusters,
        }
    }

    /// The next module for a cluster. The first cluster ends early by the time that taking the
    /// platform away needs, while the others do what is left.
    fn next(&self, cluster: usize) -> Option<(String, Vec<String>)> {
        let mut modules = self.modules.lock().unwrap_or_else(PoisonError::into_inner);
        let left: u64 = modules
            .iter()
            .map(|(module, _)| self.seconds.of(&part_name(module)))
            .sum();
        let others = self.clusters as u64 - 1;
        if cluster == 0 && others > 0 && left <= self.last * others {
            return None;
        }
        modules.pop_front()
    }

    fn left(&self) -> Vec<(String, Vec<String>)> {
        self.modules
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .drain(..)
            .collect()
    }
}

fn part_name(module: &str) -> String {
    format!("end-to-end: {module}")
}

/// The suite on clusters of this run.
pub struct Suite<'a> {
    /// The test binary.
    pub binary: &'a TestBinary,
    /// Folder of programs as built.
    pub programs: &'a Path,
    /// Folder for logs.
    pub logs: &'a Path,
    /// How long modules took before.
    pub seconds: &'a Seconds,
    /// Where parts are counted.
    pub report: &'a Report,
    /// Names of the clusters to make.
    pub clusters: Vec<String>,
    /// Held while a cluster comes up: all at once would wait for each other longer than each
    /// of their parts may take.
    pub coming_up: Mutex<()>,
}

/// What the thread of one cluster has to know.
struct Shard<'a> {
    number: usize,
    cluster: &'a str,
    /// Takes the audit log of this cluster.
    log: Sender<PathBuf>,
    /// Gives those of all clusters, once each has ended or failed, to one of them.
    all_logs: Option<Receiver<PathBuf>>,
}

impl Suite<'_> {
    /// Runs it whole. What fails is counted.
    pub fn run(&self) {
        let plan = match self.plan() {
            Ok(plan) => plan,
            Err(error) => return self.report.fail(format!("end-to-end suite: {error:#}")),
        };
        let queue = Queue::new(plan.modules.clone(), self.seconds, self.clusters.len());
        thread::scope(|scope| {
            for shard in self.shards() {
                scope.spawn(|| self.on_cluster(shard, &queue, &plan));
            }
        });
        for (module, tests) in queue.left() {
            let part = part_name(&module);
            self.report
                .fail(format!("{part}: {} tests were not run", tests.len()));
        }
    }

    fn shards(&self) -> Vec<Shard<'_>> {
        let (log, all_logs) = mpsc::channel();
        let mut all_logs = Some(all_logs);
        // The first cluster takes the platform away, so another one looks at all.
        let looks_at_all = usize::from(self.clusters.len() > 1);
        let shard = |(number, cluster)| Shard {
            number,
            cluster,
            log: log.clone(),
            all_logs: if number == looks_at_all {
                all_logs.take()
            } else {
                None
            },
        };
        self.clusters
            .iter()
            .map(String::as_str)
            .enumerate()
            .map(shard)
            .collect()
    }

    fn plan(&self) -> Result<Plan> {
        let output = self
            .binary
            .command()
            .args(["--list", "--format", "terse"])
            .output()?;
        ensure!(
            output.status.success(),
            "tests cannot be listed: {}",
            output.status
        );
        let plan = Plan::parse(&String::from_utf8(output.stdout).context("names of tests")?);
        ensure!(!plan.modules.is_empty(), "no tests are listed");
        Ok(plan)
    }

    fn on_cluster(&self, shard: Shard<'_>, queue: &Queue<'_>, plan: &Plan) {
        let name = shard.cluster;
        let up = format!("cluster {name}: up, with images and platform");
        if self.report.stage(&up, || self.bring_up(name)) {
            self.report
                .stage(&format!("cluster {name}: modules of the suite"), || {
                    while let Some((module, tests)) = queue.next(shard.number) {
                        self.tests(&part_name(&module), name, &tests, &[]);
                    }
                });
            self.report
                .stage(&format!("cluster {name}: end"), || self.end(shard, plan));
        }
        say(&format!("taking the cluster {name} down"));
        if let Err(error) = Cluster::down(name) {
            self.report
                .fail(format!("cluster {name} cannot be taken down: {error:#}"));
        }
    }

    /// What follows the modules.
    fn end(&self, shard: Shard<'_>, plan: &Plan) {
        let Shard {
            number,
            cluster,
            log,
            all_logs,
        } = shard;
        self.tests(&format!("audit of {cluster}"), cluster, &plan.audit, &[]);
        // Taking the platform away is no part of what its identities do while it is there.
        match self.keep_audit_log(cluster) {
            Ok(kept) => drop(log.send(kept)),
            Err(error) => self
                .report
                .fail(format!("audit log of {cluster}: {error:#}")),
        }
        drop(log);
        if let Some(all) = all_logs {
            let all = std::env::join_paths(all.iter()).unwrap_or_default();
            self.tests(
                "audit of all clusters",
                cluster,
                &plan.overall,
                &[("PAPERCLIP_AUDIT_LOGS", all)],
            );
        }
        if number == 0 {
            self.tests(&part_name("last"), cluster, &plan.last, &[]);
        }
    }

    fn keep_audit_log(&self, cluster: &str) -> Result<PathBuf> {
        let kept = self.logs.join(format!("audit-{cluster}.log"));
        fs::copy(Cluster::attach(cluster)?.audit_log(), &kept)?;
        Ok(kept)
    }

    /// Runs these tests one after the other.
    fn tests(&self, part: &str, cluster: &str, tests: &[String], more: &[(&str, OsString)]) {
        if tests.is_empty() || was_interrupted() {
            return;
        }
        let mut command = self.binary.command();
        command
            .env("PAPERCLIP_TEST_CLUSTER", cluster)
            .envs(more.iter().map(|(name, value)| (name, value)))
            .args(["--test-threads=1", "--exact"])
            .args(tests);
        let outcome = Part::tests(part, command, MODULE_LIMIT).run(self.logs);
        self.seconds.measured(part, outcome.took);
        self.report.add(&outcome);
        let Counts {
            passed,
            failed,
            skipped,
        } = outcome.counts;
        if passed + failed + skipped < tests.len() {
            self.report
                .fail(format!("{part}: not all of {} tests were run", tests.len()));
        }
    }

    /// Whether the cluster is up, with the platform. A step that fails is counted.
    fn bring_up(&self, name: &str) -> bool {
        let steps: [&[&str]; 3] = [&["up"], &["images"], &["install"]];
        let mut coming_up = Some(
            self.coming_up
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        steps.iter().all(|step| {
            let mut command = Command::new(self.programs.join("cluster"));
            command.args(*step).args(["--name", name]);
            let part = format!("cluster {} {name}", step[0]);
            let outcome = Part::check(&part, command, STEP_LIMIT).run(self.logs);
            // Images and installation are beside the next cluster's first step.
            drop(coming_up.take());
            let is_done = outcome.counts.failed == 0;
            if !is_done {
                self.report.add(&outcome);
            }
            is_done
        })
    }
}

/// Takes down what gates have left on this machine that were killed. A gate's clusters carry its
/// process id.
pub fn remove_leftovers() -> Result<()> {
    for (name, _) in Cluster::all()? {
        let owner = name
            .strip_prefix("gate-")
            .and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            say(&format!(
                "taking the cluster {name} of a gate that was killed down"
            ));
            Cluster::down(&name)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_planned_by_their_names() {
        let plan = Plan::parse(
            "a::one: test\na::long_two: test\nb::three: test\nb::audit_four: test\nb::overall_five: test\nc::last_six: test\n6 tests, 0 benchmarks\n",
        );
        let module = |name: &str, test: &str| (name.to_owned(), vec![test.to_owned()]);
        assert_eq!(
            plan.modules,
            [module("a", "a::one"), module("b", "b::three")]
        );
        assert_eq!(plan.audit, ["b::audit_four"]);
        assert_eq!(plan.overall, ["b::overall_five"]);
        assert_eq!(plan.last, ["c::last_six"]);
    }

    fn module(name: &str) -> (String, Vec<String>) {
        (name.to_owned(), vec![format!("{name}::test")])
    }

    #[test]
    fn the_longest_module_is_first_and_the_first_cluster_leaves_the_end_to_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("seconds.json");
        let known =
            r#"{"end-to-end: a":1,"end-to-end: b":200,"end-to-end: c":80,"end-to-end: last":90}"#;
        fs::write(&file, known).unwrap();
        let seconds = Seconds::load(&file);
        let queue = Queue::new(vec![module("a"), module("b"), module("c")], &seconds, 2);
        assert_eq!(queue.next(0), Some(module("b")));
        assert_eq!(
            queue.next(0),
            None,
            "81 s are left, and its own end takes 90"
        );
        assert_eq!(queue.next(1), Some(module("c")));
        assert_eq!(queue.next(1), Some(module("a")));
        assert_eq!(queue.left(), []);
    }
}
