// SPDX-License-Identifier: MIT OR Apache-2.0

//! The comparison with LIO: stored sequences, then random sequences.

use std::env;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;

use crate::command::Step;
use crate::generate;
use crate::lio_deviations::Deviation;
use crate::random::Random;
use crate::run_sequence::{Difference, Tally, run_sequence};
use crate::sequence;
use crate::shrink::shrink;
use crate::target::{Lio, Target};

const PORTS: &str = "PR_LIO_PORTS";
const SEQUENCES: &str = "PR_LIO_SEQUENCES";
const SEED: &str = "PR_LIO_SEED";

/// Number of sequences in a full run, which must show every deviation.
const FULL_RUN: u64 = 2000;

/// Number of differences after which the run ends.
const MAX_DIFFERENCES: usize = 10;

pub(crate) fn trial() -> Trial {
    let ports = env::var(PORTS);
    if ports.is_err() {
        eprintln!("lio: skipped the comparison with LIO: {PORTS} is not set");
    }
    let skipped = ports.is_err();
    Trial::test("lio::responses_are_equal", move || {
        compare(&ports?).map_err(|error| format!("{error:#}").into())
    })
    .with_ignored_flag(skipped)
}

fn env_number(variable: &str) -> Result<Option<u64>> {
    let value = env::var(variable).ok();
    let value = value.map(|value| value.parse().with_context(|| format!("{variable}={value}")));
    value.transpose()
}

fn compare(ports: &str) -> Result<()> {
    let sequences = env_number(SEQUENCES)?.unwrap_or(FULL_RUN);
    let mut lio = Lio::open(ports)?;
    let time = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let seed = env_number(SEED)?.unwrap_or(time.as_secs());
    println!(
        "lio: {sequences} sequences of {} commands, {SEED}={seed}, Linux {}",
        generate::SEQUENCE_LEN,
        lio.kernel()
    );
    let start = Instant::now();
    let mut tally = Tally::default();
    let mut found = Vec::new();
    for (name, text) in sequence::stored()? {
        let steps = sequence::steps(&text).context(name)?;
        found.extend(run_sequence(&mut lio, &steps, &mut tally)?);
    }
    // Count the deviations in random sequences only: the generator must reach each of them.
    tally.deviations.clear();
    let mut random = Random::new(seed);
    for _ in 0..sequences {
        let steps = generate::sequence(lio.kernel(), &mut random);
        found.extend(run_sequence(&mut lio, &steps, &mut tally)?);
        if found.len() >= MAX_DIFFERENCES {
            break;
        }
    }
    report(&tally, start);
    for (index, difference) in found.iter().enumerate() {
        // Print the whole sequence first, because a command sent while shrinking can hang LIO.
        println!("\n# Difference {}, {SEED}={seed}\n{difference}", index + 1);
        let smallest = shrink_difference(&mut lio, &difference.steps)?;
        println!("\n# Difference {}, shrunk\n{smallest}", index + 1);
    }
    ensure!(found.is_empty(), "{} differences", found.len());
    let unseen = Deviation::ALL
        .iter()
        .find(|deviation| !tally.deviations.contains_key(deviation));
    match unseen {
        Some(deviation) if sequences >= FULL_RUN => {
            anyhow::bail!("{} {deviation:?} was never seen", deviation.id())
        }
        _ => Ok(()),
    }
}

fn report(tally: &Tally, start: Instant) {
    println!(
        "lio: {} sequences, {} commands, {} s; deviations seen:",
        tally.sequences,
        tally.commands,
        start.elapsed().as_secs()
    );
    for deviation in Deviation::ALL {
        let seen = tally.deviations.get(deviation).copied().unwrap_or(0);
        println!("lio: {} {seen:7} {deviation:?}", deviation.id());
    }
}

/// Shrinks a sequence with a difference, and returns the difference of the smallest sequence.
fn shrink_difference(target: &mut impl Target, steps: &[Step]) -> Result<Difference> {
    let mut smallest = None;
    shrink(steps, |steps| {
        let difference = run_sequence(target, steps, &mut Tally::default())?;
        let fails = difference.is_some();
        smallest = difference.or_else(|| smallest.take());
        Ok(fails)
    })?;
    smallest.context("the difference is not reproducible")
}
