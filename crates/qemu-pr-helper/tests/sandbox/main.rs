// SPDX-License-Identifier: MIT OR Apache-2.0

//! The sandbox of the real helper: it allows everything that the helper does, its list of system
//! calls has no unused entry, and everything else fails.

#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

mod forbidden;
mod status;
mod used;
