// SPDX-License-Identifier: MIT OR Apache-2.0

//! Effect of a reservation on reads and writes that bypass the helper.

use super::step::{A, B, KEY_A, KEY_B, read, ready, register, release, reserve, run_steps, write};
use super::wire::{TYPES, Type};
use crate::case::Case;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for kind in TYPES {
        for registered in [true, false] {
            cases.push(access(kind, registered));
        }
    }
    cases
}

fn access(kind: Type, registered: bool) -> Case {
    let state = if registered {
        "registered"
    } else {
        "unregistered"
    };
    let name = format!("access_of_{state}_port_under_{}", kind.name);
    Case::new(name, move |helper| {
        let has_access = registered && kind.registrants_allowed;
        let key = if registered { KEY_B } else { 0 };
        let mut steps = vec![
            register(A, 0, KEY_A),
            register(B, 0, key),
            reserve(A, KEY_A, kind),
            read(A),
            write(A),
            read(B).allowed(has_access || kind.reads_allowed),
            write(B).allowed(has_access),
            ready(B),
            release(A, KEY_A, kind),
        ];
        if has_access {
            steps.push(ready(B).sense(6, 0x2a, 4));
        }
        steps.extend([read(B), write(B)]);
        run_steps(helper, &steps)
    })
}
