//! Cases for `cargo xtask instructions`: it runs each so and so many times under callgrind, and the difference of
//! two such runs is what a case takes.

use std::env;

use anyhow::{Context as _, Result};

/// A case, by its name: what is to be done so many times.
pub(crate) type Case = (&'static str, fn(usize));

/// `NAME COUNT` runs a case; anything else, `--bench` too, says which there are.
pub(crate) fn run(cases: &[Case]) -> Result<()> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [name, count] = arguments.as_slice() else {
        cases.iter().for_each(|(name, _)| println!("{name}"));
        return Ok(());
    };
    let (_, case) = cases
        .iter()
        .find(|(case, _)| case == name)
        .with_context(|| format!("there is no case {name}"))?;
    case(count.parse().context("the count is not a number")?);
    Ok(())
}
