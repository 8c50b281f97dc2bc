// SPDX-License-Identifier: MIT OR Apache-2.0

//! Errors as text: an error and its causes, and errors of the operating system.

use std::borrow::Cow;
use std::error::Error;
use std::io::{self, ErrorKind};
use std::iter;

/// Start of the number that the standard library appends to the text of a system error.
const NUMBER: &str = " (os error ";

/// Returns an error and its causes in one line.
#[must_use]
pub fn error_chain(error: &dyn Error) -> String {
    let causes = iter::successors(error.source(), |&cause| cause.source());
    let line = without_error_numbers(&error.to_string()).into_owned();
    causes.fold(line, |line, cause| {
        match cause.downcast_ref::<io::Error>() {
            Some(error) => format!("{line}: {}", system_error(error)),
            None => format!("{line}: {}", without_error_numbers(&cause.to_string())),
        }
    })
}

/// Returns the text of an error of the operating system, without its number.
#[must_use]
pub fn system_error(error: &io::Error) -> String {
    match error.kind() {
        // The standard library's own text is about buffers.
        ErrorKind::UnexpectedEof => "connection closed".to_owned(),
        // The standard library requires room for a terminating zero, unlike the kernel. The
        // kernel's error has the text "Invalid argument", and a number.
        ErrorKind::InvalidInput if error.raw_os_error().is_none() => {
            "the path of the socket is longer than 107 bytes".to_owned()
        }
        _ => without_error_numbers(&error.to_string()).into_owned(),
    }
}

/// Removes the numbers of system errors, as in "No such file or directory (os error 2)".
#[must_use]
pub fn without_error_numbers(text: &str) -> Cow<'_, str> {
    let Some((before, after)) = text.split_once(NUMBER) else {
        return text.into();
    };
    let rest = after.trim_start_matches(|character: char| character.is_ascii_digit());
    let mut shortened = before.to_owned();
    match rest.strip_prefix(')') {
        Some(rest) if rest.len() + 1 < after.len() => shortened += &without_error_numbers(rest),
        _ => shortened = shortened + NUMBER + &without_error_numbers(after),
    }
    shortened.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ENOENT.
    const NOT_FOUND: i32 = 2;
    /// EINVAL.
    const INVALID: i32 = 22;

    #[test]
    fn error_numbers_are_removed() {
        for (text, expected) in [
            ("No such file (os error 2)", "No such file"),
            ("a (os error 2): b (os error 13)", "a: b"),
            ("(os error 2)", "(os error 2)"),
            ("a (os error )", "a (os error )"),
            ("a (os error 2", "a (os error 2"),
            ("é", "é"),
        ] {
            assert_eq!(without_error_numbers(text), expected);
        }
    }

    #[test]
    fn system_errors_have_no_raw_text() {
        for (number, expected) in [
            (NOT_FOUND, "No such file or directory"),
            (INVALID, "Invalid argument"),
        ] {
            assert_eq!(
                system_error(&io::Error::from_raw_os_error(number)),
                expected
            );
        }
        let error = io::Read::read_exact(&mut io::empty(), &mut [0]).unwrap_err();
        assert_eq!(system_error(&error), "connection closed");
        let path = "x".repeat(200);
        let error = std::os::unix::net::UnixStream::connect(path).unwrap_err();
        assert_eq!(
            system_error(&error),
            "the path of the socket is longer than 107 bytes"
        );
    }

    #[test]
    fn chain_has_all_causes() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot open a")]
        struct OpenError(#[source] io::Error);
        let error = OpenError(io::Error::from_raw_os_error(NOT_FOUND));
        assert_eq!(
            error_chain(&error),
            "cannot open a: No such file or directory"
        );
    }
}
