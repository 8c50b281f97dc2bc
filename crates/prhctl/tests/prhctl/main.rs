//! The program against real helpers: the helper's own engine with soft LUNs, and helpers that do what
//! no soft LUN does.

#![expect(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

mod change;
mod color;
mod decode;
mod docs;
mod errors;
mod fake;
mod json;
mod report;
mod support;
