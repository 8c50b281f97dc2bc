// SPDX-License-Identifier: MIT OR Apache-2.0

//! Kernels of the machines: Debian's package, which is downloaded and unpacked without installing
//! it, and kernels in root directories.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};

use super::cache;
use pr_testkit::process::{command, output, run, text};

/// Kernel series with long-term support, which is in the security and backports suites of Debian 12
/// and in Debian 13.
const SERIES: &str = "linux-image-6.12.";

/// Maximum number of versions to try, because package lists can name versions that the archive has
/// removed.
const MAX_VERSIONS: usize = 5;

/// An unpacked kernel with its modules.
pub(crate) struct Kernel {
    root: PathBuf,
    release: String,
    image: PathBuf,
}

impl Kernel {
    /// Returns the directory of the kernel, for `modprobe -d`.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the release, as `uname -r` prints it.
    pub(crate) fn release(&self) -> &str {
        &self.release
    }

    /// Returns the path of the boot image.
    pub(crate) fn image(&self) -> &Path {
        &self.image
    }

    /// Returns the compressed files of modules and their dependencies, in load order.
    pub(crate) fn modules(&self, names: &[&str]) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for name in names {
            let plan = text(command("modprobe").arg("--dirname").arg(&self.root).args([
                "--set-version",
                &self.release,
                "--show-depends",
                name,
            ]))?;
            for file in insmod_files(&plan) {
                if !files.contains(&file) {
                    files.push(file);
                }
            }
        }
        Ok(files)
    }

    /// Opens the kernel in a root directory, or in a directory that a package was unpacked into.
    pub(crate) fn open(root: PathBuf) -> Result<Self> {
        let modules = root.join("lib/modules");
        let release = fs::read_dir(&modules)
            .and_then(|mut entries| entries.next().transpose())
            .ok()
            .flatten()
            .and_then(|entry| entry.file_name().into_string().ok())
            .with_context(|| format!("{} has no kernel", modules.display()))?;
        // Since Linux 7, Debian's image is beside the modules.
        let image = [
            root.join(format!("boot/vmlinuz-{release}")),
            modules.join(&release).join("vmlinuz"),
        ];
        let image = image.into_iter().find(|image| image.exists());
        let image = image.with_context(|| format!("{} has no boot image", root.display()))?;
        Ok(Self {
            root,
            release,
            image,
        })
    }
}

/// Returns the kernel of an earlier run, or downloads the newest one of the series.
pub(crate) fn download(dir: &Path) -> Result<Kernel> {
    let dir = dir.join("kernel");
    cache::get_or_create(&dir, SERIES, |unfinished| {
        let package = download_package(unfinished)?;
        run(command("dpkg")
            .arg("--extract")
            .arg(&package)
            .arg(unfinished))?;
        fs::remove_file(&package)
            .with_context(|| format!("cannot remove {}", package.display()))?;
        let kernel = Kernel::open(unfinished.to_owned())?;
        run(command("depmod")
            .arg("--basedir")
            .arg(unfinished)
            .arg(kernel.release()))
    })?;
    Kernel::open(dir.clone()).with_context(|| format!("remove {} and try again", dir.display()))
}

/// Downloads the newest available package and returns its path.
fn download_package(dir: &Path) -> Result<PathBuf> {
    let names = text(command("apt-cache").args(["pkgnames", SERIES]))?;
    let mut last_error = anyhow!(
        "apt finds no package {SERIES}*-amd64: run apt-get update, and on Debian 12 add \
         bookworm-security or bookworm-backports to the sources"
    );
    for package in newest_first(&names).into_iter().take(MAX_VERSIONS) {
        println!("vm: downloading {package}");
        let result = output(
            command("apt-get")
                .current_dir(dir)
                // As root, apt would switch to a user without write permission in this directory,
                // and print a warning.
                .args(["--quiet", "--option=APT::Sandbox::User=root", "download"])
                .arg(package),
        );
        match result {
            Ok(_) => return find_package(dir, package),
            Err(error) => last_error = error.context("download failed; run apt-get update"),
        }
    }
    Err(last_error)
}

fn find_package(dir: &Path, package: &str) -> Result<PathBuf> {
    let start = format!("{package}_");
    fs::read_dir(dir)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.starts_with(&start))
        })
        .with_context(|| format!("apt-get did not write {start}*.deb to {}", dir.display()))
}

/// Returns the plain amd64 kernels among package names, newest first.
///
/// Other flavours have a dash in the version part. The flavour `cloud` lacks the modules of the
/// SCSI target.
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

/// Returns the numbers in a version: 117 and 12 for `117+deb12`.
fn numbers(version: &str) -> Vec<u32> {
    version
        .split(|character: char| !character.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect()
}

/// Returns the files in the output of `modprobe --show-depends`, which also lists built-in modules.
fn insmod_files(plan: &str) -> Vec<PathBuf> {
    plan.lines()
        .filter_map(|line| line.strip_prefix("insmod "))
        .map(|file| PathBuf::from(file.trim_end()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_plain_kernel_comes_first() {
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
    fn builtin_modules_have_no_file() {
        let plan = "builtin virtio_pci\ninsmod /k/scsi_mod.ko.xz \ninsmod /k/sg.ko.xz \n";
        assert_eq!(
            insmod_files(plan),
            [Path::new("/k/scsi_mod.ko.xz"), Path::new("/k/sg.ko.xz")]
        );
    }
}
