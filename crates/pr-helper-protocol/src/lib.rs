//! The protocol between QEMU and its persistent reservation helper, both halves.
//!
//! A client connects to the helper's Unix stream socket. Both sides send one feature word, the helper
//! first. Then the client sends requests, one at a time: a 16-byte CDB, with it exactly one open file
//! descriptor (`SCM_RIGHTS`), and after it the parameter list if the command is PERSISTENT RESERVE
//! OUT. The helper answers each with a status, 96 bytes of sense and, for PERSISTENT RESERVE IN, data.
//! Numbers are big-endian. Source: QEMU's `docs/interop/pr-helper.rst`.
//!
//! | module | job |
//! |---|---|
//! | [`wire`] | the layouts: feature word, [`Command`], [`Response`], [`ReplyBuffer`] |
//! | [`decoder`] | bytes and descriptors, however they are cut, to requests; knows no socket |
//! | [`error`] | what a client can do wrong |
//! | [`fd_passing`] | `recvmsg` and `sendmsg` with descriptors |
//! | [`server`] | a helper's end of one connection, never blocking |
//! | [`client`] | a client's end, blocking |
//!
//! A helper that sends more data than the CDB's allocation length, or data for PERSISTENT RESERVE
//! OUT, makes QEMU abort the virtual machine. A [`ReplyBuffer`] can do neither.

#![forbid(unsafe_code)]
#![warn(clippy::indexing_slicing)]

pub mod client;
pub mod decoder;
pub mod error;
pub mod fd_passing;
pub mod server;
pub mod wire;

pub use client::Client;
pub use decoder::{Request, RequestDecoder, RequestFd};
pub use error::ProtocolError;
pub use server::Connection;
pub use wire::{Command, Direction, Features, ReplyBuffer, Response};
