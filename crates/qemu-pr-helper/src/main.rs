//! The program `qemu-pr-helper`; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    qemu_pr_helper::run(std::env::args_os())
}
