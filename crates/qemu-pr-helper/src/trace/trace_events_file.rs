// SPDX-License-Identifier: MIT OR Apache-2.0

//! The table of events in the syntax of QEMU's `trace-events` files (`docs/devel/tracing.rst`).
//!
//! `simpletrace.py` needs such a file to decode the arguments in a binary trace.

use super::argument::Parameter;
use super::events::ALL;

/// Returns the definitions of all events, one per line: `name(type argument, …) "format"`.
pub(crate) fn definitions() -> String {
    ALL.iter()
        .map(|event| definition(event.name, event.parameters, event.format) + "\n")
        .collect()
}

fn definition(name: &str, parameters: &[Parameter], format: &str) -> String {
    let declarations: Vec<_> = parameters.iter().map(declaration).collect();
    let declarations = match declarations.as_slice() {
        [] => "void".to_owned(),
        declarations => declarations.join(", "),
    };
    let format = format!("\"{}\"", printf_format(format, parameters));
    // If the format ends with a macro of <inttypes.h>, an empty literal follows it.
    let format = format.replace("64\"\"", "64");
    format!("{name}({declarations}) {format}")
}

fn declaration(Parameter { name, kind }: &Parameter) -> String {
    let space = if kind.c_type.ends_with('*') { "" } else { " " };
    format!("{}{space}{name}", kind.c_type)
}

/// Translates a Rust format into one of `printf`. It supports the syntax that the table of events
/// uses.
fn printf_format(format: &str, parameters: &[Parameter]) -> String {
    let mut text = String::new();
    for piece in format.split('{') {
        let Some((argument, literal)) = piece.split_once('}') else {
            text += piece;
            continue;
        };
        let (name, width) = argument.split_once(':').unwrap_or((argument, ""));
        let parameter = parameters.iter().find(|parameter| parameter.name == name);
        let conversion = parameter.map(|Parameter { kind, .. }| match width.strip_prefix('#') {
            None => kind.conversion.to_owned(),
            Some(width) => hexadecimal(kind.hexadecimal.unwrap_or_default(), width),
        });
        text += &conversion.unwrap_or_default();
        text += literal;
    }
    text
}

/// Returns `conversion` with a `0x` in front and the width of a Rust format, such as `04x`.
fn hexadecimal(conversion: &str, width: &str) -> String {
    let digits: Option<usize> = width.strip_suffix('x').unwrap_or(width).parse().ok();
    // Rust includes the `0x` in the width.
    match digits.and_then(|digits| digits.checked_sub("0x".len())) {
        None => format!("0x{conversion}"),
        Some(digits) => format!("0x{}", conversion.replacen('%', &format!("%0{digits}"), 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::argument::{Argument, ArgumentKind, ObjectId};

    #[test]
    fn definition_has_the_syntax_of_qemu() {
        const fn parameter(name: &'static str, kind: ArgumentKind) -> Parameter {
            Parameter { name, kind }
        }
        const PARAMETERS: &[Parameter] = &[
            parameter("ioc", ObjectId::KIND),
            parameter("key", u64::KIND),
            parameter("text", <&str>::KIND),
            parameter("status", u8::KIND),
            parameter("fd", i32::KIND),
        ];
        let format = "ioc={ioc:p} text='{text}' status={status:#04x} fd={fd} key={key:#x}";
        assert_eq!(
            definition("an_event", PARAMETERS, format),
            "an_event(void *ioc, uint64_t key, const char *text, uint8_t status, int fd) \
             \"ioc=%p text='%s' status=0x%02x fd=%d key=0x%\"PRIx64"
        );
        assert_eq!(definition("empty", &[], ""), "empty(void) \"\"");
    }

    #[test]
    fn definition_of_each_event_prints_all_arguments() {
        for (event, definition) in ALL.iter().zip(definitions().lines()) {
            let conversions = definition.matches('%').count();
            assert_eq!(conversions, event.parameters.len(), "{definition}");
            assert!(!definition.contains(['{', '}']), "{definition}");
        }
    }
}
