//! The same random sequences of commands to a [`soft_lun::LogicalUnit`] and to the kernel's own target,
//! LIO: every answer has to be the same, but for the departures of `docs/lio-differences.md`.
//!
//! * `PR_LIO_PORTS=/dev/sdX,/dev/sdY`: two ports of one unit of LIO, in the order of their SAS addresses
//!   0x5001405000000001 and …2; the target ports have the relative identifiers 1 and 2. What is on it is
//!   lost. Without, what needs LIO is left out.
//! * `PR_LIO_SEQUENCES`: how many sequences, 2000 if it is not set.
//! * `PR_LIO_SEED`: where the random numbers begin; otherwise the time says it.
//!
//! A sequence with a difference is shrunk, and printed in the form of the files in `regressions`
//! (`sequence.rs`), where it can be stored: from then on it is played first, and without LIO its answers
//! are checked against soft-lun's and the departures'. A sequence whose last command is never answered
//! is printed too (`watch.rs`); then only the end of the machine ends the run.
//!
//! Compared are the status, every byte of the sense, and every byte of parameter data; of READ and WRITE,
//! which are sent to see whether the reservation lets them through, the status and the sense.

#![expect(clippy::unwrap_used, reason = "a test fails on an unexpected error")]

mod campaign;
mod command;
mod compare;
mod departures;
mod generate;
mod model;
mod random;
mod sequence;
mod shrink;
mod target;
mod watch;
mod without;

use libtest_mimic::Arguments;

fn main() {
    let arguments = Arguments::from_args();
    let mut trials = without::trials();
    trials.push(campaign::trial());
    libtest_mimic::run(&arguments, trials).exit();
}
