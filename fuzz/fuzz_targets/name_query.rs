// SPDX-License-Identifier: MIT OR Apache-2.0

//! Queries of names: decoding accepts only what encoding produces.

#![cfg_attr(fuzzing, no_main)]

use qemu_pr_helper::names::query::Query;

fuzz::target!(run);

/// Input: a query.
fn run(bytes: &[u8]) {
    if let Some(query) = Query::decode(bytes) {
        assert_eq!(query.encode(), bytes);
    }
}
