//! `cargo xtask sbom`: the crates that the installed programs consist of.

mod graph;
mod sbom;

use anyhow::Result;

use graph::Graph;

/// Prints a CycloneDX document of the installed programs.
pub(crate) fn print_sbom() -> Result<()> {
    let document = sbom::document(&Graph::for_programs()?)?;
    println!("{}", serde_json::to_string_pretty(&document)?);
    Ok(())
}
