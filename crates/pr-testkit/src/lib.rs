//! Test fixtures of the project, used by the tests of every crate, the virtual machine tests and
//! the benchmark.

#![forbid(unsafe_code)]
#![expect(
    clippy::missing_errors_doc,
    reason = "tests report errors and do not distinguish them"
)]

pub mod build;
pub mod process;
