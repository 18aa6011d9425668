//! What a process uses, as the kernel counts it.

use std::{fs, time::Duration};

use anyhow::{Context, Result};

/// Ticks a second of the times in `/proc/<pid>/stat`: fixed, whatever the kernel's own clock.
const TICKS: u64 = 100;

/// Resident memory in megabytes.
pub fn resident_megabytes(pid: u32) -> Result<f64> {
    let file = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&file).with_context(|| format!("read {file}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next());
    let kibibytes: f64 = kibibytes.context("a process has VmRSS")?.parse()?;
    Ok(kibibytes * 1024.0 / 1e6)
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
    fn a_name_with_spaces_and_parentheses_does_not_move_the_fields() {
        let stat = "7 (a (b) c) S 1 7 7 0 -1 4194560 1 0 0 0 30 12 0 0 20 0 1 0 1 1 1";
        assert_eq!(ticks(stat), Some(42));
    }
}
