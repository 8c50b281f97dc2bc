// SPDX-License-Identifier: MIT OR Apache-2.0

//! Reader of binary traces (format "simple", version 4). It rejects every deviation from the
//! format, and was written from the description of the format, not from the code that writes it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::definitions::{Definition, Definitions, Kind};

/// Value of an argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Number(u64),
    Text(String),
}

/// Record of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) name: String,
    pub(crate) nanoseconds: u64,
    pub(crate) process: u32,
    pub(crate) values: BTreeMap<String, Value>,
}

impl Record {
    pub(crate) fn number(&self, name: &str) -> u64 {
        match self.values.get(name) {
            Some(Value::Number(number)) => *number,
            other => panic!("{name} is {other:?} in {self:?}"),
        }
    }

    pub(crate) fn text(&self, name: &str) -> &str {
        match self.values.get(name) {
            Some(Value::Text(text)) => text,
            other => panic!("{name} is {other:?} in {self:?}"),
        }
    }
}

/// Part of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    Event(Record),
    /// Drop marker: `count` events are missing here.
    Dropped {
        process: u32,
        count: u64,
    },
}

const MAPPING: u64 = 0;
const RECORD: u64 = 1;
const DROPPED: u64 = 0xffff_ffff_ffff_fffe;
/// Length of a record without its type and its arguments.
const HEADER_LEN: usize = 8 + 8 + 4 + 4;
const MAX_TEXT_LEN: usize = 512;

/// Reads a trace that the helper has written to a file.
pub(crate) fn read_file(path: &Path) -> Vec<Item> {
    let bytes = fs::read(path).unwrap();
    read(&bytes, &Definitions::from_helper()).unwrap()
}

/// Reads a complete trace.
pub(crate) fn read(bytes: &[u8], definitions: &Definitions) -> Result<Vec<Item>, String> {
    let mut rest = Bytes(bytes);
    for word in [0xffff_ffff_ffff_ffff, 0xf2b1_77cb_0aa4_29b4, 4] {
        if rest.u64()? != word {
            return Err("no header".into());
        }
    }
    let mut mappings = BTreeMap::new();
    let mut items = Vec::new();
    while !rest.0.is_empty() {
        match rest.u64()? {
            MAPPING if items.is_empty() => {
                let id = rest.u64()?;
                let name = rest.text()?;
                let definition = definitions
                    .find(&name)
                    .ok_or("mapping of an unknown event")?;
                if mappings.values().any(|known| *known == definition)
                    || mappings.insert(id, definition).is_some()
                {
                    return Err(format!("second mapping of {id} or {name}"));
                }
            }
            MAPPING => return Err("mapping after a record".into()),
            RECORD => items.push(record(&mut rest, &mappings)?),
            other => return Err(format!("record of type {other:#x}")),
        }
    }
    if mappings.len() == definitions.0.len() {
        Ok(items)
    } else {
        Err("missing mapping".into())
    }
}

fn record(rest: &mut Bytes<'_>, mappings: &BTreeMap<u64, &Definition>) -> Result<Item, String> {
    let id = rest.u64()?;
    let nanoseconds = rest.u64()?;
    let length = usize::try_from(rest.u32()?).unwrap();
    let process = rest.u32()?;
    let length = length.checked_sub(HEADER_LEN).ok_or("length below 24")?;
    let mut arguments = Bytes(rest.take(length)?);
    let item = if id == DROPPED {
        let count = arguments.u64()?;
        if count == 0 {
            return Err("empty drop marker".into());
        }
        Item::Dropped { process, count }
    } else {
        let definition = mappings.get(&id).ok_or("unknown event")?;
        Item::Event(Record {
            name: definition.name.clone(),
            nanoseconds,
            process,
            values: values(&mut arguments, definition)?,
        })
    };
    match arguments.0 {
        [] => Ok(item),
        more => Err(format!("{} bytes after the arguments", more.len())),
    }
}

fn values(
    arguments: &mut Bytes<'_>,
    definition: &Definition,
) -> Result<BTreeMap<String, Value>, String> {
    let values = definition.arguments.iter().map(|(name, kind)| {
        let value = if *kind == Kind::Text {
            Value::Text(arguments.text()?)
        } else {
            let number = arguments.u64()?;
            if !kind.contains(number) {
                return Err(format!("{number:#x} as {name}"));
            }
            Value::Number(number)
        };
        Ok((name.clone(), value))
    });
    values.collect()
}

/// Bytes that are not read yet.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self
            .0
            .split_at_checked(length)
            .ok_or_else(|| format!("{} bytes are left, not {length}", self.0.len()))?;
        self.0 = rest;
        Ok(taken)
    }

    fn u64(&mut self) -> Result<u64, String> {
        Ok(u64::from_ne_bytes(self.take(8)?.try_into().unwrap()))
    }

    fn u32(&mut self) -> Result<u32, String> {
        Ok(u32::from_ne_bytes(self.take(4)?.try_into().unwrap()))
    }

    fn text(&mut self) -> Result<String, String> {
        let length = usize::try_from(self.u32()?).unwrap();
        if length > MAX_TEXT_LEN {
            return Err(format!("text of {length} bytes"));
        }
        let text = self.take(length)?.to_vec();
        String::from_utf8(text).map_err(|error| error.to_string())
    }
}

/// Tests of the reader itself.
mod tests {
    use super::*;

    fn definitions() -> Definitions {
        Definitions::parse("one(int a) \"%d\"\ntwo(const char *b) \"%s\"").unwrap()
    }

    fn words(words: &[u64]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    fn mapping(id: u64, name: &str) -> Vec<u8> {
        let length = u32::try_from(name.len()).unwrap();
        [&words(&[0, id])[..], &length.to_ne_bytes(), name.as_bytes()].concat()
    }

    fn event(id: u64, length: u32, arguments: &[u8]) -> Vec<u8> {
        [
            &words(&[1, id, 77])[..],
            &length.to_ne_bytes(),
            &9_u32.to_ne_bytes(),
            arguments,
        ]
        .concat()
    }

    fn start() -> Vec<u8> {
        let header = words(&[u64::MAX, 0xf2b1_77cb_0aa4_29b4, 4]);
        [header, mapping(0, "one"), mapping(1, "two")].concat()
    }

    #[test]
    fn valid_trace_is_read() {
        let bytes = [
            start(),
            event(0, 32, &words(&[(-5_i64).cast_unsigned()])),
            event(DROPPED, 32, &words(&[3])),
            event(1, 30, &[&2_u32.to_ne_bytes()[..], b"hi"].concat()),
        ];
        let items = read(&bytes.concat(), &definitions()).unwrap();
        let [Item::Event(one), dropped, Item::Event(two)] = items.as_slice() else {
            panic!("{items:?}");
        };
        assert_eq!(
            (one.name.as_str(), one.nanoseconds, one.process),
            ("one", 77, 9)
        );
        assert_eq!(one.number("a").cast_signed(), -5);
        let (process, count) = (9, 3);
        assert_eq!(*dropped, Item::Dropped { process, count });
        assert_eq!((two.name.as_str(), two.text("b")), ("two", "hi"));
    }

    #[test]
    fn deviation_from_the_format_is_rejected() {
        let valid = event(0, 32, &words(&[5]));
        let header = words(&[u64::MAX, 0xf2b1_77cb_0aa4_29b4, 4]);
        let with = |more: &[u8]| [&start(), more].concat();
        for (bytes, reason) in [
            (Vec::new(), "0 bytes are left"),
            (words(&[u64::MAX, 0xf2b1_77cb_0aa4_29b4, 3]), "no header"),
            (words(&[u64::MAX, 0, 4]), "no header"),
            (
                [&header[..], &mapping(0, "one")].concat(),
                "missing mapping",
            ),
            (with(&mapping(2, "one")), "second mapping"),
            (with(&mapping(1, "two")), "second mapping"),
            (with(&mapping(2, "three")), "mapping of an unknown event"),
            (
                with(&[&valid[..], &mapping(2, "two")].concat()),
                "after a record",
            ),
            (with(&event(2, 32, &words(&[5]))), "unknown event"),
            (with(&event(0, 40, &words(&[5, 5]))), "8 bytes after"),
            (with(&event(0, 24, &[])), "0 bytes are left"),
            (with(&event(0, 23, &[])), "below 24"),
            (with(&event(0, 32, &words(&[1 << 31]))), "0x80000000 as a"),
            (with(&event(DROPPED, 32, &words(&[0]))), "empty drop marker"),
            (with(&words(&[2])), "type 0x2"),
            (with(&[&valid[..], &[0]].concat()), "1 bytes are left"),
            (with(&valid[..39]), "7 bytes are left"),
        ] {
            let error = read(&bytes, &definitions()).unwrap_err();
            assert!(error.contains(reason), "{error}, not {reason}");
        }
        assert_eq!(read(&with(&valid), &definitions()).unwrap().len(), 1);
    }
}
