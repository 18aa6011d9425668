//! Instructions of the sidecar a call, as callgrind counts them: the same on a busy machine as
//! on a quiet one.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use paperclip_tests::layout::command_output;

use crate::{
    load::Caller as _,
    pod::{Pod, Programs, Session, Setting},
    report::{Better, Printed, Row, Section},
    workers::{self, Worker},
};

/// Heading of the section.
pub const TITLE: &str = "Instructions";
const CALLS: usize = 2_000;
const WARM_UP: usize = 500;
const IN_FLIGHT: usize = 64;
const TEXTS: [(&str, usize); 2] = [("16 B", 16), ("1 KB", 1_000)];

/// Counts, and leaves what callgrind wrote in the folder.
pub async fn measure(programs: &Programs, profiles: &Path) -> Result<Section> {
    fs::create_dir_all(profiles)
        .with_context(|| format!("create the folder {}", profiles.display()))?;
    let worker = Worker::echo()?;
    let counter = Counter {
        file: profiles.join("callgrind.out"),
    };
    let setting = Setting {
        runs_sidecar: counter.runs_sidecar(),
        ..Setting::default()
    };
    let pod = Pod::start_as(programs, &worker, &setting).await?;
    let session = pod.attach("one").await?;
    session
        .throughput(WARM_UP, IN_FLIGHT, &workers::params(16))
        .await?;
    let mut rows = Vec::new();
    for (number, (name, bytes)) in TEXTS.into_iter().enumerate() {
        let before = number * 2;
        counter.zero(&pod)?;
        run(&session, 1, bytes).await?;
        let alone = counter.dump(&pod, before + 1)?;
        counter.zero(&pod)?;
        run(&session, IN_FLIGHT, bytes).await?;
        let together = counter.dump(&pod, before + 2)?;
        // A count of the program's own, which no other work of the machine changes: it is compared
        // as it is.
        let together = Printed::new(together, 0);
        let row = Row::plain(
            format!("instructions a call, text of {name}"),
            format!(
                "{alone:.0} sequential, {together} with {IN_FLIGHT} in flight ({:.2} of sequential)",
                together.value() / alone
            ),
        );
        rows.push(row.ratio(together, Better::Lower));
    }
    Ok(Section {
        rows,
        ..Section::new(
            TITLE,
            format!(
                "Instructions that the sidecar executes in its own program, without the kernel's, over {CALLS} \
                 calls of the echo worker through one session; counted by callgrind, which slows it down about \
                 fifty times, so that more of what is in flight comes together than otherwise."
            ),
        )?
    })
}

async fn run(session: &Session, in_flight: usize, bytes: usize) -> Result<()> {
    let params = workers::params(bytes);
    let done = session.throughput(CALLS, in_flight, &params).await;
    done.map(drop)
}

/// Callgrind around the sidecar.
struct Counter {
    file: PathBuf,
}

impl Counter {
    fn runs_sidecar(&self) -> Vec<OsString> {
        let mut file = OsString::from("--callgrind-out-file=");
        file.push(&self.file);
        let words = ["valgrind", "--quiet", "--tool=callgrind"].map(OsString::from);
        words.into_iter().chain([file]).collect()
    }

    /// Forgets what was counted.
    fn zero(&self, pod: &Pod) -> Result<()> {
        self.control(pod, "--zero").context("begin to count")
    }

    /// Instructions a call since then. `number` is that of the dump, from 1.
    fn dump(&self, pod: &Pod, number: usize) -> Result<f64> {
        self.control(pod, "--dump").context("read the count")?;
        let file = self.file.with_added_extension(number.to_string());
        let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        let total = total(&text).with_context(|| format!("no total in {}", file.display()))?;
        Ok(total / CALLS as f64)
    }

    fn control(&self, pod: &Pod, order: &str) -> Result<()> {
        let pid = pod.sidecar().to_string();
        let said = command_output(Command::new("callgrind_control").args([order, &pid]))?;
        ensure!(!said.contains("Error"), "callgrind_control {order}: {said}");
        Ok(())
    }
}

/// What a dump says was counted in all.
fn total(dump: &str) -> Option<f64> {
    let mut lines = dump.lines();
    let line = lines.find_map(|line| line.strip_prefix("totals:"));
    line?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_of_a_dump_is_found() {
        let dump = "# callgrind format\nevents: Ir\nsummary: 7\nfn=(1) main\n1 5\n\ntotals: 12\n";
        assert_eq!(total(dump), Some(12.0));
        assert_eq!(total("summary: 7\n"), None);
    }
}
