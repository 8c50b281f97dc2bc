//! `cargo xtask supply` and `cargo xtask sbom`: the third-party crates of the project.
//!
//! The rules are in `deny.toml`, in cargo-deny's format. cargo-deny itself does not run in CI,
//! because a bare machine would have to build it from more crates than this workspace has, which
//! takes minutes, and because it downloads advisories.

mod graph;
mod license;
mod rules;
mod sbom;

use std::collections::BTreeMap;

use anyhow::{Result, ensure};

use graph::{Graph, Package};
use rules::Rules;

/// Checks licenses, duplicates and sources against the rules; fails if there is a violation.
pub(crate) fn check() -> Result<()> {
    let graph = Graph::all()?;
    let violations = violations(&graph.packages, &Rules::read()?);
    for violation in &violations {
        println!("{violation}");
    }
    ensure!(
        violations.is_empty(),
        "{} violations of deny.toml",
        violations.len()
    );
    println!(
        "{} crates: licenses, versions and sources comply with deny.toml",
        graph.packages.len()
    );
    Ok(())
}

/// Prints a CycloneDX document of the installed programs.
pub(crate) fn print_sbom() -> Result<()> {
    let document = sbom::document(&Graph::for_programs()?)?;
    println!("{}", serde_json::to_string_pretty(&document)?);
    Ok(())
}

/// Returns the violations, including rules that no crate needs.
fn violations(packages: &[Package], rules: &Rules) -> Vec<String> {
    let mut found = Vec::new();
    let mut needed = Vec::new();
    for package in packages {
        let license = package.license.as_deref().unwrap_or_default();
        match license::choose(license, &rules.licenses) {
            Some(chosen) => needed.extend(chosen),
            None => found.push(format!("{package}: license {license:?}")),
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
    let unneeded = rules.licenses.iter().filter(|one| !needed.contains(*one));
    found.extend(unneeded.map(|one| format!("deny.toml: no crate needs the license {one}")));
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
        let (skipped, rest): (Vec<_>, Vec<_>) = packages
            .into_iter()
            .partition(|package| skipped.contains(&package.to_string()));
        if rest.len() > 1 || rest.is_empty() {
            let all: Vec<_> = rest
                .iter()
                .map(|package| package.version.as_str())
                .collect();
            found.push(format!("{name}: multiple versions: {}", all.join(", ")));
        }
        used.extend(skipped.iter().map(ToString::to_string));
    }
    let unused = skipped.iter().filter(|one| !used.contains(*one));
    found.extend(unused.map(|one| format!("deny.toml: no crate {one}")));
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

    fn rules(licenses: &[&str], skipped: &[&str]) -> Rules {
        let owned = |list: &[&str]| list.iter().map(|one| (*one).to_owned()).collect();
        Rules {
            licenses: owned(licenses),
            skipped: owned(skipped),
            registries: owned(&["https://r"]),
        }
    }

    #[test]
    fn compliant_crates_have_no_violations() {
        let packages = [
            package("a", "1.0.0", "MIT"),
            package("b", "1.0.0", "MIT"),
            package("b", "2.0.0", "MIT OR GPL-3.0"),
        ];
        assert!(violations(&packages, &rules(&["MIT"], &["b@1.0.0"])).is_empty());
    }

    #[test]
    fn each_violation_is_reported() {
        let mut packages = [
            package("a", "1.0.0", "GPL-3.0"),
            package("b", "1.0.0", "MIT"),
            package("b", "2.0.0", "MIT"),
        ];
        packages[0].source = Some("git+https://r".to_owned());
        let found = violations(&packages, &rules(&["MIT", "NCSA"], &["c@1.0.0"]));
        assert_eq!(
            found,
            [
                "a@1.0.0: license \"GPL-3.0\"",
                "a@1.0.0: source git+https://r",
                "deny.toml: no crate needs the license NCSA",
                "b: multiple versions: 1.0.0, 2.0.0",
                "deny.toml: no crate c@1.0.0",
            ]
        );
    }

    #[test]
    fn skipping_the_only_version_is_a_violation() {
        let packages = [package("a", "1.0.0", "MIT")];
        let found = violations(&packages, &rules(&["MIT"], &["a@1.0.0"]));
        assert_eq!(found, ["a: multiple versions: "]);
    }
}
