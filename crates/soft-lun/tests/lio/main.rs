// SPDX-License-Identifier: MIT OR Apache-2.0

//! Comparison of [`soft_lun::LogicalUnit`] with LIO, the SCSI target of the Linux kernel: both get
//! the same random sequences of commands, and all responses must be equal, except for the
//! deviations in `docs/lio-differences.md`.
//!
//! * `PR_LIO_PORTS=/dev/sdX,/dev/sdY`: two ports of one unit of LIO, in the order of their SAS
//!   addresses 0x5001405000000001 and 0x5001405000000002. The target ports have the relative
//!   identifiers 1 and 2. The data on the unit is lost. Without this variable, the test that needs
//!   LIO is skipped.
//! * `PR_LIO_SEQUENCES`: the number of sequences, 2000 by default.
//! * `PR_LIO_SEED`: the seed of the random numbers, by default the time.
//!
//! A sequence with a difference is shrunk and printed in the format of the files in `regressions`
//! (`sequence.rs`), where it can be stored. Stored sequences run first. Without LIO, their
//! responses are compared with those of soft-lun and the deviations. If a command gets no response,
//! its sequence is printed too (`observer.rs`); the run then cannot end before the machine is
//! stopped.
//!
//! The comparison covers the status, every byte of the sense data, and every byte of parameter
//! data. READ and WRITE are sent to test the access that the reservation allows; for them it covers
//! the status and the sense data.

#![expect(clippy::unwrap_used, reason = "a test fails on an unexpected error")]

mod command;
mod generate;
mod kernel;
mod lio_deviations;
mod model;
mod observer;
mod random;
mod run_sequence;
mod sequence;
mod shrink;
mod target;
mod with_lio;
mod without_lio;

use libtest_mimic::Arguments;

fn main() {
    let arguments = Arguments::from_args();
    let mut trials = without_lio::trials();
    trials.push(with_lio::trial());
    libtest_mimic::run(&arguments, trials).exit();
}
