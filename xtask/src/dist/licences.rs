//! Which crates of others are in the programs, and what they have to say of their licences.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::contents::File;
use crate::build;

/// A crate of somebody else's.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Crate {
    name: String,
    version: String,
    licence: String,
}

/// Those that are in the programs.
pub(crate) fn crates() -> Result<BTreeSet<Crate>> {
    let tree = build::ask(&[
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
    lines.filter_map(|line| read(line).transpose()).collect()
}

/// `name v1.2.3|licence`. Not what works at build time alone, nor what is ours: those have a word in brackets.
fn read(line: &str) -> Result<Option<Crate>> {
    let parts = line.trim_end_matches(" (*)").split_once('|');
    let (package, licence) = parts.context("cargo tree prints no licences")?;
    let words = package.split_once(" v");
    let (name, version) = words.context("cargo tree prints no versions")?;
    if version.contains(' ') {
        return Ok(None);
    }
    Ok(Some(Crate {
        name: name.to_owned(),
        version: version.to_owned(),
        licence: licence.to_owned(),
    }))
}

/// A line for each crate.
pub(crate) fn listing(crates: &BTreeSet<Crate>) -> String {
    let lines = crates.iter().map(|entry| {
        let Crate {
            name,
            version,
            licence,
        } = entry;
        format!(" {name} {version}: {licence}")
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The files in which the crates say it, below `folder`.
pub(crate) fn files(crates: &BTreeSet<Crate>, folder: &str) -> Result<Vec<File>> {
    let sources = sources()?;
    let mut files = Vec::new();
    for entry in crates {
        let source = sources.get(&(entry.name.clone(), entry.version.clone()));
        let source = source.with_context(|| format!("cargo has no source of {}", entry.name))?;
        let source = Path::new(source)
            .parent()
            .context("a manifest lies in a folder")?;
        for file in fs::read_dir(source)? {
            let file = file?;
            let name = file.file_name().to_string_lossy().into_owned();
            let words = [
                "LICENSE",
                "LICENCE",
                "COPYING",
                "COPYRIGHT",
                "NOTICE",
                "UNLICENSE",
            ];
            let upper = name.to_uppercase();
            if !words.iter().any(|word| upper.starts_with(word)) || !file.file_type()?.is_file() {
                continue;
            }
            let path = format!("{folder}/{}-{}/{name}", entry.name, entry.version);
            files.push(File::document(path, fs::read(file.path())?));
        }
    }
    Ok(files)
}

/// The manifest of each crate, by name and version.
fn sources() -> Result<BTreeMap<(String, String), String>> {
    let answer = build::ask(&[
        "metadata",
        "--locked",
        "--all-features",
        "--format-version=1",
    ])?;
    let answer: Value = serde_json::from_str(&answer).context("cargo metadata is no JSON")?;
    let packages = answer["packages"]
        .as_array()
        .context("cargo metadata has no packages")?;
    let text = |package: &Value, key: &str| package[key].as_str().map(str::to_owned);
    let sources = packages.iter().filter_map(|package| {
        let name = (text(package, "name")?, text(package, "version")?);
        Some((name, text(package, "manifest_path")?))
    });
    Ok(sources.collect())
}
