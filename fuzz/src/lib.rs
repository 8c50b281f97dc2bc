// SPDX-License-Identifier: MIT OR Apache-2.0

//! Parts of the fuzz targets: properties that must hold for arbitrary bytes.
//!
//! Each file in `fuzz_targets` is a target: a program with a function that takes bytes and panics
//! if a component violates its contract. `cargo xtask fuzz` runs the targets with libFuzzer; `cargo
//! test` runs them over the inputs in `corpus`.

#![forbid(unsafe_code)]

pub mod input;
pub mod invariants;

use std::io;
use std::path::PathBuf;
use std::{env, fs};

/// Defines the entry point of a target from its function: libFuzzer's with `--cfg fuzzing`,
/// otherwise a `main` that calls [`replay`].
#[cfg(fuzzing)]
#[macro_export]
macro_rules! target {
    ($run:ident) => {
        libfuzzer_sys::fuzz_target!(|bytes: &[u8]| $run(bytes));
    };
}

/// Defines the entry point of a target from its function: libFuzzer's with `--cfg fuzzing`,
/// otherwise a `main` that calls [`replay`].
#[cfg(not(fuzzing))]
#[macro_export]
macro_rules! target {
    ($run:ident) => {
        fn main() -> std::io::Result<()> {
            $crate::replay($run)
        }
    };
}

/// Runs a target over the files that the command line names; a directory stands for its files.
///
/// # Errors
///
/// Fails if a file cannot be read, or if the command line names none.
pub fn replay(run: fn(&[u8])) -> io::Result<()> {
    let mut inputs = Vec::new();
    for path in env::args_os().skip(1).map(PathBuf::from) {
        if path.is_dir() {
            for entry in fs::read_dir(path)? {
                inputs.push(fs::read(entry?.path())?);
            }
        } else {
            inputs.push(fs::read(path)?);
        }
    }
    if inputs.is_empty() {
        return Err(io::Error::other("no input: name files or directories"));
    }
    // A target can change its working directory, so all inputs are read before.
    inputs.iter().for_each(|input| run(input));
    Ok(())
}
