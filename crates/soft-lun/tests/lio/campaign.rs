//! The run against LIO: what was stored, and then random sequences.

use std::env;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;

use crate::command::Step;
use crate::compare::{Difference, Tally, play};
use crate::departures::Row;
use crate::generate;
use crate::random::Random;
use crate::sequence;
use crate::shrink::shrink;
use crate::target::{Lio, Target};

const PORTS: &str = "PR_LIO_PORTS";
const SEQUENCES: &str = "PR_LIO_SEQUENCES";
const SEED: &str = "PR_LIO_SEED";

/// Sequences of a full run, in which every row has to be seen.
const FULL: u64 = 2000;

/// After so many differences the run ends.
const ENOUGH: usize = 10;

pub(crate) fn trial() -> Trial {
    let ports = env::var(PORTS);
    if ports.is_err() {
        eprintln!("lio: skipped the comparison with LIO: {PORTS} is not set");
    }
    let skipped = ports.is_err();
    Trial::test("lio::answers_are_the_same", move || {
        run(&ports?).map_err(|error| format!("{error:#}").into())
    })
    .with_ignored_flag(skipped)
}

fn number(variable: &str) -> Result<Option<u64>> {
    let value = env::var(variable).ok();
    let value = value.map(|value| value.parse().with_context(|| format!("{variable}={value}")));
    value.transpose()
}

fn run(ports: &str) -> Result<()> {
    let sequences = number(SEQUENCES)?.unwrap_or(FULL);
    let time = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let seed = number(SEED)?.unwrap_or(time.as_secs());
    println!(
        "lio: {sequences} sequences of {} commands, {SEED}={seed}",
        generate::LENGTH
    );
    let start = Instant::now();
    let mut lio = Lio::open(ports)?;
    let mut tally = Tally::default();
    let mut found = Vec::new();
    for (name, text) in sequence::stored()? {
        let steps = sequence::steps(&text).context(name)?;
        found.extend(play(&mut lio, &steps, &mut tally)?);
    }
    // Only random sequences show that the generator still comes to each row.
    tally.rows.clear();
    let mut random = Random::new(seed);
    for _ in 0..sequences {
        let steps = generate::sequence(&mut random);
        found.extend(play(&mut lio, &steps, &mut tally)?);
        if found.len() >= ENOUGH {
            break;
        }
    }
    report(&tally, start);
    for (number, difference) in found.iter().enumerate() {
        // Whole at first: what shrinking leads to may be worse than the difference.
        println!("\n# Difference {}, {SEED}={seed}\n{difference}", number + 1);
        let least = smallest(&mut lio, &difference.steps)?;
        println!("\n# Difference {}, shrunk\n{least}", number + 1);
    }
    ensure!(found.is_empty(), "{} differences", found.len());
    let unseen = Row::ALL.iter().find(|row| !tally.rows.contains_key(row));
    match unseen {
        Some(row) if sequences >= FULL => anyhow::bail!("{} {row:?} was never seen", row.id()),
        _ => Ok(()),
    }
}

fn report(tally: &Tally, start: Instant) {
    println!(
        "lio: {} sequences, {} commands, {} s; departures seen:",
        tally.sequences,
        tally.commands,
        start.elapsed().as_secs()
    );
    for row in Row::ALL {
        let seen = tally.rows.get(row).copied().unwrap_or(0);
        println!("lio: {} {seen:7} {row:?}", row.id());
    }
}

/// The smallest sequence with a difference that this one can be shrunk to.
fn smallest(target: &mut impl Target, steps: &[Step]) -> Result<Difference> {
    let mut least = None;
    shrink(steps, |steps| {
        let difference = play(target, steps, &mut Tally::default())?;
        let fails = difference.is_some();
        least = difference.or_else(|| least.take());
        Ok(fails)
    })?;
    least.context("a difference that was not seen again")
}
