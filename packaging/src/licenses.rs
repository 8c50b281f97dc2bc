// SPDX-License-Identifier: MIT OR Apache-2.0

//! Third-party crates in the programs, and their license files.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value;

use pr_testkit::build;

/// Beginnings of the names of license files.
const PREFIXES: [&str; 6] = [
    "LICENSE",
    "LICENCE",
    "COPYING",
    "COPYRIGHT",
    "NOTICE",
    "UNLICENSE",
];

/// A third-party crate.
pub(crate) struct Crate {
    pub(crate) name: String,
    pub(crate) version: String,
    license: String,
    dir: PathBuf,
}

/// Returns the third-party crates in the programs, without procedural macros.
pub(crate) fn crates() -> Result<Vec<Crate>> {
    let tree = build::cargo_output(&[
        "tree",
        "--locked",
        "--package=qemu-pr-helper",
        "--package=prhctl",
        "--features=qemu-pr-helper/usdt",
        "--edges=normal",
        "--prefix=none",
        "--format={p}|",
    ])?;
    let lines: BTreeSet<_> = tree.lines().collect();
    let metadata: Value = build::metadata(&["--locked", "--all-features"])?;
    let packages = metadata["packages"].as_array();
    let packages = packages.context("cargo metadata has no packages")?;
    let mut crates: Vec<_> = packages.iter().filter_map(third_party).collect();
    // cargo prints a word in brackets after the version of a procedural macro.
    crates.retain(|entry| lines.contains(format!("{} v{}|", entry.name, entry.version).as_str()));
    crates.sort_by(|one, other| (&one.name, &one.version).cmp(&(&other.name, &other.version)));
    Ok(crates)
}

/// Reads a package of `cargo metadata`. A crate of this workspace has no source.
fn third_party(package: &Value) -> Option<Crate> {
    package["source"].as_str()?;
    let text = |key: &str| package[key].as_str().map(str::to_owned);
    Some(Crate {
        name: text("name")?,
        version: text("version")?,
        license: text("license").unwrap_or_default(),
        dir: Path::new(package["manifest_path"].as_str()?)
            .parent()?
            .to_owned(),
    })
}

/// Returns a line for each crate.
pub(crate) fn listing(crates: &[Crate]) -> String {
    let lines = crates.iter().map(|entry| {
        let Crate {
            name,
            version,
            license,
            ..
        } = entry;
        format!(" {name} {version}: {license}")
    });
    lines.collect::<Vec<_>>().join("\n")
}

impl Crate {
    /// Returns the paths of the license files.
    pub(crate) fn license_files(&self) -> Result<Vec<PathBuf>> {
        let entries = fs::read_dir(&self.dir)
            .with_context(|| format!("cargo has no sources of {}", self.name))?;
        let mut files = Vec::new();
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().to_uppercase();
            if entry.file_type()?.is_file()
                && PREFIXES.iter().any(|prefix| name.starts_with(prefix))
            {
                files.push(entry.path());
            }
        }
        Ok(files)
    }
}
