// SPDX-License-Identifier: MIT OR Apache-2.0

#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![warn(clippy::indexing_slicing)]

pub mod client;
pub mod decoder;
pub mod fd_passing;
pub mod server;
pub mod wire;

pub use client::Client;
pub use decoder::{Request, RequestDecoder, RequestFd};
pub use server::Connection;
pub use wire::{Command, Direction, Features, ProtocolError, ReplyBuffer, Response};
