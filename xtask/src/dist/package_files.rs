//! Files of the packages and their paths.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use clap_complete::Shell;
use flate2::{Compression, GzBuilder};

use super::file::{File, Kind};
use super::source_date::{SourceDate, VERSION};
use super::{completions, licenses, man};
use pr_testkit::build::{self, Installed};

/// Name of the packages. It differs from the distributions' qemu-pr-helper (on Fedora), because a
/// newer version of that package would replace one of the same name.
pub(crate) const NAME: &str = "qemu-pr-helper-rs";
/// Revision of the packages of one version.
pub(crate) const RELEASE: &str = "1";

const DOCUMENTS: &str = "/usr/share/doc/qemu-pr-helper-rs";

/// Package family.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// Debian, Ubuntu, Proxmox.
    Debian,
    /// Fedora, RHEL, SUSE.
    Fedora,
}

/// Returns the files of a package, sorted by path.
pub(crate) fn files(
    programs: &Installed,
    source_date: &SourceDate,
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
        let unit = read(&build::root().join("packaging/systemd").join(name))?;
        files.push(File::new(format!("/usr/lib/systemd/system/{name}"), unit));
    }
    files.push(File::new(
        "/usr/lib/sysusers.d/qemu-pr-helper.conf",
        read(&build::root().join("packaging/sysusers/qemu-pr-helper.conf"))?,
    ));
    files.push(File {
        kind: Kind::Configuration,
        ..File::new(
            "/etc/apparmor.d/qemu-pr-helper",
            read(&build::root().join("packaging/apparmor/qemu-pr-helper"))?,
        )
    });
    for page in man::pages(source_date) {
        let section = page
            .name
            .rsplit_once('.')
            .map_or("", |(_, section)| section);
        let path = format!("/usr/share/man/man{section}/{}.gz", page.name);
        files.push(File::document(path, compress(page.text.as_bytes())?));
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
        let changelog = compress(changelog(source_date, maintainer).as_bytes())?;
        files.push(File::document(path, changelog));
    }
    files.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(files)
}

/// Returns the directories that belong to these files only, without a trailing slash.
pub(crate) fn own_dirs(files: &[File]) -> BTreeSet<&str> {
    let files = files.iter().filter_map(|file| {
        let inside = file.path.strip_prefix(DOCUMENTS)?;
        let slashes = inside
            .match_indices('/')
            .map(|(at, _)| DOCUMENTS.len() + at);
        Some(slashes.filter_map(|end| file.path.get(..end)))
    });
    files.flatten().collect()
}

/// Returns the path of the completion script of a program.
fn completion(shell: Shell, program: &str, family: Family) -> Result<String> {
    Ok(match (shell, family) {
        (Shell::Bash, _) => format!("/usr/share/bash-completion/completions/{program}"),
        (Shell::Fish, _) => format!("/usr/share/fish/vendor_completions.d/{program}.fish"),
        (Shell::Zsh, Family::Debian) => format!("/usr/share/zsh/vendor-completions/_{program}"),
        (Shell::Zsh, Family::Fedora) => format!("/usr/share/zsh/site-functions/_{program}"),
        (other, _) => bail!("{other} has no completion directory"),
    })
}

/// Returns README, the documents that it links to, and the licenses of this project and of the
/// third-party crates.
fn documents() -> Result<Vec<File>> {
    let root = build::root();
    let crates = licenses::crates()?;
    let mit = fs::read_to_string(root.join("LICENSE-MIT"))?;
    let copyright = include_str!("../../../packaging/copyright")
        .replace("%CRATES%", &licenses::listing(&crates))
        .replace("%MIT%", indent(&mit).trim_end());
    let mut files = licenses::files(&crates, &format!("{DOCUMENTS}/licenses"))?;
    files.push(File::document(format!("{DOCUMENTS}/copyright"), copyright));
    for name in ["README.md", "LICENSE-MIT", "LICENSE-APACHE"] {
        files.push(File::document(
            format!("{DOCUMENTS}/{name}"),
            read(&root.join(name))?,
        ));
    }
    for dir in ["docs", "docs/decisions"] {
        for document in fs::read_dir(root.join(dir))? {
            let document = document?;
            if document.file_type()?.is_file() {
                let name = document.file_name().to_string_lossy().into_owned();
                let path = format!("{DOCUMENTS}/{dir}/{name}");
                files.push(File::document(path, read(&document.path())?));
            }
        }
    }
    Ok(files)
}

/// Indents a multi-line text for a control file.
fn indent(text: &str) -> String {
    let lines = text.lines().map(|line| match line {
        "" => " .\n".to_owned(),
        line => format!(" {line}\n"),
    });
    lines.collect()
}

fn changelog(source_date: &SourceDate, maintainer: &str) -> String {
    let time = source_date.rfc5322();
    format!(
        "{NAME} ({VERSION}-{RELEASE}) unstable; urgency=medium\n\n  \
         * Built by cargo xtask dist.\n\n -- {maintainer}  {time}\n"
    )
}

/// Compresses without a timestamp or a host name, for reproducible builds.
fn compress(content: &[u8]) -> Result<Vec<u8>> {
    let mut writer = GzBuilder::new()
        .mtime(0)
        .write(Vec::new(), Compression::best());
    writer.write_all(content)?;
    Ok(writer.finish()?)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
