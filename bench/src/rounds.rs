// SPDX-License-Identifier: MIT OR Apache-2.0

//! Rounds: the subjects take turns, in another order each time, so that background load hits all of
//! them.

use anyhow::{Context as _, Result};

use super::results::{Measured, Results};
use super::subject::Subject;

/// Calls `measure` for each subject in each round. The first round warms caches and is not counted.
pub(super) fn run(
    subjects: &[&Subject],
    rounds: usize,
    results: &mut Results,
    mut measure: impl FnMut(&Subject) -> Result<Measured>,
) -> Result<()> {
    for round in 0..=rounds {
        for subject in order(subjects, round) {
            let name = &subject.name;
            let measured = measure(subject).with_context(|| format!("{name} in round {round}"))?;
            if round > 0 {
                results.add(name, measured);
            }
        }
        println!("bench: round {round} of {rounds}");
    }
    Ok(())
}

/// Returns the order of a round: each round starts with the next subject.
fn order<T>(all: &[T], round: usize) -> impl Iterator<Item = &T> {
    all.iter()
        .cycle()
        .skip(round % all.len().max(1))
        .take(all.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_subject_is_first_once() {
        let rounds: Vec<Vec<_>> = (0..4)
            .map(|round| order(&["a", "b", "c"], round).copied().collect())
            .collect();
        let expected = [
            ["a", "b", "c"],
            ["b", "c", "a"],
            ["c", "a", "b"],
            ["a", "b", "c"],
        ];
        assert_eq!(rounds, expected);
        assert_eq!(order::<u8>(&[], 3).count(), 0);
    }
}
