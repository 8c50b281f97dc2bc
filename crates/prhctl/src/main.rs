// SPDX-License-Identifier: MIT OR Apache-2.0

//! The `prhctl` binary. The library has all of its code.

use std::process::ExitCode;

fn main() -> ExitCode {
    prhctl::run(std::env::args_os())
}
