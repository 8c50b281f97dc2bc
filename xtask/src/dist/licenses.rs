//! Third-party crates in the programs, and their license files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::file::File;
use pr_testkit::build;

/// A third-party crate.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Crate {
    name: String,
    version: String,
    license: String,
}

/// Returns the third-party crates in the programs.
pub(crate) fn crates() -> Result<BTreeSet<Crate>> {
    let tree = build::cargo_output(&[
        "tree",
        "--locked",
        "--package=qemu-pr-helper",
        "--package=prhctl",
        "--features=qemu-pr-helper/usdt",
        "--edges=normal",
        "--prefix=none",
        "--format={p}|{l}",
    ])?;
    let lines = tree.lines().filter(|line| !line.is_empty());
    lines
        .filter_map(|line| parse_crate(line).transpose())
        .collect()
}

/// Parses `name v1.2.3|license`. Returns `None` for procedural macros and for crates of this
/// workspace: cargo prints a word in brackets after their version.
fn parse_crate(line: &str) -> Result<Option<Crate>> {
    let parts = line.trim_end_matches(" (*)").split_once('|');
    let (package, license) = parts.context("cargo tree did not print a license")?;
    let prefixes = package.split_once(" v");
    let (name, version) = prefixes.context("cargo tree did not print a version")?;
    if version.contains(' ') {
        return Ok(None);
    }
    Ok(Some(Crate {
        name: name.to_owned(),
        version: version.to_owned(),
        license: license.to_owned(),
    }))
}

/// Returns a line for each crate.
pub(crate) fn listing(crates: &BTreeSet<Crate>) -> String {
    let lines = crates.iter().map(|entry| {
        let Crate {
            name,
            version,
            license,
        } = entry;
        format!(" {name} {version}: {license}")
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Returns the license files of the crates, in directories below `dir`.
pub(crate) fn files(crates: &BTreeSet<Crate>, dir: &str) -> Result<Vec<File>> {
    let manifest_paths = manifests()?;
    let mut files = Vec::new();
    for entry in crates {
        let manifest = manifest_paths.get(&(entry.name.clone(), entry.version.clone()));
        let manifest =
            manifest.with_context(|| format!("cargo has no sources of {}", entry.name))?;
        let manifest = Path::new(manifest)
            .parent()
            .context("a manifest has a parent directory")?;
        for file in fs::read_dir(manifest)? {
            let file = file?;
            let name = file.file_name().to_string_lossy().into_owned();
            let prefixes = [
                "LICENSE",
                "LICENCE",
                "COPYING",
                "COPYRIGHT",
                "NOTICE",
                "UNLICENSE",
            ];
            let upper = name.to_uppercase();
            if !prefixes.iter().any(|prefix| upper.starts_with(prefix))
                || !file.file_type()?.is_file()
            {
                continue;
            }
            let path = format!("{dir}/{}-{}/{name}", entry.name, entry.version);
            files.push(File::document(path, fs::read(file.path())?));
        }
    }
    Ok(files)
}

/// Returns the path of each crate's manifest, by name and version.
fn manifests() -> Result<BTreeMap<(String, String), String>> {
    let metadata = build::cargo_output(&[
        "metadata",
        "--locked",
        "--all-features",
        "--format-version=1",
    ])?;
    let metadata: Value =
        serde_json::from_str(&metadata).context("cargo metadata did not print JSON")?;
    let packages = metadata["packages"]
        .as_array()
        .context("cargo metadata has no packages")?;
    let text = |package: &Value, key: &str| package[key].as_str().map(str::to_owned);
    let manifests = packages.iter().filter_map(|package| {
        let name = (text(package, "name")?, text(package, "version")?);
        Some((name, text(package, "manifest_path")?))
    });
    Ok(manifests.collect())
}
