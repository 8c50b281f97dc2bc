// SPDX-License-Identifier: MIT OR Apache-2.0

//! Texts of the standard library and of clap that are for programmers, and no user may read.

/// Parts of such texts.
const RAW: [&str; 13] = [
    "(os error",
    "invalid digit",
    "too large to fit",
    "too small to fit",
    "empty string",
    "target type",
    "is not in ",
    "SUN_LEN",
    "fill whole buffer",
    "Errno",
    "Os {",
    "Error {",
    "Some(",
];

/// Values of options, most of which no option accepts.
const VALUES: [&str; 6] = ["x", "-1", "1.5", "", "99999999999999999999999", "0"];

/// Checks that a text has no raw part.
///
/// # Panics
///
/// Panics with the text if it has one.
#[track_caller]
pub fn assert_none(text: &str) {
    for raw in RAW {
        assert!(!text.contains(raw), "{raw}: {text}");
    }
}

/// Returns command lines with bad values, for an option with these names.
pub fn bad_values(option: &str) -> impl Iterator<Item = String> {
    VALUES
        .iter()
        .map(move |value| format!("--{option}={value}"))
}
