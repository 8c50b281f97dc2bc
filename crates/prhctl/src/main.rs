//! The program `prhctl`; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    prhctl::run(std::env::args_os())
}
