// SPDX-License-Identifier: MIT OR Apache-2.0

//! Writes cpio archives in the format of the kernel's initramfs.
//!
//! Source: `Documentation/driver-api/early-userspace/buffer-format.rst` of the kernel ("newc").

use std::collections::BTreeSet;
use std::path::Path;

const DIRECTORY_MODE: u32 = 0o040_755;
const PROGRAM_MODE: u32 = 0o100_755;
const LINK_MODE: u32 = 0o120_777;

/// Name of the last entry of every archive.
const TRAILER: &str = "TRAILER!!!";

/// An archive under construction. Paths are absolute; parent directories are added automatically.
#[derive(Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
    dirs: BTreeSet<String>,
}

impl Archive {
    /// Adds an empty directory, unless it exists.
    pub(crate) fn dir(&mut self, path: &str) {
        let name = path.trim_start_matches('/');
        if name.is_empty() || self.dirs.contains(name) {
            return;
        }
        self.parents(path);
        self.entry(name, DIRECTORY_MODE, &[]);
        self.dirs.insert(name.to_owned());
    }

    /// Adds an executable file; the archives need no other mode.
    pub(crate) fn file(&mut self, path: &str, content: &[u8]) {
        self.parents(path);
        self.entry(path.trim_start_matches('/'), PROGRAM_MODE, content);
    }

    /// Adds a symbolic link.
    pub(crate) fn link(&mut self, path: &str, target: &str) {
        self.parents(path);
        self.entry(path.trim_start_matches('/'), LINK_MODE, target.as_bytes());
    }

    /// Completes the archive.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entry(TRAILER, 0, &[]);
        self.bytes
    }

    fn parents(&mut self, path: &str) {
        if let Some(parent) = Path::new(path).parent().and_then(Path::to_str) {
            self.dir(parent);
        }
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let links = if mode == DIRECTORY_MODE { 2 } else { 1 };
        let fields = [
            self.entries, // inode
            mode,
            0, // user
            0, // group
            links,
            0, // time
            field(content.len()),
            0, // device, major and minor
            0,
            0, // device that a node stands for, major and minor
            0,
            field(name.len() + 1),
            0, // checksum, not used in this variant
        ];
        self.bytes.extend(b"070701");
        for value in fields {
            self.bytes.extend(format!("{value:08x}").bytes());
        }
        self.bytes.extend(name.bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    /// Pads the header with its name, or the content, to a multiple of four bytes.
    fn pad(&mut self) {
        let padded = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(padded, 0);
    }
}

fn field(length: usize) -> u32 {
    u32::try_from(length).expect("no file in an initramfs is 4 GiB long")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_match_the_format() {
        let mut archive = Archive::default();
        archive.file("/init", b"hello");
        let bytes = archive.finish();
        let header = "070701\
            00000001000081ed00000000000000000000000100000000\
            0000000500000000000000000000000000000000\
            0000000500000000";
        assert_eq!(&bytes[..110], header.as_bytes());
        // Name and content start at multiples of four. The length of a name includes its
        // terminating zero.
        assert_eq!(&bytes[110..124], b"init\0\0hello\0\0\0");
        assert_eq!(&bytes[124..130], b"070701");
        assert!(bytes.ends_with(b"TRAILER!!!\0\0\0\0"));
    }

    #[test]
    fn parent_directories_come_first_and_once() {
        let mut archive = Archive::default();
        archive.file("/a/b/one", b"");
        archive.link("/a/b/two", "one");
        archive.dir("/a");
        let text = String::from_utf8(archive.finish()).unwrap();
        let names: Vec<_> = text
            .split("070701")
            .skip(1)
            .map(|entry| entry[104..].split('\0').next().unwrap())
            .collect();
        assert_eq!(names, ["a", "a/b", "a/b/one", "a/b/two", TRAILER]);
    }
}
