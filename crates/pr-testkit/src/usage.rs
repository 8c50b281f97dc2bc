// SPDX-License-Identifier: MIT OR Apache-2.0

//! Resources of a process, as `/proc` reports them.

use std::fs;
use std::time::Duration;

use rustix::process::Pid;

use crate::procfs;

/// Resources of a process.
#[derive(Clone, Debug)]
pub struct Usage {
    /// Names of the files that the descriptors refer to, sorted; see [`procfs::client_files`].
    pub descriptors: Vec<String>,
    /// Number of threads.
    pub threads: usize,
    /// Anonymous memory in KiB. The program's text is shared by all its processes, and not counted.
    pub memory: u64,
    /// Resident set size in KiB.
    pub resident: u64,
    /// Proportional set size in KiB.
    pub proportional: u64,
    /// User and system time of all threads.
    pub processor_time: Duration,
}

impl Usage {
    /// Checks that memory has grown by at most `margin` KiB, which is noise of the allocator and of
    /// thread stacks.
    #[track_caller]
    pub fn assert_growth_below(&self, before: &Self, margin: u64) {
        let growth = self.memory.saturating_sub(before.memory);
        assert!(growth <= margin, "{growth} KiB: {before:?}, then {self:?}");
    }

    /// Reads the resources of a process.
    #[must_use]
    pub fn from_pid(process: Pid) -> Self {
        let dir = format!("/proc/{}", process.as_raw_nonzero());
        let read = |name: &str| fs::read_to_string(format!("{dir}/{name}")).unwrap();
        let (status, rollup) = (read("status"), read("smaps_rollup"));
        Self {
            descriptors: procfs::client_files(process),
            threads: usize::try_from(number(&status, "Threads:")).unwrap(),
            memory: number(&rollup, "Anonymous:"),
            resident: number(&rollup, "Rss:"),
            proportional: number(&rollup, "Pss:"),
            processor_time: processor_time(&read("stat")),
        }
    }
}

/// Returns the user and system time of all threads, which are in hundredths of a second (proc(5)).
/// They follow the name, which can contain anything, and eleven other fields.
fn processor_time(stat: &str) -> Duration {
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let times = fields.split(' ').skip(11).take(2);
    let hundredths: u64 = times.map(|time| time.parse::<u64>().unwrap()).sum();
    Duration::from_millis(hundredths * 10)
}

/// Returns the number after `name` at the beginning of a line.
fn number(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let word = line.unwrap().split_whitespace().next();
    word.unwrap().parse().unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_is_found_by_whole_name() {
        let rollup = "5581-7ffd ---p 00000000 00:00 0    [rollup]\n\
                      Rss:    1044 kB\nPss:     181 kB\nPss_Dirty:   76 kB\n";
        assert_eq!(number(rollup, "Pss:"), 181);
        assert_eq!(number("Threads:\t3\nSigQ:\t0/1\n", "Threads:"), 3);
    }
}
