//! `prhctl decode`: it explains bytes, or says that it cannot.

use std::ffi::OsString;
use std::fmt::Write as _;

use crate::input::Input;

/// What bytes can be said to be.
const KINDS: [&[&str]; 10] = [
    &[],
    &["--as", "cdb"],
    &["--as", "sense"],
    &["--as", "keys"],
    &["--as", "reservation"],
    &["--as", "capabilities"],
    &["--as", "status"],
    &["--service-action", "register"],
    &["--service-action", "register-and-move"],
    &["--service-action", "preempt"],
];

/// Text or JSON, what the bytes are said to be, and the rest is the bytes.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (is_json, kind) = (input.below(2) == 1, KINDS[input.below(10)]);
    let hex = input.rest().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    });
    // Without bytes it would read standard input.
    if hex.is_empty() {
        return;
    }
    let mut words = vec!["prhctl"];
    words.extend(is_json.then_some("--json"));
    words.push("decode");
    words.extend(kind);
    words.push(&hex);
    let _ = prhctl::run(words.into_iter().map(OsString::from));
}
