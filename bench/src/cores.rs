// SPDX-License-Identifier: MIT OR Apache-2.0

//! CPU pinning of subjects and clients (`--pin-cpus`).
//!
//! The time of a request changes several times over with the kernel's choice whether a client runs
//! on its helper's core or on another one, and that choice persists for seconds. Pinning makes it
//! the same for all subjects.

use anyhow::{Context as _, Result, ensure};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// CPU sets of subjects and clients.
pub(super) struct Cores {
    subjects: CpuSet,
    clients: CpuSet,
}

impl Cores {
    /// Assigns the first core to subjects and the others to clients, and pins this thread to those
    /// of clients. Children inherit the affinity.
    pub(super) fn split() -> Result<Self> {
        let all = sched_getaffinity(None).context("cannot read the CPU affinity")?;
        let (subjects, clients) = split_set(&all);
        ensure!(clients.count() > 0, "--pin-cpus needs at least two cores");
        let cores = Self { subjects, clients };
        pin_to(&cores.clients)?;
        Ok(cores)
    }

    /// Calls `start` with the affinity of subjects.
    pub(super) fn with_subject_affinity<T>(&self, start: impl FnOnce() -> Result<T>) -> Result<T> {
        pin_to(&self.subjects)?;
        let started = start();
        pin_to(&self.clients)?;
        started
    }
}

/// Returns the first core and the others.
fn split_set(all: &CpuSet) -> (CpuSet, CpuSet) {
    let mut cores = (0..CpuSet::MAX_CPU).filter(|core| all.is_set(*core));
    let mut first = CpuSet::new();
    cores.by_ref().take(1).for_each(|core| first.set(core));
    let mut others = CpuSet::new();
    cores.for_each(|core| others.set(core));
    (first, others)
}

fn pin_to(cores: &CpuSet) -> Result<()> {
    sched_setaffinity(None, cores).context("cannot set the CPU affinity")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_core_is_for_subjects() {
        let mut all = CpuSet::new();
        for core in [2, 3, 5] {
            all.set(core);
        }
        let (first, others) = split_set(&all);
        assert!(first.is_set(2) && first.count() == 1);
        assert!(others.is_set(3) && others.is_set(5) && others.count() == 2);
    }
}
