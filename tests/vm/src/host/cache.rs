// SPDX-License-Identifier: MIT OR Apache-2.0

//! Directories below the target directory that one run creates and later runs use.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// File in a complete directory with the recipe that it was created from.
const RECIPE: &str = ".recipe";

/// Creates a directory, unless an earlier run created it from the same recipe. If that fails, a
/// directory from another recipe is kept and used.
pub(crate) fn get_or_create(
    dir: &Path,
    recipe: &str,
    create: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    if fs::read_to_string(dir.join(RECIPE)).is_ok_and(|old| old == recipe) {
        return Ok(());
    }
    let created = replace(dir, recipe, create);
    match created {
        Err(error) if dir.exists() => {
            eprintln!(
                "vm: WARNING: cannot renew {}, using the old one: {error:#}",
                dir.display()
            );
            Ok(())
        }
        created => created.with_context(|| format!("cannot create {}", dir.display())),
    }
}

/// Creates a directory beside `dir` and renames it last, so that the final name means that the
/// directory is complete.
fn replace(dir: &Path, recipe: &str, create: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let unfinished = with_suffix(dir, "unfinished");
    remove(&unfinished)?;
    fs::create_dir_all(&unfinished)
        .with_context(|| format!("cannot create {}", unfinished.display()))?;
    create(&unfinished)?;
    fs::write(unfinished.join(RECIPE), recipe).context("cannot write the recipe")?;
    let old = with_suffix(dir, "old");
    remove(&old)?;
    if dir.exists() {
        fs::rename(dir, &old).context("cannot rename the old directory")?;
    }
    fs::rename(&unfinished, dir).context("cannot rename the new directory")?;
    remove(&old)
}

fn with_suffix(dir: &Path, suffix: &str) -> PathBuf {
    let mut path = dir.as_os_str().to_owned();
    path.push(".");
    path.push(suffix);
    path.into()
}

fn remove(dir: &Path) -> Result<()> {
    if !dir.exists() {
        return Ok(());
    }
    fs::remove_dir_all(dir).with_context(|| format!("cannot remove {}", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::bail;

    #[test]
    fn directory_is_created_once_per_recipe() {
        let parent = std::env::temp_dir().join(format!("vm-cache-{}", std::process::id()));
        let dir = parent.join("root");
        let create =
            |content: &'static str| move |dir: &Path| Ok(fs::write(dir.join("content"), content)?);
        get_or_create(&dir, "one", create("first")).unwrap();
        get_or_create(&dir, "one", |_| bail!("created again")).unwrap();
        let content = || fs::read_to_string(dir.join("content")).unwrap();
        assert_eq!(content(), "first");

        get_or_create(&dir, "two", |_| bail!("no network")).unwrap();
        assert_eq!(content(), "first", "the old directory is lost");
        get_or_create(&dir, "two", create("second")).unwrap();
        assert_eq!(content(), "second");

        let absent = parent.join("absent");
        let error = get_or_create(&absent, "one", |_| bail!("no network")).unwrap_err();
        assert!(format!("{error:#}").contains("no network"), "{error:#}");
        fs::remove_dir_all(parent).unwrap();
    }
}
