//! Fuzz targets: properties that must hold for arbitrary bytes.
//!
//! Each module is a target: a function that takes bytes and panics if a component violates its
//! contract. `cargo xtask fuzz` runs the targets with libFuzzer; `cargo test` runs them over the
//! inputs in `corpus`.
//!
//! | target | component |
//! |---|---|
//! | [`request_decoder`] | requests on a socket in arbitrary pieces, compared with a reader of the
//! complete stream |
//! | [`pr_out`] | PERSISTENT RESERVE OUT: CDB and parameter list, decoded and encoded |
//! | [`transport_id`] | TransportIDs: one, a list, and as text |
//! | [`sense`] | sense data of both formats |
//! | [`pr_in_data`] | data of PERSISTENT RESERVE IN, complete and truncated |
//! | [`commands`] | arbitrary commands in arbitrary order to a soft LUN |
//! | [`exhaustive_commands`] | well-formed commands, checked with the tables of `soft-lun`'s
//! exhaustive test |
//! | [`lun_state`] | a soft LUN's `state.json` |
//! | [`store`] | both files of a soft LUN, in a directory |
//! | [`trace`] | the values of `--trace` and event files, compared with a second reader |
//! | [`message`] | messages to and from the multipath broker's workers |
//! | [`decode`] | `prhctl decode` |

#![forbid(unsafe_code)]
#![expect(
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "targets report failures by panicking"
)]

pub mod commands;
pub mod decode;
mod exhaustive;
pub mod exhaustive_commands;
mod input;
mod invariants;
pub mod lun_state;
pub mod message;
pub mod pr_in_data;
pub mod pr_out;
pub mod request_decoder;
pub mod sense;
pub mod store;
pub mod trace;
pub mod transport_id;

/// A fuzz target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Name on the command line, and of the directory in `corpus`.
    pub name: &'static str,
    /// Panics if the bytes violate a property.
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: [Target; 12] = [
    target("commands", commands::run),
    target("pr_in_data", pr_in_data::run),
    target("decode", decode::run),
    target("request_decoder", request_decoder::run),
    target("exhaustive_commands", exhaustive_commands::run),
    target("message", message::run),
    target("pr_out", pr_out::run),
    target("lun_state", lun_state::run),
    target("sense", sense::run),
    target("store", store::run),
    target("trace", trace::run),
    target("transport_id", transport_id::run),
];

const fn target(name: &'static str, run: fn(&[u8])) -> Target {
    Target { name, run }
}

/// Returns the target with this name.
#[must_use]
pub fn find(name: &str) -> Option<Target> {
    TARGETS.into_iter().find(|target| target.name == name)
}
