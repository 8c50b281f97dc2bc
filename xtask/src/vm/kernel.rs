//! Fetches Debian's kernel package and unpacks it below the target folder; nothing is installed.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, ensure};

use crate::process::{command, output, run, text};

/// The long-term series that Debian 12 has in its security and backports suites and Debian 13 has as
/// its own.
const SERIES: &str = "linux-image-6.12.";

/// How many versions to try: package lists may name some that the archive no longer has.
const TRIES: usize = 5;

/// An unpacked kernel with its modules.
pub(crate) struct Kernel {
    root: PathBuf,
    release: String,
}

impl Kernel {
    /// The folder that the package was unpacked into, as `modprobe -d` takes it.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// What `uname -r` says when it runs.
    pub(crate) fn release(&self) -> &str {
        &self.release
    }

    /// The image to boot.
    pub(crate) fn image(&self) -> PathBuf {
        self.root
            .join("boot")
            .join(format!("vmlinuz-{}", self.release))
    }

    /// The compressed files of these modules and of all that they need, in the order to load them.
    pub(crate) fn modules(&self, names: &[&str]) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for name in names {
            let plan = text(command("modprobe").arg("--dirname").arg(&self.root).args([
                "--set-version",
                &self.release,
                "--show-depends",
                name,
            ]))?;
            for file in files_of_plan(&plan) {
                if !files.contains(&file) {
                    files.push(file);
                }
            }
        }
        Ok(files)
    }

    fn open(root: PathBuf) -> Result<Self> {
        let modules = root.join("lib/modules");
        let release = fs::read_dir(&modules)
            .and_then(|mut entries| entries.next().transpose())
            .ok()
            .flatten()
            .and_then(|entry| entry.file_name().into_string().ok())
            .with_context(|| format!("there is no kernel in {}", modules.display()))?;
        let kernel = Self { root, release };
        let image = kernel.image();
        ensure!(image.exists(), "there is no {}", image.display());
        Ok(kernel)
    }
}

/// The kernel of an earlier run, or a new one.
pub(crate) fn get(folder: &Path) -> Result<Kernel> {
    let complete = folder.join("kernel");
    if !complete.exists() {
        let unfinished = folder.join("kernel.unfinished");
        fetch(&unfinished).context("cannot get a kernel")?;
        // The name says that it is complete, so it is given last.
        fs::rename(&unfinished, &complete)
            .with_context(|| format!("cannot create {}", complete.display()))?;
    }
    Kernel::open(complete.clone())
        .with_context(|| format!("remove {} and try again", complete.display()))
}

fn fetch(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)
            .with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let package = download(folder)?;
    run(command("dpkg").arg("--extract").arg(&package).arg(folder))?;
    fs::remove_file(&package).with_context(|| format!("cannot remove {}", package.display()))?;
    let kernel = Kernel::open(folder.to_owned())?;
    run(command("depmod")
        .arg("--basedir")
        .arg(folder)
        .arg(kernel.release()))
}

/// Downloads the newest package that there is and says where it is.
fn download(folder: &Path) -> Result<PathBuf> {
    let known = text(command("apt-cache").args(["pkgnames", SERIES]))?;
    let mut failure = anyhow!(
        "apt knows no package {SERIES}*-amd64: run apt-get update, and on Debian 12 have \
         bookworm-security or bookworm-backports among the sources"
    );
    for package in newest_first(&known).into_iter().take(TRIES) {
        println!("xtask: downloading {package}");
        let result = output(
            command("apt-get")
                .current_dir(folder)
                // As root apt would change to a user who cannot write here, and complain.
                .args(["--quiet", "--option=APT::Sandbox::User=root", "download"])
                .arg(package),
        );
        match result {
            Ok(_) => return downloaded(folder, package),
            Err(error) => failure = error.context("run apt-get update if apt's lists are old"),
        }
    }
    Err(failure)
}

fn downloaded(folder: &Path, package: &str) -> Result<PathBuf> {
    let start = format!("{package}_");
    fs::read_dir(folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.starts_with(&start))
        })
        .with_context(|| format!("apt-get left no {start}*.deb in {}", folder.display()))
}

/// The plain amd64 kernels among package names, the newest first.
///
/// The other flavours have a dash in what is the version here: `cloud` lacks the target modules.
fn newest_first(names: &str) -> Vec<&str> {
    let mut versions: Vec<_> = names
        .lines()
        .filter_map(|name| {
            let version = name.strip_prefix(SERIES)?.strip_suffix("-amd64")?;
            (!version.contains('-')).then(|| (numbers(version), name))
        })
        .collect();
    versions.sort_unstable_by(|one, other| other.cmp(one));
    versions.into_iter().map(|(_, name)| name).collect()
}

/// The numbers in a version: 117 and 12 in `117+deb12`.
fn numbers(version: &str) -> Vec<u32> {
    version
        .split(|character: char| !character.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect()
}

/// The files in `modprobe --show-depends`'s answer, which also names what is built in.
fn files_of_plan(plan: &str) -> Vec<PathBuf> {
    plan.lines()
        .filter_map(|line| line.strip_prefix("insmod "))
        .map(|file| PathBuf::from(file.trim_end()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_plain_kernel_comes_first() {
        let names = "linux-image-6.12.95+deb12-amd64\n\
            linux-image-6.12.117+deb12-cloud-amd64\n\
            linux-image-6.12.90+deb12.1-amd64\n\
            linux-image-6.12.100+deb12-amd64\n\
            linux-image-6.12.90+deb12-amd64\n\
            linux-image-6.12.117+deb12-amd64-dbg\n\
            linux-image-6.12.100+deb12-rt-amd64\n";
        assert_eq!(
            newest_first(names),
            [
                "linux-image-6.12.100+deb12-amd64",
                "linux-image-6.12.95+deb12-amd64",
                "linux-image-6.12.90+deb12.1-amd64",
                "linux-image-6.12.90+deb12-amd64",
            ]
        );
    }

    #[test]
    fn what_is_built_in_needs_no_file() {
        let plan = "builtin virtio_pci\ninsmod /k/scsi_mod.ko.xz \ninsmod /k/sg.ko.xz \n";
        assert_eq!(
            files_of_plan(plan),
            [Path::new("/k/scsi_mod.ko.xz"), Path::new("/k/sg.ko.xz")]
        );
    }
}
