//! `cargo xtask dist`: what a distribution gets: man pages, completions, packages.

mod completions;
mod contents;
mod deb;
mod edition;
mod libraries;
mod licences;
mod man;
mod rpm;

#[cfg(test)]
mod options_everywhere;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod units;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;

use crate::build::{self, Installed};
use contents::Family;
use edition::Edition;

/// Who stands behind packages unless it is said.
const MAINTAINER: &str = "Whoever built this package <root@localhost>";

/// Arguments of `cargo xtask dist`.
#[derive(Args)]
pub(crate) struct Options {
    /// Only man pages and completions, which takes no build
    #[arg(long)]
    texts: bool,
    /// Whom the packages name for questions about them
    #[arg(
        long,
        value_name = "NAME <ADDRESS>",
        default_value = MAINTAINER
    )]
    maintainer: String,
}

/// Makes all of it in `target/dist`.
pub(crate) fn run(options: &Options) -> Result<()> {
    let folder = build::target_folder()?.join("dist");
    let edition = Edition::of_sources()?;
    texts(&folder, &edition)?;
    if !options.texts {
        packages(&folder, &edition, &options.maintainer)?;
    }
    println!("xtask: made {}", folder.display());
    Ok(())
}

fn texts(folder: &Path, edition: &Edition) -> Result<()> {
    for page in man::pages(edition) {
        write(&folder.join("man").join(page.name), page.text.as_bytes())?;
    }
    for script in completions::scripts() {
        let name = format!("completions/{}/{}", script.shell, script.program);
        write(&folder.join(name), &script.text)?;
    }
    Ok(())
}

fn packages(folder: &Path, edition: &Edition, maintainer: &str) -> Result<()> {
    let programs = build::packaged()?;
    debian(folder, edition, maintainer, &programs)?;
    let files = contents::files(&programs, edition, Family::Fedora, maintainer)?;
    let package = rpm::package(&files, edition, maintainer)?;
    write(&folder.join(rpm::name()), &package)
}

/// Makes Debian's package alone, and says where it is.
pub(crate) fn debian_package() -> Result<PathBuf> {
    let folder = build::target_folder()?.join("dist");
    let edition = Edition::of_sources()?;
    debian(&folder, &edition, MAINTAINER, &build::packaged()?)
}

fn debian(
    folder: &Path,
    edition: &Edition,
    maintainer: &str,
    programs: &Installed,
) -> Result<PathBuf> {
    let files = contents::files(programs, edition, Family::Debian, maintainer)?;
    let path = folder.join(deb::name());
    write(&path, &deb::package(&files, edition, maintainer)?)?;
    Ok(path)
}

fn write(path: &Path, content: &[u8]) -> Result<()> {
    let folder = path.parent().context("a file lies in a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))
}
