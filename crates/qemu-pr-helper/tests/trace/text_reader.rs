// SPDX-License-Identifier: MIT OR Apache-2.0

//! Reader of the lines of the text backends. It rejects lines that an event cannot print.

use std::collections::BTreeMap;

use crate::binary_reader::{Record, Value};
use crate::definitions::{Definitions, Kind, Piece};
use crate::event_counts::EventCounts;

/// Content of a line.
pub(crate) enum Line {
    Event(Record),
    /// Drop marker with the number of missing events.
    Dropped(u64),
}

/// Reads a line `name text`. Printing the result must give the same line again.
pub(crate) fn read(line: &str, definitions: &Definitions) -> Result<Line, String> {
    let dropped = line.strip_prefix("dropped ");
    if let Some(count) = dropped.and_then(|rest| rest.strip_suffix(" events")) {
        return count.parse().map(Line::Dropped).map_err(|_| line.into());
    }
    let (name, text) = line.split_once(' ').ok_or_else(|| line.to_owned())?;
    let definition = definitions.find(name).ok_or_else(|| line.to_owned())?;
    let mut values = BTreeMap::new();
    let mut arguments = definition.arguments.iter();
    let mut rest = text;
    let mut printed_again = String::new();
    let mut pieces = definition.format.iter().peekable();
    while let Some(piece) = pieces.next() {
        if let Piece::Literal(literal) = piece {
            rest = rest.strip_prefix(literal.as_str()).ok_or(line)?;
            printed_again += literal;
            continue;
        }
        // The value ends at the next literal.
        let end = match pieces.peek() {
            Some(Piece::Literal(next)) if !next.is_empty() => rest.find(next).ok_or(line)?,
            _ => rest.len(),
        };
        let (printed, after) = rest.split_at(end);
        rest = after;
        let (argument, kind) = arguments.next().unwrap();
        let value = value(piece, *kind, printed).ok_or(line)?;
        printed_again += &print(piece, *kind, &value);
        values.insert(argument.clone(), value);
    }
    if !rest.is_empty() || printed_again != text {
        return Err(format!("{line}: read as {printed_again}"));
    }
    Ok(Line::Event(Record {
        name: name.to_owned(),
        nanoseconds: 0,
        process: 0,
        values,
    }))
}

fn value(piece: &Piece, kind: Kind, printed: &str) -> Option<Value> {
    let number = match piece {
        Piece::Text => return Some(Value::Text(printed.to_owned())),
        Piece::Pointer => u64::from_str_radix(printed.strip_prefix("0x")?, 16).ok()?,
        Piece::Hexadecimal(_) => u64::from_str_radix(printed, 16).ok()?,
        _ if kind == Kind::Signed => printed.parse::<i64>().ok()?.cast_unsigned(),
        _ => printed.parse().ok()?,
    };
    kind.contains(number).then_some(Value::Number(number))
}

/// Prints a value like printf.
fn print(piece: &Piece, kind: Kind, value: &Value) -> String {
    match (piece, value) {
        (_, Value::Text(text)) => text.clone(),
        (Piece::Pointer, Value::Number(number)) => format!("{number:#x}"),
        (Piece::Hexadecimal(digits), Value::Number(number)) => format!("{number:0digits$x}"),
        (_, Value::Number(number)) if kind == Kind::Signed => number.cast_signed().to_string(),
        (_, Value::Number(number)) => number.to_string(),
    }
}

/// Reads all lines, except log lines of the helper.
pub(crate) fn read_all(text: &str, definitions: &Definitions) -> (Vec<Record>, EventCounts) {
    let mut records = Vec::new();
    let mut counts = EventCounts::default();
    assert!(text.is_empty() || text.ends_with('\n'), "incomplete line");
    let lines = text.lines();
    for line in lines.filter(|line| !line.starts_with("qemu-pr-helper: ")) {
        match read(line, definitions).unwrap() {
            Line::Event(record) => {
                counts.add(&record.name);
                records.push(record);
            }
            Line::Dropped(count) => counts.dropped += count,
        }
    }
    (records, counts)
}

#[test]
fn lines_that_no_event_prints_are_rejected() {
    let definitions =
        "one(int a, uint8_t b, const char *c) \"a=%d b=0x%02x c='%s'\"\ntwo(void *d) \"%p\"";
    let definitions = Definitions::parse(definitions).unwrap();
    let Ok(Line::Event(record)) = read("one a=-5 b=0x0f c='x y'", &definitions) else {
        panic!("valid line");
    };
    assert_eq!(record.number("a").cast_signed(), -5);
    assert_eq!(record.number("b"), 15);
    assert_eq!(record.text("c"), "x y");
    assert!(matches!(
        read("dropped 7 events", &definitions),
        Ok(Line::Dropped(7))
    ));
    for line in [
        "",
        "one",
        "three a=1",
        "one a=05 b=0x0f c=''",
        "one a=5 b=0xf c=''",
        "one a=5 b=0x100 c=''",
        "one a=5 b=0x0f c='",
        "one a=5 b=0x0f c='' ",
        "two 7",
        "dropped x events",
    ] {
        assert!(read(line, &definitions).is_err(), "{line}");
    }
}
