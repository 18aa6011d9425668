//! What a process uses, as the kernel counts it.

use std::{fs, time::Duration};

use anyhow::{Context, Result};

/// Ticks a second of the times in `/proc/<pid>/stat`: fixed, whatever the kernel's own clock.
const TICKS: u64 = 100;

/// Resident memory in megabytes.
pub fn resident_megabytes(pid: u32) -> Result<f64> {
    megabytes(pid, "VmRSS:")
}

/// Most resident memory since the start or since [`forget_peak`], in megabytes.
pub fn peak_megabytes(pid: u32) -> Result<f64> {
    megabytes(pid, "VmHWM:")
}

/// Begins to look for the most resident memory anew.
pub fn forget_peak(pid: u32) -> Result<()> {
    let file = format!("/proc/{pid}/clear_refs");
    // 5 is the kernel's word for this peak alone.
    fs::write(&file, "5").with_context(|| format!("write {file}"))
}

fn megabytes(pid: u32, name: &str) -> Result<f64> {
    let file = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&file).with_context(|| format!("read {file}"))?;
    let kibibytes = number(&text, name).with_context(|| format!("find {name} in {file}"))?;
    Ok(kibibytes * 1024.0 / 1e6)
}

/// The number behind a name at the beginning of a line.
fn number(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// What the threads of a process took so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Activity {
    /// Processor time in milliseconds, finer than in [`processor_time`].
    pub milliseconds: f64,
    /// How often one of them waited for something and was woken.
    pub wakeups: f64,
}

impl Activity {
    /// Of one process. What threads took that have ended is not in it.
    pub fn of(pid: u32) -> Result<Self> {
        let folder = format!("/proc/{pid}/task");
        let mut all = Self::default();
        for entry in fs::read_dir(&folder).with_context(|| format!("list {folder}"))? {
            let thread = entry?.path();
            // A thread may end between the listing and the reads.
            let read = |name: &str| fs::read_to_string(thread.join(name)).unwrap_or_default();
            let nanoseconds = number(&read("schedstat"), "").unwrap_or_default();
            all.milliseconds += nanoseconds / 1e6;
            all.wakeups += number(&read("status"), "voluntary_ctxt_switches:").unwrap_or_default();
        }
        Ok(all)
    }

    /// What came on top since an earlier look.
    pub fn since(self, before: Self) -> Self {
        Self {
            milliseconds: self.milliseconds - before.milliseconds,
            wakeups: self.wakeups - before.wakeups,
        }
    }
}

impl std::iter::Sum for Activity {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            milliseconds: sum.milliseconds + one.milliseconds,
            wakeups: sum.wakeups + one.wakeups,
        })
    }
}

/// The processes that a process started and that run.
pub fn children(pid: u32) -> Result<Vec<u32>> {
    let file = format!("/proc/{pid}/task/{pid}/children");
    let text = fs::read_to_string(&file).with_context(|| format!("read {file}"))?;
    let pids = text.split_whitespace().map(str::parse);
    pids.collect::<Result<_, _>>()
        .with_context(|| format!("parse {file}"))
}

/// Processor time so far, of all threads, in the program and in the kernel.
pub fn processor_time(pid: u32) -> Result<Duration> {
    let file = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&file).with_context(|| format!("read {file}"))?;
    let ticks = ticks(&text).with_context(|| format!("parse {file}"))?;
    Ok(Duration::from_millis(ticks * 1000 / TICKS))
}

/// Fields 14 and 15. The second may hold spaces, but ends with the last parenthesis.
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// The machine's time so far, as the kernel counts it, in ticks of all processors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MachineTime {
    all: u64,
    /// What the hypervisor gave to others while somebody here wanted it.
    stolen: u64,
}

impl MachineTime {
    /// Up to now.
    pub fn now() -> Result<Self> {
        let file = "/proc/stat";
        let text = fs::read_to_string(file).with_context(|| format!("read {file}"))?;
        Self::parse(&text).with_context(|| format!("parse {file}"))
    }

    fn parse(stat: &str) -> Option<Self> {
        let fields = stat.lines().next()?.strip_prefix("cpu ")?;
        let ticks = fields.split_whitespace().map(str::parse);
        let ticks: Vec<u64> = ticks.collect::<Result<_, _>>().ok()?;
        // user, nice, system, idle, iowait, irq, softirq, steal; guests are in the first two.
        Some(Self {
            all: ticks.iter().take(8).sum(),
            stolen: *ticks.get(7)?,
        })
    }

    /// The share, in percent, that was stolen since then. A virtual machine's figures are worth as
    /// much as it is small.
    pub fn stolen_percent(before: Self) -> Result<f64> {
        let now = Self::now()?;
        Ok((now.stolen - before.stolen) as f64 / (now.all - before.all).max(1) as f64 * 100.0)
    }
}

/// Processes of a pod with the first 15 bytes of their names, by the UID in their cgroup.
pub fn of_pod(uid: &str) -> Result<Vec<(u32, String)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        // A process may end between the listing and the reads.
        let read = |name: &str| fs::read_to_string(entry.path().join(name)).unwrap_or_default();
        if read("cgroup").contains(uid) {
            found.push((pid, read("comm").trim().to_owned()));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_found_by_its_name() {
        let text = "Name:\tvoluntary\nVmHWM:\t  12 kB\nvoluntary_ctxt_switches:\t7\nnonvoluntary_ctxt_switches:\t8\n";
        assert_eq!(number(text, "VmHWM:"), Some(12.0));
        assert_eq!(number(text, "voluntary_ctxt_switches:"), Some(7.0));
        assert_eq!(number(text, "VmSwap:"), None);
        assert_eq!(number("5 6 7\n", ""), Some(5.0));
    }

    #[test]
    fn what_is_stolen_is_the_eighth_of_the_first_line() {
        let stat = "cpu  10 1 20 300 4 0 5 60 7 8\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        let wanted = MachineTime {
            all: 400,
            stolen: 60,
        };
        assert_eq!(MachineTime::parse(stat), Some(wanted));
    }

    #[test]
    fn a_peak_is_forgotten_and_found_again() {
        let me = std::process::id();
        let large = vec![1_u8; 64 * 1024 * 1024];
        let high = peak_megabytes(me).unwrap();
        drop(std::hint::black_box(large));
        forget_peak(me).unwrap();
        let low = peak_megabytes(me).unwrap();
        assert!(low + 50.0 < high, "{low} {high}");
    }

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_move_the_fields() {
        let stat = "7 (a (b) c) S 1 7 7 0 -1 4194560 1 0 0 0 30 12 0 0 20 0 1 0 1 1 1";
        assert_eq!(ticks(stat), Some(42));
    }
}
