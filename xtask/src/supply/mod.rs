//! `cargo xtask supply` and `cargo xtask sbom`: what the project takes from others.
//!
//! The rules are those of `deny.toml`, which is cargo-deny's. That program itself is not used where each change is
//! checked: on a bare machine it has to be built, from more crates than there are here, which takes minutes; and its
//! advisories come from the network.

mod graph;
mod licence;
mod rules;
mod sbom;

use std::collections::BTreeMap;

use anyhow::{Result, ensure};

use graph::{Graph, Package};
use rules::Rules;

/// Holds licences, duplicates and sources against the rules; fails if there is a complaint.
pub(crate) fn check() -> Result<()> {
    let graph = Graph::whole()?;
    let complaints = complaints(&graph.packages, &Rules::read()?);
    for complaint in &complaints {
        println!("{complaint}");
    }
    ensure!(
        complaints.is_empty(),
        "{} complaints by deny.toml",
        complaints.len()
    );
    println!(
        "{} crates: licences, versions and sources are as deny.toml has them",
        graph.packages.len()
    );
    Ok(())
}

/// Prints a CycloneDX document of what is in the programs that are installed.
pub(crate) fn print_sbom() -> Result<()> {
    let document = sbom::document(&Graph::of_programs()?)?;
    println!("{}", serde_json::to_string_pretty(&document)?);
    Ok(())
}

/// What is not as the rules have it; a rule that nothing needs is one of them.
fn complaints(packages: &[Package], rules: &Rules) -> Vec<String> {
    let mut found = Vec::new();
    let mut needed = Vec::new();
    for package in packages {
        let licence = package.license.as_deref().unwrap_or_default();
        match licence::choose(licence, &rules.licences) {
            Some(chosen) => needed.extend(chosen),
            None => found.push(format!("{package}: licence {licence:?}")),
        }
        let source = package.source.as_deref();
        let is_known = |source: &str| {
            let registry = source.strip_prefix("registry+");
            registry.is_some_and(|registry| rules.registries.iter().any(|one| one == registry))
        };
        if !source.is_none_or(is_known) {
            found.push(format!("{package}: source {}", source.unwrap_or_default()));
        }
    }
    let unneeded = rules.licences.iter().filter(|one| !needed.contains(*one));
    found.extend(unneeded.map(|one| format!("deny.toml: no crate needs the licence {one}")));
    found.extend(duplicates(packages, &rules.skipped));
    found
}

fn duplicates(packages: &[Package], skipped: &[String]) -> Vec<String> {
    let mut versions: BTreeMap<&str, Vec<&Package>> = BTreeMap::new();
    for package in packages {
        versions.entry(&package.name).or_default().push(package);
    }
    let mut found = Vec::new();
    let mut used = Vec::new();
    for (name, packages) in versions {
        let (skipped, left): (Vec<_>, Vec<_>) = packages
            .into_iter()
            .partition(|package| skipped.contains(&package.to_string()));
        if left.len() > 1 || left.is_empty() {
            let all: Vec<_> = left
                .iter()
                .map(|package| package.version.as_str())
                .collect();
            found.push(format!("{name}: several versions, {}", all.join(", ")));
        }
        used.extend(skipped.iter().map(ToString::to_string));
    }
    let unused = skipped.iter().filter(|one| !used.contains(*one));
    found.extend(unused.map(|one| format!("deny.toml: there is no {one}")));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, version: &str, license: &str) -> Package {
        Package {
            id: format!("{name} {version}"),
            name: name.to_owned(),
            version: version.to_owned(),
            license: Some(license.to_owned()),
            source: Some("registry+https://r".to_owned()),
        }
    }

    fn rules(licences: &[&str], skipped: &[&str]) -> Rules {
        let owned = |list: &[&str]| list.iter().map(|one| (*one).to_owned()).collect();
        Rules {
            licences: owned(licences),
            skipped: owned(skipped),
            registries: owned(&["https://r"]),
        }
    }

    #[test]
    fn what_is_as_the_rules_have_it_is_not_complained_of() {
        let packages = [
            package("a", "1.0.0", "MIT"),
            package("b", "1.0.0", "MIT"),
            package("b", "2.0.0", "MIT OR GPL-3.0"),
        ];
        assert!(complaints(&packages, &rules(&["MIT"], &["b@1.0.0"])).is_empty());
    }

    #[test]
    fn everything_else_is() {
        let mut packages = [
            package("a", "1.0.0", "GPL-3.0"),
            package("b", "1.0.0", "MIT"),
            package("b", "2.0.0", "MIT"),
        ];
        packages[0].source = Some("git+https://r".to_owned());
        let found = complaints(&packages, &rules(&["MIT", "NCSA"], &["c@1.0.0"]));
        assert_eq!(
            found,
            [
                "a@1.0.0: licence \"GPL-3.0\"",
                "a@1.0.0: source git+https://r",
                "deny.toml: no crate needs the licence NCSA",
                "b: several versions, 1.0.0, 2.0.0",
                "deny.toml: there is no c@1.0.0",
            ]
        );
    }

    #[test]
    fn the_last_version_of_a_crate_is_not_skipped() {
        let packages = [package("a", "1.0.0", "MIT")];
        let found = complaints(&packages, &rules(&["MIT"], &["a@1.0.0"]));
        assert_eq!(found, ["a: several versions, "]);
    }
}
