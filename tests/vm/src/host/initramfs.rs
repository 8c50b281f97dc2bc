// SPDX-License-Identifier: MIT OR Apache-2.0

//! Creates the initramfs of both kinds of machine.
//!
//! The outer machine switches from it to a root file system. The nested guest stays in it.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::cpio::Archive;
use super::kernel::Kernel;
use super::root::RootFs;
use crate::guest::serial;
use pr_testkit::process::{command, find, output, text};

/// Environment of PID 1. `TERM` is `dumb`, because the console is written to a log.
const ENVIRONMENT: &str =
    "export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/ TERM=dumb";

/// Applets of busybox for the scripts here and for the commands of the scenarios.
const APPLETS: [&str; 15] = [
    "cat",
    "dd",
    "dmesg",
    "echo",
    "insmod",
    "ls",
    "mkdir",
    "mount",
    "poweroff",
    "rm",
    "sh",
    "sleep",
    "stty",
    "switch_root",
    "sync",
];

/// Mount options of the shared directories.
const SHARED: &str = "-t 9p -o trans=virtio,version=9p2000.L,ro,msize=512000,cache=loose";

/// Writes the initramfs of the outer machine. `first` is the command that it starts on the root
/// file system.
pub(crate) fn for_root(root: &RootFs, first: &[OsString], to: &Path) -> Result<()> {
    let mut archive = base()?;
    for dir in ["/lower", "/scratch", "/root"] {
        archive.dir(dir);
    }
    let modules = modules(
        &root.kernel,
        &["9pnet_virtio", "9p", "overlay"],
        &mut archive,
    )?;
    let script = format!(
        "{}{modules}{}exec switch_root /root {}\n",
        init_header(),
        mount_root(root)?,
        quote(first)?
    );
    archive.file("/init", script.as_bytes());
    write(archive, to)
}

/// Returns the script lines that mount the root directory read-only with a tmpfs overlay, and the
/// shared directories in it. Changes in the machine are lost when it ends.
fn mount_root(root: &RootFs) -> Result<String> {
    let mut lines = format!(
        "mount {SHARED} root /lower || poweroff -f\n\
         mount -t tmpfs scratch /scratch\n\
         mkdir /scratch/upper /scratch/work\n\
         mount -t overlay -o lowerdir=/lower,upperdir=/scratch/upper,workdir=/scratch/work \
         root /root || poweroff -f\n\
         for dir in proc sys dev; do\n\
         mkdir -p /root/$dir\n\
         mount -o move /$dir /root/$dir\n\
         done\n"
    );
    for (number, dir) in root.shares.iter().enumerate() {
        let dir = quote(&[Path::new("/root").join(dir.strip_prefix("/")?).into()])?;
        lines += &format!("mkdir -p {dir}\nmount {SHARED} share{number} {dir} || poweroff -f\n");
    }
    Ok(lines)
}

/// Writes the initramfs of the nested guest: programs of sg3-utils, and an init that executes
/// commands from its serial console.
pub(crate) fn for_nested_guest(kernel: &Kernel, to: &Path) -> Result<()> {
    let mut archive = base()?;
    let mut libraries = BTreeSet::new();
    for name in ["sg_persist", "sg_turs"] {
        let program = find(name).with_context(|| format!("{name} is not installed"))?;
        let output = text(command("ldd").arg(&program))?;
        libraries.extend(ldd_paths(&output).into_iter().map(str::to_owned));
        add(&mut archive, &format!("/usr/bin/{name}"), &program)?;
    }
    for library in &libraries {
        add(&mut archive, library, Path::new(library))?;
    }
    let modules = modules(kernel, &["virtio_scsi", "sd_mod", "sg"], &mut archive)?;
    let script = format!("{}{modules}{}", init_header(), serial::GUEST_SCRIPT);
    archive.file("/init", script.as_bytes());
    write(archive, to)
}

/// Returns an archive with busybox and the mount points of every init.
fn base() -> Result<Archive> {
    let mut archive = Archive::default();
    let busybox = find("busybox").context("busybox is not installed")?;
    add(&mut archive, "/bin/busybox", &busybox)?;
    for applet in APPLETS {
        archive.link(&format!("/bin/{applet}"), "busybox");
    }
    for dir in ["/dev", "/proc", "/sys"] {
        archive.dir(dir);
    }
    Ok(archive)
}

/// Returns the first lines of every init.
fn init_header() -> String {
    format!(
        "#!/bin/sh\n{ENVIRONMENT}\n\
         mount -t proc proc /proc\nmount -t sysfs sysfs /sys\nmount -t devtmpfs dev /dev\n"
    )
}

/// Adds decompressed modules and returns the script lines that load them.
fn modules(kernel: &Kernel, names: &[&str], archive: &mut Archive) -> Result<String> {
    let mut lines = String::new();
    for file in kernel.modules(names)? {
        let name = file
            .file_stem()
            .and_then(|name| name.to_str())
            .with_context(|| format!("{} is not the name of a module", file.display()))?;
        let content = output(command("xz").args(["--decompress", "--stdout"]).arg(&file))?;
        archive.file(&format!("/modules/{name}"), &content);
        lines += &format!("insmod /modules/{name}\n");
    }
    Ok(lines)
}

fn add(archive: &mut Archive, path: &str, source: &Path) -> Result<()> {
    let content = fs::read(source).with_context(|| format!("cannot read {}", source.display()))?;
    archive.file(path, &content);
    Ok(())
}

fn write(archive: Archive, to: &Path) -> Result<()> {
    fs::write(to, archive.finish()).with_context(|| format!("cannot write {}", to.display()))
}

/// Returns the paths in the output of ldd. The vdso has no path.
fn ldd_paths(output: &str) -> Vec<&str> {
    output
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
        .collect()
}

/// Quotes the words of a command for a shell.
fn quote(words: &[OsString]) -> Result<String> {
    let words: Option<Vec<_>> = words
        .iter()
        .map(|word| Some(format!("'{}'", word.to_str()?.replace('\'', r"'\''"))))
        .collect();
    Ok(words.context("a path is not UTF-8")?.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_found_in_both_line_formats() {
        let output = "\tlinux-vdso.so.1 (0x00007fee98b1d000)\n\
            \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007fee988dd000)\n\
            \t/lib64/ld-linux-x86-64.so.2 (0x00007fee98b1f000)\n";
        assert_eq!(
            ldd_paths(output),
            [
                "/lib/x86_64-linux-gnu/libc.so.6",
                "/lib64/ld-linux-x86-64.so.2"
            ]
        );
    }

    #[test]
    fn path_with_blanks_and_quotes_stays_one_word() {
        let words = ["/a b/it's".into(), "x".into()];
        assert_eq!(quote(&words).unwrap(), r"'/a b/it'\''s' 'x'");
    }
}
