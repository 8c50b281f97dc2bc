//! The components of the programs as a CycloneDX document (1.5, JSON). It has neither a timestamp
//! nor a serial number, so the same sources produce the same document.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::graph::{Graph, Package};

pub(super) fn document(graph: &Graph) -> Result<Value> {
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.lock");
    let lock = fs::read_to_string(lock).context("cannot read Cargo.lock")?;
    let components = graph
        .packages
        .iter()
        .map(|package| component(package, &lock));
    let dependency = |package: &Package| -> Result<Value> {
        let needed = graph.dependencies_of(&package.id);
        let needed = needed.map(|id| Ok(reference(graph.package(id)?)));
        Ok(json!({
            "ref": reference(package),
            "dependsOn": needed.collect::<Result<Vec<_>>>()?,
        }))
    };
    let dependencies = graph.packages.iter().map(dependency);
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "components": components.collect::<Vec<_>>(),
        "dependencies": dependencies.collect::<Result<Vec<_>>>()?,
    }))
}

/// Returns the identifier of a crate within the document: its package URL.
fn reference(package: &Package) -> String {
    format!("pkg:cargo/{package}")
}

fn component(package: &Package, lock: &str) -> Value {
    let mut component = json!({
        "type": if Graph::is_program(package) { "application" } else { "library" },
        "bom-ref": reference(package),
        "name": package.name,
        "version": package.version,
        "purl": reference(package),
    });
    // Old crates use a slash for OR, which is not valid SPDX.
    if let Some(license) = &package.license {
        component["licenses"] = json!([{ "expression": license.replace('/', " OR ") }]);
    }
    if let Some(checksum) = checksum(package, lock) {
        component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
    }
    component
}

/// Returns the checksum of a crate's archive; crates of this workspace have none.
fn checksum<'a>(package: &Package, lock: &'a str) -> Option<&'a str> {
    let Package { name, version, .. } = package;
    let head = format!("name = \"{name}\"\nversion = \"{version}\"\n");
    let mut entries = lock.split("[[package]]\n");
    let entry = entries.find(|entry| entry.starts_with(&head))?;
    let mut lines = entry.lines();
    let quoted = lines.find_map(|line| line.strip_prefix("checksum = "))?;
    Some(quoted.trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_is_that_of_the_same_version() {
        let lock = "[[package]]\nname = \"a\"\nversion = \"1.0.0\"\n\n\
            [[package]]\nname = \"a\"\nversion = \"2.0.0\"\nsource = \"r\"\nchecksum = \"12\"\n";
        let package = |version: &str| Package {
            id: String::new(),
            name: "a".to_owned(),
            version: version.to_owned(),
            license: Some("MIT/Apache-2.0".to_owned()),
            source: None,
        };
        assert_eq!(checksum(&package("1.0.0"), lock), None);
        let component = component(&package("2.0.0"), lock);
        assert_eq!(component["hashes"][0]["content"], "12");
        assert_eq!(component["licenses"][0]["expression"], "MIT OR Apache-2.0");
        assert_eq!(component["purl"], "pkg:cargo/a@2.0.0");
    }
}
