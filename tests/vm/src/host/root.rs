// SPDX-License-Identifier: MIT OR Apache-2.0

//! Root file systems of the machines: the host's own, that of Debian 13, and that of the next
//! Debian release, which has the newest QEMU, libvirt, multipath-tools and kernel.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;

use super::cache;
use super::kernel::{self, Kernel};
use pr_testkit::build;
use pr_testkit::process::{command, find, text};

/// Packages with printed versions, and the names of their projects.
const PEERS: [(&str, &str); 5] = [
    ("qemu-system-x86", "QEMU"),
    ("libvirt-daemon", "libvirt"),
    ("multipath-tools", "multipath-tools"),
    ("sg3-utils", "sg3-utils"),
    ("systemd", "systemd"),
];

/// Shell commands that add a kernel to the new root directory `$1`, from the packages `PACKAGES`.
/// They are unpacked and not installed, because their scripts would create an initramfs and
/// configure a boot loader.
const ADD_KERNEL: &str = r#"chroot "$1" sh -ec '
cd /tmp
release=$(apt-cache depends linux-image-amd64 | sed -n "s/.*Depends: linux-image-//p")
apt-get --quiet --option=APT::Sandbox::User=root download \
    PACKAGES
for package in *.deb; do dpkg --extract $package /; done
rm *.deb
depmod $release
'"#;

/// Names of root file systems on the command line.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Root {
    /// The host's own root directory
    Host,
    /// Debian 13, which mmdebstrap builds once in the target directory
    Trixie,
    /// The newest packages: Debian forky, built likewise
    Forky,
}

impl Root {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Trixie => "trixie",
            Self::Forky => "forky",
        }
    }

    /// Returns the packages of the kernel `$release`. Since Linux 7, `linux-image-VERSION` is empty
    /// and depends on others.
    fn kernel_packages(self) -> &'static str {
        match self {
            Self::Host | Self::Trixie => "linux-image-$release",
            Self::Forky => "linux-binary-$release linux-modules-$release linux-base-$release",
        }
    }

    /// Returns the root file system, which is built first, with `packages`, if necessary.
    pub(crate) fn get(self, target_dir: &Path, packages: &[&str]) -> Result<RootFs> {
        let vm_dir = target_dir.join("vm");
        let (dir, kernel, shares) = match self {
            Self::Host => ("/".into(), kernel::download(&vm_dir)?, Vec::new()),
            Self::Trixie | Self::Forky => {
                let dir = vm_dir.join("roots").join(self.name());
                bootstrap(self.name(), packages, self.kernel_packages(), &dir)?;
                let kernel = Kernel::open(dir.clone())?;
                (dir, kernel, shares(target_dir)?)
            }
        };
        Ok(RootFs {
            name: self.name(),
            dir,
            kernel,
            shares,
            files: vm_dir.join(self.name()),
        })
    }
}

/// A root file system with its kernel.
pub(crate) struct RootFs {
    /// Name on the command line.
    pub(crate) name: &'static str,
    /// Directory on the host.
    pub(crate) dir: PathBuf,
    /// Kernel of the machines.
    pub(crate) kernel: Kernel,
    /// Directories of the host with programs and files for the scenarios. They have the same paths
    /// in the machine.
    pub(crate) shares: Vec<PathBuf>,
    /// Directory on the host for the files of its machines: initramfs, logs.
    pub(crate) files: PathBuf,
}

impl RootFs {
    /// Returns the version of an installed package.
    pub(crate) fn package_version(&self, package: &str) -> Result<String> {
        self.query_packages(&["--showformat=${Version}", package])
    }

    /// Returns the versions of the kernel and of installed packages, for the user.
    pub(crate) fn versions(&self) -> Result<String> {
        let packages = self.query_packages(&["--showformat=${Package} ${Version}\n"])?;
        let installed: BTreeMap<_, _> = packages
            .lines()
            .filter_map(|line| line.split_once(' '))
            .collect();
        let versions = PEERS.into_iter().filter_map(|(package, name)| {
            let version = installed.get(package)?;
            Some(format!("{name} {version}"))
        });
        let kernel = format!("Linux {}", self.kernel.release());
        let versions: Vec<_> = [kernel].into_iter().chain(versions).collect();
        Ok(versions.join(", "))
    }

    fn query_packages(&self, options: &[&str]) -> Result<String> {
        text(
            command("dpkg-query")
                .arg(format!("--admindir={}/var/lib/dpkg", self.dir.display()))
                .arg("--show")
                .args(options),
        )
    }
}

/// Builds the root directory of a Debian release.
fn bootstrap(release: &str, packages: &[&str], kernel: &str, dir: &Path) -> Result<()> {
    let packages = packages.join(",");
    let add_kernel = ADD_KERNEL.replace("PACKAGES", kernel);
    let recipe = format!("{release}\n{packages}\n{add_kernel}\n");
    cache::get_or_create(dir, &recipe, |unfinished| {
        find("mmdebstrap").context("mmdebstrap is not installed: apt-get install mmdebstrap")?;
        let mirror = mirror()?;
        println!("vm: building a root directory of Debian {release} from {mirror}");
        let status = command("mmdebstrap")
            .args(["--quiet", "--mode=root", "--variant=minbase"])
            // A mirror can be some weeks old.
            .arg("--aptopt=Acquire::Check-Valid-Until \"false\"")
            .arg(format!("--include={packages}"))
            .arg(format!("--customize-hook={add_kernel}"))
            .arg(release)
            .arg(unfinished)
            .arg(format!("deb {mirror} {release} main"))
            .status()
            .context("cannot start mmdebstrap")?;
        ensure!(
            status.success(),
            "mmdebstrap failed with {status}; its messages are above"
        );
        Ok(())
    })
}

/// Returns the mirror in the host's package sources.
fn mirror() -> Result<String> {
    let uris = text(command("apt-get").args([
        "indextargets",
        "--format=$(REPO_URI)",
        "Created-By: Packages",
        "Label: Debian",
        "Component: main",
    ]))?;
    let first = uris.lines().next();
    let first = first.context("apt has no package list of Debian: run apt-get update")?;
    Ok(first.to_owned())
}

/// Returns the workspace and, if it is elsewhere, the target directory.
fn shares(target_dir: &Path) -> Result<Vec<PathBuf>> {
    let workspace = build::root();
    let workspace = workspace
        .canonicalize()
        .with_context(|| format!("cannot find {}", workspace.display()))?;
    let mut shares = vec![workspace];
    if !target_dir.starts_with(&shares[0]) {
        shares.push(target_dir.to_owned());
    }
    Ok(shares)
}
