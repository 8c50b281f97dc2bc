// SPDX-License-Identifier: MIT OR Apache-2.0

//! `prhctl decode` of arbitrary bytes: it must not panic.

#![cfg_attr(fuzzing, no_main)]

use std::ffi::OsString;
use std::fmt::Write as _;

use fuzz::input::Input;

fuzz::target!(run);

/// Arguments that select the kind of the bytes.
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

/// Input: text or JSON, kind, and the bytes.
fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (is_json, kind) = (input.below(2) == 1, KINDS[input.below(10)]);
    let hex = input.rest().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    });
    // Without bytes, prhctl would read stdin.
    if hex.is_empty() {
        return;
    }
    let mut arguments = vec!["prhctl"];
    arguments.extend(is_json.then_some("--json"));
    arguments.push("decode");
    arguments.extend(kind);
    arguments.push(&hex);
    let _ = prhctl::run(arguments.into_iter().map(OsString::from));
}
