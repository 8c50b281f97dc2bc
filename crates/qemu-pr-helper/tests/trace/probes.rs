// SPDX-License-Identifier: MIT OR Apache-2.0

//! Static probes: the binary has a probe for each event.

use std::collections::BTreeSet;
use std::fs;

use crate::helper::{HELPER, helper_output};

/// Type of an ELF note with a probe.
const NOTE_STAPSDT: u32 = 3;

/// An ELF file with 64-bit little-endian fields.
struct Elf(Vec<u8>);

impl Elf {
    fn number(&self, offset: usize, size: usize) -> usize {
        let mut bytes = [0; 8];
        bytes[..size].copy_from_slice(&self.0[offset..offset + size]);
        usize::try_from(u64::from_le_bytes(bytes)).unwrap()
    }

    /// Reads a NUL-terminated text.
    fn text(&self, offset: usize) -> &str {
        let bytes = self.0[offset..].split(|byte| *byte == 0).next().unwrap();
        str::from_utf8(bytes).unwrap()
    }

    /// Returns the offsets of the start and the end of a section.
    fn section(&self, name: &str) -> Option<(usize, usize)> {
        let (headers, size) = (self.number(0x28, 8), self.number(0x3a, 2));
        let header = |number: usize| headers + number * size;
        let names = self.number(header(self.number(0x3e, 2)) + 0x18, 8);
        let mut all = (0..self.number(0x3c, 2)).map(header);
        let found = all.find(|header| self.text(names + self.number(*header, 4)) == name)?;
        let start = self.number(found + 0x18, 8);
        Some((start, start + self.number(found + 0x20, 8)))
    }

    /// Returns provider, name and arguments of each probe.
    fn probes(&self) -> Vec<[&str; 3]> {
        let Some((mut offset, end)) = self.section(".note.stapsdt") else {
            return Vec::new();
        };
        let mut probes = Vec::new();
        while offset < end {
            let (name, content) = (self.number(offset, 4), self.number(offset + 4, 4));
            assert_eq!(
                self.number(offset + 8, 4),
                usize::try_from(NOTE_STAPSDT).unwrap()
            );
            assert_eq!(self.text(offset + 12), "stapsdt");
            let start = offset + 12 + name.next_multiple_of(4);
            // Three addresses precede the texts.
            let provider = self.text(start + 24);
            let name = self.text(start + 24 + provider.len() + 1);
            let arguments = self.text(start + 24 + provider.len() + 1 + name.len() + 1);
            probes.push([provider, name, arguments]);
            offset = start + content.next_multiple_of(4);
        }
        probes
    }
}

#[test]
fn probe_of_each_event_has_its_arguments() {
    let elf = Elf(fs::read(HELPER).unwrap());
    let definitions = crate::definitions::Definitions::from_helper();
    let mut found = BTreeSet::new();
    for [provider, name, arguments] in elf.probes() {
        assert_eq!(provider, "qemu_pr_helper");
        let definition = definitions.find(name).unwrap();
        let count = arguments.split_whitespace().count();
        assert_eq!(count, definition.arguments.len(), "{name}: {arguments}");
        found.insert(name);
    }
    let names = helper_output("-Thelp");
    assert_eq!(found, names.lines().collect());
}
