// SPDX-License-Identifier: MIT OR Apache-2.0

//! The binary `qemu-pr-helper`, which runs the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    qemu_pr_helper::run(std::env::args_os())
}
