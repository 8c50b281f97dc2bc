//! Rounds: everybody in turn, in another order each time, so that nobody always has the quiet moments.

use anyhow::{Context as _, Result};

use super::contestant::Contestant;
use super::results::{Measured, Results};

/// Has `measure` done for each contestant in each round. The first round warms caches and is not
/// counted.
pub(super) fn run(
    contestants: &[&Contestant],
    rounds: usize,
    results: &mut Results,
    mut measure: impl FnMut(&Contestant) -> Result<Measured>,
) -> Result<()> {
    for round in 0..=rounds {
        for contestant in order(contestants, round) {
            let name = &contestant.name;
            let measured =
                measure(contestant).with_context(|| format!("{name} in round {round}"))?;
            if round > 0 {
                results.add(name, measured);
            }
        }
        println!("xtask: round {round} of {rounds}");
    }
    Ok(())
}

/// The order of a round: each next one begins with the next one.
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
    fn everybody_is_first_once() {
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
