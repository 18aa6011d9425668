//! What the gate says: a line when a part ends, the whole output of one that failed, and at the
//! end a table of its stages and the counts of everything.

use std::{
    fmt::Write,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use time::OffsetDateTime;

use crate::libtest::Counts;

/// How a part ended.
pub struct Outcome {
    /// Its name.
    pub name: String,
    /// What it counts.
    pub counts: Counts,
    /// What failed in it, one entry a line.
    pub failures: Vec<String>,
    /// What was left out, each with its reason.
    pub skips: Vec<String>,
    /// What it printed.
    pub output: String,
    /// How long it took.
    pub took: Duration,
}

#[derive(Default)]
struct Account {
    counts: Counts,
    failures: Vec<String>,
    stages: Vec<Stage>,
}

struct Stage {
    name: String,
    from: Duration,
    took: Duration,
}

/// The account of one run.
pub struct Report {
    started: Instant,
    ticks: Ticks,
    account: Mutex<Account>,
}

/// Time of all processors together, in the kernel's ticks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Ticks {
    all: u64,
    idle: u64,
}

impl Ticks {
    fn now() -> Self {
        Self::parse(&std::fs::read_to_string("/proc/stat").unwrap_or_default())
    }

    /// Reads `cpu user nice system idle iowait irq softirq steal …`.
    fn parse(stat: &str) -> Self {
        let line = stat.lines().next().unwrap_or_default();
        let numbers = line.split_whitespace().skip(1).take(8);
        let times: Vec<u64> = numbers.filter_map(|time| time.parse().ok()).collect();
        Self {
            all: times.iter().sum(),
            idle: times.iter().skip(3).take(2).sum(),
        }
    }

    /// Percentage of the time since then in which processors had work, of whomever.
    fn busy_since(self, then: Self) -> u64 {
        let all = self.all.saturating_sub(then.all).max(1);
        let idle = self.idle.saturating_sub(then.idle).min(all);
        (all - idle) * 100 / all
    }
}

impl Report {
    /// An account of a run that began before this process did.
    pub fn since(started: SystemTime) -> Self {
        let past = SystemTime::now()
            .duration_since(started)
            .unwrap_or_default();
        let now = Instant::now();
        Self {
            started: now.checked_sub(past).unwrap_or(now),
            ticks: Ticks::now(),
            account: Mutex::default(),
        }
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what a part counts, and says so.
    pub fn add(&self, outcome: &Outcome) {
        let Counts {
            passed,
            failed,
            skipped,
        } = outcome.counts;
        let seconds = outcome.took.as_secs_f32();
        let mut account = self.account();
        account.counts += outcome.counts;
        account.failures.extend(outcome.failures.clone());
        for skip in &outcome.skips {
            say(&format!("SKIPPED: {}: {skip}", outcome.name));
        }
        if failed > 0 {
            say(&format!(
                "FAILED: {}, this is what it printed:",
                outcome.name
            ));
            eprintln!("{}", outcome.output);
        }
        say(&format!(
            "{}: {passed} passed, {failed} failed, {skipped} skipped in {seconds:.1} s",
            outcome.name
        ));
    }

    /// Counts a failure that no part has counted.
    pub fn fail(&self, what: String) {
        say(&format!("FAILED: {what}"));
        let mut account = self.account();
        account.counts.failed += 1;
        account
            .failures
            .push(what.lines().next().unwrap_or_default().to_owned());
    }

    /// Runs a stage and writes down when it began and how long it took.
    pub fn stage<T>(&self, name: &str, run: impl FnOnce() -> T) -> T {
        let from = self.started.elapsed();
        let answer = run();
        let took = self.started.elapsed() - from;
        self.add_stage(name, from, took);
        answer
    }

    /// Adds a stage that was measured elsewhere.
    pub fn add_stage(&self, name: &str, from: Duration, took: Duration) {
        let name = name.to_owned();
        self.account().stages.push(Stage { name, from, took });
    }

    /// Prints the table and, last, the counts. Whether nothing failed.
    pub fn close(&self) -> bool {
        let account = self.account();
        println!("\n{}", table(&account.stages, self.started.elapsed()));
        let busy = Ticks::now().busy_since(self.ticks);
        println!("after the build, processors were busy {busy} % of the time");
        for failure in &account.failures {
            println!("failed: {failure}");
        }
        let Counts {
            passed,
            failed,
            skipped,
        } = account.counts;
        println!("{passed} passed, {failed} failed, {skipped} skipped");
        failed == 0
    }
}

fn table(stages: &[Stage], whole: Duration) -> String {
    let mut stages: Vec<&Stage> = stages.iter().collect();
    stages.sort_by_key(|stage| stage.from);
    let mut text = format!("{:>7} {:>8}  stage\n", "from, s", "took, s");
    for Stage { name, from, took } in stages {
        let _ = writeln!(text, "{:>7} {:>8}  {name}", from.as_secs(), took.as_secs());
    }
    let _ = write!(text, "{:>7} {:>8}  all", 0, whole.as_secs());
    text
}

/// Says what is happening, with the time.
pub fn say(message: &str) {
    let now = OffsetDateTime::now_utc();
    let (hour, minute, second) = now.to_hms();
    eprintln!("[{hour:02}:{minute:02}:{second:02}] {message}");
}

/// What stands in a log.
pub fn read(log: &Path) -> String {
    let bytes = std::fs::read(log).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_for_a_disk_is_no_work() {
        let then = Ticks::parse("cpu 0 0 0 0 0 0 0 0 0 0\ncpu0 1 1 1 1");
        let now = Ticks::parse("cpu  30 10 20 25 15 0 0 0 0 0\n");
        assert_eq!(now.busy_since(then), 60);
    }

    #[test]
    fn stages_are_in_the_order_in_which_they_began() {
        let stage = |name: &str, from, took| Stage {
            name: name.into(),
            from: Duration::from_secs(from),
            took: Duration::from_secs(took),
        };
        let stages = [stage("tests", 9, 100), stage("build", 1, 8)];
        let text = table(&stages, Duration::from_secs(110));
        let names: Vec<_> = text
            .lines()
            .filter_map(|line| line.split_whitespace().nth(2))
            .collect();
        assert_eq!(names, ["took,", "build", "tests", "all"]);
    }
}
