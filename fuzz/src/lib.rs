//! What must be true of any bytes, for a fuzzer to disprove.
//!
//! Each module is a target: a function that takes bytes and panics if one of the project's parts does not do
//! with them what it says. `cargo xtask fuzz` has libFuzzer look for such bytes; `cargo test` runs the targets
//! over those in `corpus`.
//!
//! | target | what has to withstand the bytes |
//! |---|---|
//! | [`inbox`] | requests on a socket, cut anywhere, beside a reader of the whole stream |
//! | [`out`] | PERSISTENT RESERVE OUT: CDB and parameter list, decoded and encoded |
//! | [`transport_id`] | TransportIDs, one, a list, and as text |
//! | [`sense`] | sense data of both formats |
//! | [`data`] | what PERSISTENT RESERVE IN answers, whole and cut off |
//! | [`commands`] | any commands in any order to a soft LUN |
//! | [`letters`] | well-formed ones, each judged by the tables of `soft-lun`'s exhaustive test |
//! | [`record`] | a soft LUN's `state.json` |
//! | [`store`] | both of its files, in a folder |
//! | [`trace`] | the values of `--trace` and files of events, beside a second reader |
//! | [`message`] | what the multipath broker's workers are told, and what they say |
//! | [`decode`] | `prhctl decode` |

#![forbid(unsafe_code)]
#![expect(
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "to panic is how a target says that something is wrong"
)]

pub mod commands;
mod consistent;
pub mod data;
pub mod decode;
mod exhaustive;
pub mod inbox;
mod input;
pub mod letters;
pub mod message;
pub mod out;
pub mod record;
pub mod sense;
pub mod store;
pub mod trace;
pub mod transport_id;

/// Something that bytes can disprove.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// What it is called, on the command line and as a folder of `corpus`.
    pub name: &'static str,
    /// Panics if they do.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: [Target; 12] = [
    target("commands", commands::run),
    target("data", data::run),
    target("decode", decode::run),
    target("inbox", inbox::run),
    target("letters", letters::run),
    target("message", message::run),
    target("out", out::run),
    target("record", record::run),
    target("sense", sense::run),
    target("store", store::run),
    target("trace", trace::run),
    target("transport_id", transport_id::run),
];

const fn target(name: &'static str, run: fn(&[u8])) -> Target {
    Target { name, run }
}

/// The target of that name.
#[must_use]
pub fn find(name: &str) -> Option<Target> {
    TARGETS.into_iter().find(|target| target.name == name)
}
