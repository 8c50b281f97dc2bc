// SPDX-License-Identifier: MIT OR Apache-2.0

//! Benchmark cases for `cargo xtask instructions`, which counts their instructions.
//!
//! It runs each case twice under callgrind with different counts. The difference, divided by the
//! difference of the counts, is the number of instructions of one repetition.

use std::env;

use anyhow::{Context as _, Result};

/// A name, and a function that repeats an operation the given number of times.
pub(crate) type Case = (&'static str, fn(usize));

/// Runs a case if the arguments are `NAME COUNT`. Otherwise, also with `--bench`, lists the cases.
pub(crate) fn run(cases: &[Case]) -> Result<()> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [name, count] = arguments.as_slice() else {
        cases.iter().for_each(|(name, _)| println!("{name}"));
        return Ok(());
    };
    let (_, case) = cases
        .iter()
        .find(|(case, _)| case == name)
        .with_context(|| format!("unknown case {name}"))?;
    case(count.parse().context("the count is not a number")?);
    Ok(())
}
