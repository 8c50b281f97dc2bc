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

use crate::build;
use contents::Family;
use edition::Edition;

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
        default_value = "Whoever built this package <root@localhost>"
    )]
    maintainer: String,
}

/// What was made.
pub(crate) struct Packages {
    /// For Debian.
    pub(crate) deb: PathBuf,
    /// For Fedora.
    pub(crate) rpm: PathBuf,
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

fn packages(folder: &Path, edition: &Edition, maintainer: &str) -> Result<Packages> {
    let programs = build::packaged()?;
    let files = |family| contents::files(&programs, edition, family, maintainer);
    let packages = Packages {
        deb: folder.join(deb::name()),
        rpm: folder.join(rpm::name()),
    };
    let deb = deb::package(&files(Family::Debian)?, edition, maintainer)?;
    write(&packages.deb, &deb)?;
    let rpm = rpm::package(&files(Family::Fedora)?, edition, maintainer)?;
    write(&packages.rpm, &rpm)?;
    Ok(packages)
}

fn write(path: &Path, content: &[u8]) -> Result<()> {
    let folder = path.parent().context("a file lies in a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))
}
