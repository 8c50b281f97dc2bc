// SPDX-License-Identifier: MIT OR Apache-2.0

//! Parser of the output of `--trace-events`, which has the syntax of `docs/devel/tracing.rst`:
//! `name(type argument, …) "format"`.

use std::collections::BTreeMap;

use crate::helper::helper_output;

/// Type of an argument in C.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Unsigned number with this number of bits.
    Unsigned(u32),
    /// `int`.
    Signed,
    Pointer,
    Text,
}

impl Kind {
    /// Returns whether a number in a record is in the range of the type.
    pub(crate) fn contains(self, number: u64) -> bool {
        match self {
            Self::Unsigned(64) | Self::Pointer => true,
            Self::Unsigned(bits) => number >> bits == 0,
            Self::Signed => i32::try_from(number.cast_signed()).is_ok(),
            Self::Text => false,
        }
    }
}

/// Part of a format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Literal(String),
    Decimal,
    /// Hexadecimal with this minimum number of digits.
    Hexadecimal(usize),
    Pointer,
    Text,
}

/// Definition of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Definition {
    pub(crate) name: String,
    /// Names and types of the arguments.
    pub(crate) arguments: Vec<(String, Kind)>,
    pub(crate) format: Vec<Piece>,
}

/// Definitions of all events, in order.
pub(crate) struct Definitions(pub(crate) Vec<Definition>);

impl Definitions {
    /// Returns the definitions that the helper prints.
    pub(crate) fn from_helper() -> Self {
        Self::parse(&helper_output("--trace-events")).unwrap()
    }

    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let lines: Result<Vec<_>, _> = text.lines().map(definition).collect();
        let lines = lines?;
        let names: BTreeMap<_, _> = lines.iter().map(|line| (&line.name, line)).collect();
        if names.len() != lines.len() {
            return Err("duplicate name".into());
        }
        Ok(Self(lines))
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Definition> {
        self.0.iter().find(|definition| definition.name == name)
    }
}

fn definition(line: &str) -> Result<Definition, String> {
    let parse = || {
        let (name, rest) = line.split_once('(')?;
        let (arguments, format) = rest.split_once(") ")?;
        let arguments = match arguments {
            "void" => Some(Vec::new()),
            arguments => arguments.split(", ").map(argument).collect(),
        };
        let is_name = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
        let definition = Definition {
            name: name.to_owned(),
            arguments: arguments?,
            format: pieces(&unquote(format)?)?,
        };
        let is_valid =
            !name.is_empty() && name.bytes().all(is_name) && definition.has_valid_format();
        is_valid.then_some(definition)
    };
    parse().ok_or_else(|| format!("malformed definition: {line}"))
}

impl Definition {
    /// Returns whether the conversions in the format fit the arguments.
    fn has_valid_format(&self) -> bool {
        let conversions = self.format.iter();
        let conversions: Vec<_> = conversions
            .filter(|piece| !matches!(piece, Piece::Literal(_)))
            .collect();
        let fits = |(piece, (_, kind)): (&&Piece, &(String, Kind))| match piece {
            Piece::Decimal => matches!(kind, Kind::Unsigned(_) | Kind::Signed),
            Piece::Hexadecimal(_) => matches!(kind, Kind::Unsigned(_)),
            Piece::Pointer => *kind == Kind::Pointer,
            Piece::Text => *kind == Kind::Text,
            Piece::Literal(_) => false,
        };
        conversions.len() == self.arguments.len()
            && conversions.iter().zip(&self.arguments).all(fits)
    }
}

fn argument(text: &str) -> Option<(String, Kind)> {
    const KINDS: [(&str, Kind); 7] = [
        ("uint8_t ", Kind::Unsigned(8)),
        ("uint16_t ", Kind::Unsigned(16)),
        ("uint32_t ", Kind::Unsigned(32)),
        ("uint64_t ", Kind::Unsigned(64)),
        ("int ", Kind::Signed),
        ("void *", Kind::Pointer),
        ("const char *", Kind::Text),
    ];
    let (c_type, kind) = KINDS
        .iter()
        .find(|(c_type, _)| text.starts_with(c_type))
        .copied()?;
    let name = text.strip_prefix(c_type)?;
    let is_name = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    let is_valid = !name.is_empty() && name.bytes().all(is_name);
    is_valid.then(|| (name.to_owned(), kind))
}

/// Joins string literals and the macros of `<inttypes.h>` between them into one format.
fn unquote(format: &str) -> Option<String> {
    let mut text = String::new();
    for (index, part) in format.split('"').enumerate() {
        match (index % 2, part) {
            // The odd parts are between quotation marks.
            (1, part) => text += part,
            (_, "") => {}
            (_, "PRIu64") => text += "lu",
            (_, "PRIx64") => text += "lx",
            _ => return None,
        }
    }
    format.starts_with('"').then_some(text)
}

fn pieces(format: &str) -> Option<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut parts = format.split('%');
    let mut literal = parts.next()?.to_owned();
    for part in parts {
        let end = part.find(|letter: char| "duxps".contains(letter))? + 1;
        let (conversion, rest) = part.split_at(end);
        let piece = match conversion {
            "d" | "u" | "lu" => Piece::Decimal,
            "x" | "lx" => Piece::Hexadecimal(1),
            "p" => Piece::Pointer,
            "s" => Piece::Text,
            padded => {
                let width = padded.strip_prefix('0')?.strip_suffix('x')?;
                Piece::Hexadecimal(width.parse().ok()?)
            }
        };
        pieces.push(Piece::Literal(std::mem::take(&mut literal)));
        pieces.push(piece);
        rest.clone_into(&mut literal);
    }
    pieces.push(Piece::Literal(literal));
    Some(pieces)
}

#[test]
fn definition_is_parsed() {
    let line = "an_event(void *ioc, uint64_t key, const char *text, int fd) \
                \"ioc=%p key=0x%\"PRIx64\" text='%s' fd=%d\"";
    let Definitions(definitions) = Definitions::parse(line).unwrap();
    let literal = |text: &str| Piece::Literal(text.into());
    let expected = Definition {
        name: "an_event".into(),
        arguments: vec![
            ("ioc".into(), Kind::Pointer),
            ("key".into(), Kind::Unsigned(64)),
            ("text".into(), Kind::Text),
            ("fd".into(), Kind::Signed),
        ],
        format: vec![
            literal("ioc="),
            Piece::Pointer,
            literal(" key=0x"),
            Piece::Hexadecimal(1),
            literal(" text='"),
            Piece::Text,
            literal("' fd="),
            Piece::Decimal,
            literal(""),
        ],
    };
    assert_eq!(definitions, [expected]);
}

#[test]
fn malformed_definition_is_an_error() {
    for line in [
        "name",
        "name(int a)",
        "name(int) \"%d\"",
        "name(int a) \"\"",
        "name(int a) \"%s\"",
        "name(char a) \"%d\"",
        "name(int a) \"%d\"PRIz64",
        "name(int a) %d",
        "Name(int a) \"%d\"",
        "name(void) \"\"\nname(void) \"\"",
    ] {
        assert!(Definitions::parse(line).is_err(), "{line}");
    }
}

#[test]
fn definitions_have_the_names_of_the_list() {
    let Definitions(definitions) = Definitions::from_helper();
    let names: String = definitions
        .iter()
        .map(|definition| format!("{}\n", definition.name))
        .collect();
    assert_eq!(names, helper_output("-Thelp"));
}
