//! What a package has in it, and where.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use clap_complete::Shell;
use flate2::{Compression, GzBuilder};

use super::edition::{Edition, VERSION};
use super::{completions, licences, man};
use crate::build::{self, Installed};

/// The packages' name. The distributions' own is qemu-pr-helper on Fedora, and a newer version of it would take the
/// place of one that is named the same.
pub(crate) const NAME: &str = "qemu-pr-helper-rs";
/// How often packages of the same version were made.
pub(crate) const RELEASE: &str = "1";

const DOCUMENTS: &str = "/usr/share/doc/qemu-pr-helper-rs";

/// For whom a package is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// Debian, Ubuntu, Proxmox.
    Debian,
    /// Fedora, RHEL, SUSE.
    Fedora,
}

/// What a file is to a package manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// To be replaced with the package.
    Ordinary,
    /// The administrator's, once it was changed.
    Configuration,
    /// Something to read.
    Document,
}

/// A file to be installed.
#[derive(Clone, Debug)]
pub(crate) struct File {
    /// Where, from the root folder.
    pub(crate) path: String,
    /// Permissions.
    pub(crate) mode: u32,
    /// What it is to a package manager.
    pub(crate) kind: Kind,
    /// What is in it.
    pub(crate) content: Vec<u8>,
}

impl File {
    fn new(path: impl Into<String>, content: impl Into<Vec<u8>>) -> Self {
        Self {
            path: path.into(),
            mode: 0o644,
            kind: Kind::Ordinary,
            content: content.into(),
        }
    }

    /// Something to read.
    pub(crate) fn document(path: impl Into<String>, content: impl Into<Vec<u8>>) -> Self {
        Self {
            kind: Kind::Document,
            ..Self::new(path, content)
        }
    }
}

/// What both kinds of package have in them, in the order of paths.
pub(crate) fn files(
    programs: &Installed,
    edition: &Edition,
    family: Family,
    maintainer: &str,
) -> Result<Vec<File>> {
    let mut files = Vec::new();
    for (name, path) in [
        ("qemu-pr-helper", &programs.helper),
        ("prhctl", &programs.prhctl),
    ] {
        files.push(File {
            mode: 0o755,
            ..File::new(format!("/usr/bin/{name}"), read(path)?)
        });
    }
    for name in ["qemu-pr-helper.socket", "qemu-pr-helper.service"] {
        let unit = read(&build::root().join("dist/systemd").join(name))?;
        files.push(File::new(format!("/usr/lib/systemd/system/{name}"), unit));
    }
    files.push(File::new(
        "/usr/lib/sysusers.d/qemu-pr-helper.conf",
        read(&build::root().join("dist/sysusers/qemu-pr-helper.conf"))?,
    ));
    files.push(File {
        kind: Kind::Configuration,
        ..File::new(
            "/etc/apparmor.d/qemu-pr-helper",
            read(&build::root().join("dist/apparmor/qemu-pr-helper"))?,
        )
    });
    for page in man::pages(edition) {
        let section = page
            .name
            .rsplit_once('.')
            .map_or("", |(_, section)| section);
        let path = format!("/usr/share/man/man{section}/{}.gz", page.name);
        files.push(File::document(path, compressed(page.text.as_bytes())?));
    }
    for script in completions::scripts() {
        files.push(File::new(
            completion(script.shell, script.program, family)?,
            script.text,
        ));
    }
    files.extend(documents()?);
    if family == Family::Debian {
        let path = format!("{DOCUMENTS}/changelog.Debian.gz");
        let changelog = compressed(changelog(edition, maintainer).as_bytes())?;
        files.push(File::document(path, changelog));
    }
    files.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(files)
}

/// Folders that are there for these files alone, without a slash at the end.
pub(crate) fn own_folders(files: &[File]) -> BTreeSet<&str> {
    let files = files.iter().filter_map(|file| {
        let inside = file.path.strip_prefix(DOCUMENTS)?;
        let ends = inside
            .match_indices('/')
            .map(|(at, _)| DOCUMENTS.len() + at);
        Some(ends.filter_map(|end| file.path.get(..end)))
    });
    files.flatten().collect()
}

/// Where a shell looks for completions of a program.
fn completion(shell: Shell, program: &str, family: Family) -> Result<String> {
    Ok(match (shell, family) {
        (Shell::Bash, _) => format!("/usr/share/bash-completion/completions/{program}"),
        (Shell::Fish, _) => format!("/usr/share/fish/vendor_completions.d/{program}.fish"),
        (Shell::Zsh, Family::Debian) => format!("/usr/share/zsh/vendor-completions/_{program}"),
        (Shell::Zsh, Family::Fedora) => format!("/usr/share/zsh/site-functions/_{program}"),
        (other, _) => bail!("{other} has no folder of completions"),
    })
}

/// README, the documents that it leads to, and licences: ours, and those of what is in the programs.
fn documents() -> Result<Vec<File>> {
    let root = build::root();
    let crates = licences::crates()?;
    let mit = fs::read_to_string(root.join("LICENSE-MIT"))?;
    let copyright = include_str!("../../../dist/copyright")
        .replace("%CRATES%", &licences::listing(&crates))
        .replace("%MIT%", indented(&mit).trim_end());
    let mut files = licences::files(&crates, &format!("{DOCUMENTS}/licenses"))?;
    files.push(File::document(format!("{DOCUMENTS}/copyright"), copyright));
    for name in ["README.md", "LICENSE-MIT", "LICENSE-APACHE"] {
        files.push(File::document(
            format!("{DOCUMENTS}/{name}"),
            read(&root.join(name))?,
        ));
    }
    for document in fs::read_dir(root.join("docs"))? {
        let document = document?;
        let name = document.file_name().to_string_lossy().into_owned();
        let path = format!("{DOCUMENTS}/docs/{name}");
        files.push(File::document(path, read(&document.path())?));
    }
    Ok(files)
}

/// As control files have text of several lines.
fn indented(text: &str) -> String {
    let lines = text.lines().map(|line| match line {
        "" => " .\n".to_owned(),
        line => format!(" {line}\n"),
    });
    lines.collect()
}

fn changelog(edition: &Edition, maintainer: &str) -> String {
    let time = edition.mail();
    format!(
        "{NAME} ({VERSION}-{RELEASE}) unstable; urgency=medium\n\n  \
         * Made by cargo xtask dist.\n\n -- {maintainer}  {time}\n"
    )
}

/// With nothing of the time and the machine in it.
fn compressed(content: &[u8]) -> Result<Vec<u8>> {
    let mut writer = GzBuilder::new()
        .mtime(0)
        .write(Vec::new(), Compression::best());
    writer.write_all(content)?;
    Ok(writer.finish()?)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
