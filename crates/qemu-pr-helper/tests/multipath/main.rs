//! A command over several paths has the effect and the answer that it has on one.

#![expect(clippy::unwrap_used, reason = "what a test cannot do without fails it")]
#![expect(clippy::indexing_slicing, reason = "it is a test's own data")]

mod cases;
mod map;
mod moments;
mod random;
