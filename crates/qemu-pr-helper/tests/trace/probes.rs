//! Static probes: each event has one in the program, by its name, where tracers look for it.

use std::collections::BTreeSet;
use std::fs;

use crate::helper::{PROGRAM, printed};

/// The type of such a note.
const PROBE: u32 = 3;

/// A little of ELF, 64 bits, little-endian.
struct Elf(Vec<u8>);

impl Elf {
    fn number(&self, place: usize, size: usize) -> usize {
        let mut bytes = [0; 8];
        bytes[..size].copy_from_slice(&self.0[place..place + size]);
        usize::try_from(u64::from_le_bytes(bytes)).unwrap()
    }

    /// The text that ends with a zero byte.
    fn text(&self, place: usize) -> &str {
        let bytes = self.0[place..].split(|byte| *byte == 0).next().unwrap();
        str::from_utf8(bytes).unwrap()
    }

    /// Where a section's content begins and ends.
    fn section(&self, name: &str) -> Option<(usize, usize)> {
        let (headers, size) = (self.number(0x28, 8), self.number(0x3a, 2));
        let header = |number: usize| headers + number * size;
        let names = self.number(header(self.number(0x3e, 2)) + 0x18, 8);
        let mut all = (0..self.number(0x3c, 2)).map(header);
        let found = all.find(|header| self.text(names + self.number(*header, 4)) == name)?;
        let start = self.number(found + 0x18, 8);
        Some((start, start + self.number(found + 0x20, 8)))
    }

    /// Providers, names and arguments of all probes.
    fn probes(&self) -> Vec<[&str; 3]> {
        let Some((mut place, end)) = self.section(".note.stapsdt") else {
            return Vec::new();
        };
        let mut probes = Vec::new();
        while place < end {
            let (name, content) = (self.number(place, 4), self.number(place + 4, 4));
            assert_eq!(self.number(place + 8, 4), PROBE.try_into().unwrap());
            assert_eq!(self.text(place + 12), "stapsdt");
            let start = place + 12 + name.next_multiple_of(4);
            // Behind three addresses.
            let provider = self.text(start + 24);
            let name = self.text(start + 24 + provider.len() + 1);
            let arguments = self.text(start + 24 + provider.len() + 1 + name.len() + 1);
            probes.push([provider, name, arguments]);
            place = start + content.next_multiple_of(4);
        }
        probes
    }
}

#[test]
fn each_event_has_a_probe_with_its_arguments() {
    let elf = Elf(fs::read(PROGRAM).unwrap());
    let definitions = crate::definitions::Definitions::of_helper();
    let mut found = BTreeSet::new();
    for [provider, name, arguments] in elf.probes() {
        assert_eq!(provider, "qemu_pr_helper");
        let definition = definitions.find(name).unwrap();
        let count = arguments.split_whitespace().count();
        assert_eq!(count, definition.arguments.len(), "{name}: {arguments}");
        found.insert(name);
    }
    let names = printed("-Thelp");
    assert_eq!(found, names.lines().collect());
}
