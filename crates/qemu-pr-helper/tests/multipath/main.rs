// SPDX-License-Identifier: MIT OR Apache-2.0

//! PERSISTENT RESERVE OUT over several paths has the effect and the result that it has on one path;
//! CLEANUP; and the check of paths.

#![expect(clippy::unwrap_used, reason = "what a test cannot do without fails it")]
#![expect(clippy::indexing_slicing, reason = "it is a test's own data")]

mod cases;
mod check;
mod cleanup;
mod interleavings;
mod key_store;
mod map;
mod random;
mod single_nexus;
mod warnings;
