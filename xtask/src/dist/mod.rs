//! `cargo xtask dist`: builds man pages, completions and packages.

mod completions;
mod deb;
mod file;
mod libraries;
mod licenses;
mod man;
mod package_files;
mod rpm;
mod source_date;

#[cfg(test)]
mod option_coverage;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod units;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;

use package_files::Family;
use pr_testkit::build::{self, Installed};
use source_date::SourceDate;

/// Default maintainer of the packages.
const MAINTAINER: &str = "Local build <root@localhost>";

/// Arguments of `cargo xtask dist`.
#[derive(Args)]
pub(crate) struct Options {
    /// Build man pages and completions only, which needs no release build
    #[arg(long)]
    texts: bool,
    /// Maintainer that the packages name
    #[arg(
        long,
        value_name = "NAME <ADDRESS>",
        default_value = MAINTAINER
    )]
    maintainer: String,
}

/// Builds everything in `target/dist`.
pub(crate) fn run(options: &Options) -> Result<()> {
    let dir = build::target_dir()?.join("dist");
    let source_date = SourceDate::from_environment()?;
    texts(&dir, &source_date)?;
    if !options.texts {
        packages(&dir, &source_date, &options.maintainer)?;
    }
    println!("xtask: built {}", dir.display());
    Ok(())
}

fn texts(dir: &Path, source_date: &SourceDate) -> Result<()> {
    for page in man::pages(source_date) {
        write(&dir.join("man").join(page.name), page.text.as_bytes())?;
    }
    for script in completions::scripts() {
        let name = format!("completions/{}/{}", script.shell, script.program);
        write(&dir.join(name), &script.text)?;
    }
    Ok(())
}

fn packages(dir: &Path, source_date: &SourceDate, maintainer: &str) -> Result<()> {
    let programs = build::packaged()?;
    debian(dir, source_date, maintainer, &programs)?;
    let files = package_files::files(&programs, source_date, Family::Fedora, maintainer)?;
    let package = rpm::package(&files, source_date, maintainer)?;
    write(&dir.join(rpm::name()), &package)
}

fn debian(
    dir: &Path,
    source_date: &SourceDate,
    maintainer: &str,
    programs: &Installed,
) -> Result<PathBuf> {
    let files = package_files::files(programs, source_date, Family::Debian, maintainer)?;
    let path = dir.join(deb::name());
    write(&path, &deb::package(&files, source_date, maintainer)?)?;
    Ok(path)
}

fn write(path: &Path, content: &[u8]) -> Result<()> {
    let dir = path.parent().context("a file has a parent directory")?;
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))
}
