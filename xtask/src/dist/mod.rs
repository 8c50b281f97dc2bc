//! What a distribution gets: man pages and completions.

mod completions;
mod edition;
mod man;

#[cfg(test)]
mod options_everywhere;
#[cfg(test)]
mod units;

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::build;
use edition::Edition;

/// Makes them in `target/dist`.
pub(crate) fn run() -> Result<()> {
    let folder = build::target_folder()?.join("dist");
    let edition = Edition::of_sources()?;
    let pages = folder.join("man");
    for page in man::pages(&edition) {
        write(&pages.join(page.name), page.text.as_bytes())?;
    }
    for script in completions::scripts() {
        let name = format!("completions/{}/{}", script.shell, script.program);
        write(&folder.join(name), &script.text)?;
    }
    println!("xtask: made {}", folder.display());
    Ok(())
}

fn write(path: &Path, content: &[u8]) -> Result<()> {
    let folder = path.parent().context("a file lies in a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))
}
