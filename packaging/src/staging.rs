// SPDX-License-Identifier: MIT OR Apache-2.0

//! Creates the installed files in a staging directory.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap_complete::Shell;

use super::source_date::SourceDate;
use super::{NAME, PackageInputs, completions, licenses, man};
use pr_testkit::build;
use pr_testkit::process::{command, run};

/// Distribution family.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Debian, Ubuntu, Proxmox.
    Debian,
    /// Fedora, RHEL, SUSE, and programs below /usr/local.
    Other,
}

/// Creates the files of a package below `root`, which must not exist.
pub(crate) fn files(root: &Path, inputs: &PackageInputs, family: Family) -> Result<()> {
    let bin = root.join("usr/bin");
    copy(&inputs.programs.helper, &bin.join("qemu-pr-helper"))?;
    copy(&inputs.programs.prhctl, &bin.join("prhctl"))?;
    for (source, dir) in [
        ("systemd/qemu-pr-helper.socket", "usr/lib/systemd/system"),
        ("systemd/qemu-pr-helper.service", "usr/lib/systemd/system"),
        (
            "systemd/qemu-pr-helper-exporter.service",
            "usr/lib/systemd/system",
        ),
        ("sysusers/qemu-pr-helper.conf", "usr/lib/sysusers.d"),
        ("apparmor/qemu-pr-helper", "etc/apparmor.d"),
    ] {
        let source = source_dir().join(source);
        let name = source.file_name().context("a file has a name")?;
        copy(&source, &root.join(dir).join(name))?;
    }
    texts(&root.join("usr/share"), family, &inputs.source_date)?;
    documents(&documents_dir(root))
}

/// Creates man pages and completions below `share`.
pub fn texts(share: &Path, family: Family, source_date: &SourceDate) -> Result<()> {
    for page in man::pages(&source_date.day) {
        let (_, section) = page.name.rsplit_once('.').context("a page has a section")?;
        let path = share.join(format!("man/man{section}/{}", page.name));
        write(&path, &page.text)?;
        compress(&path)?;
    }
    for script in completions::scripts() {
        let path = completion(script.shell, script.program, family)?;
        write(&share.join(path), &script.text)?;
    }
    Ok(())
}

/// Returns the path of the completion script of a program.
fn completion(shell: Shell, program: &str, family: Family) -> Result<String> {
    Ok(match (shell, family) {
        (Shell::Bash, _) => format!("bash-completion/completions/{program}"),
        (Shell::Fish, _) => format!("fish/vendor_completions.d/{program}.fish"),
        (Shell::Zsh, Family::Debian) => format!("zsh/vendor-completions/_{program}"),
        (Shell::Zsh, Family::Other) => format!("zsh/site-functions/_{program}"),
        (other, _) => bail!("{other} has no completion directory"),
    })
}

/// Creates README, the documents that it links to, and the licenses of this project and of the
/// third-party crates.
fn documents(dir: &Path) -> Result<()> {
    let root = build::root();
    for name in ["README.md", "LICENSE-MIT", "LICENSE-APACHE"] {
        copy(&root.join(name), &dir.join(name))?;
    }
    run(command("cp").arg("-r").arg(root.join("docs")).arg(dir))?;
    for name in ["alerts.yml", "dashboard.json"] {
        let source = source_dir().join("prometheus").join(name);
        copy(&source, &dir.join("prometheus").join(name))?;
    }
    let crates = licenses::crates()?;
    for entry in &crates {
        for file in entry.license_files()? {
            let name = file.file_name().context("a file has a name")?;
            let directory = format!("licenses/{}-{}", entry.name, entry.version);
            copy(&file, &dir.join(directory).join(name))?;
        }
    }
    let mit = read(&root.join("LICENSE-MIT"))?;
    let copyright = read(&source_dir().join("copyright"))?
        .replace("%CRATES%", &licenses::listing(&crates))
        .replace("%MIT%", &control_text(&mit));
    write(&dir.join("copyright"), &copyright)
}

/// Indents a text for a control file, in which a blank line is a dot.
fn control_text(text: &str) -> String {
    let lines = text.lines().map(|line| match line {
        "" => " .".to_owned(),
        line => format!(" {line}"),
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Returns the directory with the sources of the packages.
pub(crate) fn source_dir() -> PathBuf {
    build::root().join("packaging")
}

/// Returns the directory of the package's documents.
pub(crate) fn documents_dir(root: &Path) -> PathBuf {
    root.join("usr/share/doc").join(NAME)
}

/// Makes files readable and directories searchable by all users, whatever the umask is.
pub(crate) fn normalize_modes(root: &Path) -> Result<()> {
    run(command("chmod")
        .args(["--recursive", "u=rwX,go=rX"])
        .arg(root))
}

/// Compresses a file without its name and time.
pub(crate) fn compress(path: &Path) -> Result<()> {
    run(command("gzip")
        .args(["--force", "--best", "--no-name"])
        .arg(path))
}

/// Copies a file with its permissions.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    create_parent(to)?;
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    Ok(())
}

pub(crate) fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

pub(crate) fn write(path: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    create_parent(path)?;
    fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))
}

fn create_parent(path: &Path) -> Result<()> {
    let dir = path.parent().context("a file has a parent directory")?;
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))
}
