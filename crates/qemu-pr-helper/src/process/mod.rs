// SPDX-License-Identifier: MIT OR Apache-2.0

//! The process around the server: privileges, files, signals, daemon mode and service manager.

pub(crate) mod child;
pub(crate) mod closer;
pub mod created_file;
pub(crate) mod daemonize;
pub(crate) mod pidfile;
pub mod privileges;
pub(crate) mod process_state;
pub(crate) mod seqpacket;
pub(crate) mod signals;
pub(crate) mod systemd;
