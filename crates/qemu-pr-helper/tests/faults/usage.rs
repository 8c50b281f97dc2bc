//! What the kernel says that a process takes.

use std::fs;
use std::time::Duration;

use rustix::process::Pid;

/// What a process takes.
#[derive(Clone, Debug)]
pub(crate) struct Usage {
    /// What its descriptors refer to, by name, in order of the names.
    pub(crate) descriptors: Vec<String>,
    pub(crate) threads: usize,
    /// Memory with its own data, in KiB: the program's text is nobody's, or everybody's who runs it.
    pub(crate) memory: u64,
    /// All memory, in KiB, and a share of what others have too.
    pub(crate) resident: u64,
    pub(crate) proportional: u64,
    pub(crate) processor_time: Duration,
}

impl Usage {
    /// Checks that it takes no more memory than before, but for so many KiB: what the allocator and the stacks of
    /// other threads make of the same work at another time.
    #[track_caller]
    pub(crate) fn has_grown_little_since(&self, before: &Self, margin: u64) {
        let growth = self.memory.saturating_sub(before.memory);
        assert!(growth <= margin, "{growth} KiB: {before:?}, then {self:?}");
    }

    pub(crate) fn of(process: Pid) -> Self {
        let folder = format!("/proc/{}", process.as_raw_nonzero());
        let read = |name: &str| fs::read_to_string(format!("{folder}/{name}")).unwrap();
        let (status, rollup) = (read("status"), read("smaps_rollup"));
        Self {
            descriptors: descriptors(&folder),
            threads: usize::try_from(number(&status, "Threads:")).unwrap(),
            memory: number(&rollup, "Anonymous:"),
            resident: number(&rollup, "Rss:"),
            proportional: number(&rollup, "Pss:"),
            processor_time: processor_time(&read("stat")),
        }
    }
}

fn descriptors(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(format!("{folder}/fd")).unwrap();
    // One may be closed while we look.
    let names = entries.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    let mut names: Vec<_> = names
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// User's and system's time of all threads, in hundredths of a second (proc(5)); before them there are the name, which
/// may be anything, and eleven other fields.
fn processor_time(stat: &str) -> Duration {
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let times = fields.split(' ').skip(11).take(2);
    let hundredths: u64 = times.map(|time| time.parse::<u64>().unwrap()).sum();
    Duration::from_millis(hundredths * 10)
}

/// The number behind `name` at the beginning of a line.
fn number(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let word = line.unwrap().split_whitespace().next();
    word.unwrap().parse().unwrap()
}
