//! What the two kinds of machine find as their first root folder.
//!
//! The outer machine only passes through it on the way to the host's own root folder. The nested
//! guest lives in it.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::cpio::Archive;
use super::kernel::Kernel;
use crate::guest::serial;
use crate::process::{command, find, output, text};

/// What PID 1 needs in the environment; `dumb` because a log of the console is kept.
const ENVIRONMENT: &str =
    "export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/ TERM=dumb";

/// Applets of busybox that the scripts here use, and a few for the commands of the scenarios.
const APPLETS: [&str; 14] = [
    "cat",
    "dd",
    "dmesg",
    "echo",
    "insmod",
    "ls",
    "mkdir",
    "mount",
    "poweroff",
    "sh",
    "sleep",
    "stty",
    "switch_root",
    "sync",
];

/// The host's root folder, read-only, with a layer of memory above it. Whatever is installed or
/// built outside runs inside, and nothing that is done inside lasts.
const TO_HOST_ROOT: &str = "\
mount -t 9p -o trans=virtio,version=9p2000.L,ro,msize=512000,cache=loose root /host || poweroff -f
mount -t tmpfs scratch /scratch
mkdir /scratch/upper /scratch/work
mount -t overlay -o lowerdir=/host,upperdir=/scratch/upper,workdir=/scratch/work root /root \
|| poweroff -f
for folder in proc sys dev; do
    mkdir -p /root/$folder
    mount -o move /$folder /root/$folder
done
";

/// Writes the outer machine's archive; `first` is the command that it starts on the host's root.
pub(crate) fn for_host_root(kernel: &Kernel, first: &[OsString], to: &Path) -> Result<()> {
    let mut archive = base()?;
    for folder in ["/host", "/scratch", "/root"] {
        archive.folder(folder);
    }
    let modules = modules(kernel, &["9pnet_virtio", "9p", "overlay"], &mut archive)?;
    let first = quoted(first)?;
    let script = format!(
        "{}{modules}{TO_HOST_ROOT}exec switch_root /root {first}\n",
        start()
    );
    archive.file("/init", script.as_bytes());
    write(archive, to)
}

/// Writes the nested guest's archive: `sg_persist`, and an init that obeys its serial console.
pub(crate) fn for_nested_guest(kernel: &Kernel, to: &Path) -> Result<()> {
    let mut archive = base()?;
    let program = find("sg_persist").context("there is no sg_persist")?;
    let libraries = text(command("ldd").arg(&program))?;
    for library in libraries_of(&libraries) {
        add(&mut archive, library, Path::new(library))?;
    }
    add(&mut archive, "/usr/bin/sg_persist", &program)?;
    let modules = modules(kernel, &["virtio_scsi", "sd_mod", "sg"], &mut archive)?;
    let script = format!("{}{modules}{}", start(), serial::GUEST_SCRIPT);
    archive.file("/init", script.as_bytes());
    write(archive, to)
}

/// Busybox and the folders that every init mounts something on.
fn base() -> Result<Archive> {
    let mut archive = Archive::default();
    let busybox = find("busybox").context("there is no busybox")?;
    add(&mut archive, "/bin/busybox", &busybox)?;
    for applet in APPLETS {
        archive.link(&format!("/bin/{applet}"), "busybox");
    }
    for folder in ["/dev", "/proc", "/sys"] {
        archive.folder(folder);
    }
    Ok(archive)
}

/// The first lines of every init.
fn start() -> String {
    format!(
        "#!/bin/sh\n{ENVIRONMENT}\n\
         mount -t proc proc /proc\nmount -t sysfs sysfs /sys\nmount -t devtmpfs dev /dev\n"
    )
}

/// Adds modules, unpacked, and returns the lines of a script that load them.
fn modules(kernel: &Kernel, names: &[&str], archive: &mut Archive) -> Result<String> {
    let mut lines = String::new();
    for file in kernel.modules(names)? {
        let name = file
            .file_stem()
            .and_then(|name| name.to_str())
            .with_context(|| format!("{} is an odd name for a module", file.display()))?;
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

/// The paths in ldd's answer. The kernel's own library (vdso) has none.
fn libraries_of(answer: &str) -> Vec<&str> {
    answer
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
        .collect()
}

/// The words of a command as a shell takes them.
fn quoted(words: &[OsString]) -> Result<String> {
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
    fn libraries_are_found_in_both_kinds_of_line() {
        let answer = "\tlinux-vdso.so.1 (0x00007fee98b1d000)\n\
            \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007fee988dd000)\n\
            \t/lib64/ld-linux-x86-64.so.2 (0x00007fee98b1f000)\n";
        assert_eq!(
            libraries_of(answer),
            [
                "/lib/x86_64-linux-gnu/libc.so.6",
                "/lib64/ld-linux-x86-64.so.2"
            ]
        );
    }

    #[test]
    fn a_path_with_blanks_and_quotes_stays_one_word() {
        let words = ["/a b/it's".into(), "x".into()];
        assert_eq!(quoted(&words).unwrap(), r"'/a b/it'\''s' 'x'");
    }
}
