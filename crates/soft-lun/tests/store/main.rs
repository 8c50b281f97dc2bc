// SPDX-License-Identifier: MIT OR Apache-2.0

//! The store: file formats, commands, concurrency, errors.

#![expect(clippy::unwrap_used, reason = "a test fails on an unexpected error")]

mod commands;
mod concurrency;
mod file_format;
mod invalid_files;
mod lun_directory;
mod reboot;
mod support;
