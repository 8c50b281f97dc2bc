//! The table of events in the syntax of QEMU's `trace-events` files (`docs/devel/tracing.rst`), which tell
//! `simpletrace.py` what the arguments of a binary trace's records are.

use super::Event;
use super::argument::Parameter;
use super::events::ALL;

/// All events, a line each: `name(type argument, …) "format"`.
#[must_use]
pub fn text() -> String {
    ALL.iter().map(|event| line(event) + "\n").collect()
}

fn line(event: &Event) -> String {
    let parameters = event.parameters.iter();
    let parameters: Vec<_> = parameters.map(declaration).collect();
    let parameters = match parameters.as_slice() {
        [] => "void".to_owned(),
        parameters => parameters.join(", "),
    };
    let format = format!("\"{}\"", printf(event.format, event.parameters));
    // A macro of <inttypes.h> at the end leaves an empty literal behind it.
    let format = format.replace("64\"\"", "64");
    format!("{}({parameters}) {format}", event.name)
}

fn declaration(parameter: &Parameter) -> String {
    let Parameter { name, kind } = parameter;
    let space = if kind.c_type.ends_with('*') { "" } else { " " };
    format!("{}{space}{name}", kind.c_type)
}

/// A format of Rust's, as far as the table uses them, as one of `printf`.
fn printf(format: &str, parameters: &[Parameter]) -> String {
    let mut text = String::new();
    for piece in format.split('{') {
        let Some((argument, rest)) = piece.split_once('}') else {
            text += piece;
            continue;
        };
        let (name, width) = argument.split_once(':').unwrap_or((argument, ""));
        let kind = parameters.iter().find(|parameter| parameter.name == name);
        let conversion = kind.map(|parameter| match width.strip_prefix('#') {
            None => parameter.kind.decimal.to_owned(),
            Some(width) => hexadecimal(parameter, width),
        });
        text += &conversion.unwrap_or_default();
        text += rest;
    }
    text
}

/// With the `0x` in front, which Rust counts as part of the width.
fn hexadecimal(parameter: &Parameter, width: &str) -> String {
    let conversion = parameter.kind.hexadecimal.unwrap_or_default();
    let digits = width.strip_suffix('x').unwrap_or(width);
    let digits: Option<usize> = digits.parse().ok();
    match digits.and_then(|digits| digits.checked_sub("0x".len())) {
        None => format!("0x{conversion}"),
        Some(digits) => format!("0x{}", conversion.replacen('%', &format!("%0{digits}"), 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::argument::{Address, Argument};

    #[test]
    fn definitions_are_as_qemu_writes_them() {
        const PARAMETERS: &[Parameter] = &[
            Parameter {
                name: "ioc",
                kind: Address::KIND,
            },
            Parameter {
                name: "key",
                kind: u64::KIND,
            },
            Parameter {
                name: "text",
                kind: <&str>::KIND,
            },
            Parameter {
                name: "status",
                kind: u8::KIND,
            },
            Parameter {
                name: "fd",
                kind: i32::KIND,
            },
        ];
        let event = Event::new(
            0,
            "an_event",
            PARAMETERS,
            "ioc={ioc:p} text='{text}' status={status:#04x} fd={fd} key={key:#x}",
        );
        assert_eq!(
            line(&event),
            "an_event(void *ioc, uint64_t key, const char *text, uint8_t status, int fd) \
             \"ioc=%p text='%s' status=0x%02x fd=%d key=0x%\"PRIx64"
        );
        assert_eq!(line(&Event::new(0, "empty", &[], "")), "empty(void) \"\"");
    }

    #[test]
    fn each_argument_of_each_event_is_printed_by_its_definition() {
        for event in ALL {
            let line = line(event);
            let conversions = line.matches('%').count();
            assert_eq!(conversions, event.parameters.len(), "{line}");
            assert!(!line.contains(['{', '}']), "{line}");
        }
    }
}
