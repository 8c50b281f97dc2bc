//! Which cores contestants and clients run on, where they are to be kept apart.
//!
//! Whether the kernel puts a client on its helper's core or on another one changes the time of a request
//! several times over, and it does either for seconds. Kept apart, everybody has the same.

use anyhow::{Context as _, Result, ensure};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// A division of the cores.
pub(super) struct Cores {
    contestants: CpuSet,
    clients: CpuSet,
}

impl Cores {
    /// Gives contestants the first core and clients the others. What this thread starts is a client's
    /// from now on.
    pub(super) fn divide() -> Result<Self> {
        let all = sched_getaffinity(None).context("cannot ask for the cores")?;
        let (contestants, clients) = divided(&all);
        ensure!(
            clients.count() > 0,
            "there is one core, which cannot be divided"
        );
        let cores = Self {
            contestants,
            clients,
        };
        keep_to(&cores.clients)?;
        Ok(cores)
    }

    /// Has `start` start a contestant.
    pub(super) fn for_contestant<T>(&self, start: impl FnOnce() -> Result<T>) -> Result<T> {
        keep_to(&self.contestants)?;
        let started = start();
        keep_to(&self.clients)?;
        started
    }
}

/// The first core, and the others.
fn divided(all: &CpuSet) -> (CpuSet, CpuSet) {
    let mut cores = (0..CpuSet::MAX_CPU).filter(|core| all.is_set(*core));
    let mut first = CpuSet::new();
    cores.by_ref().take(1).for_each(|core| first.set(core));
    let mut others = CpuSet::new();
    cores.for_each(|core| others.set(core));
    (first, others)
}

fn keep_to(cores: &CpuSet) -> Result<()> {
    sched_setaffinity(None, cores).context("cannot choose cores")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_core_is_the_contestants() {
        let mut all = CpuSet::new();
        for core in [2, 3, 5] {
            all.set(core);
        }
        let (first, others) = divided(&all);
        assert!(first.is_set(2) && first.count() == 1);
        assert!(others.is_set(3) && others.is_set(5) && others.count() == 2);
    }
}
