// SPDX-License-Identifier: MIT OR Apache-2.0

//! The program of the benchmark: compares helpers, or runs one role of the comparison.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    match bench::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
