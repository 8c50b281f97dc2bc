// SPDX-License-Identifier: MIT OR Apache-2.0

//! Results of the subcommands as text and as JSON.

pub(crate) mod json;
pub(crate) mod text;
