// SPDX-License-Identifier: MIT OR Apache-2.0

//! PERSISTENT RESERVE IN: every service action with significant allocation lengths.

use super::step::{A, B, KEY_A, KEY_B, Step, read_keys, register, reserve, reserve_in, run_steps};
use super::wire::{Registration, WRITE_EXCLUSIVE, full_status, keys, reservation};
use crate::case::Case;

/// Lengths around those of the header, a key, a registration, and all data.
const LENGTHS: [u16; 20] = [
    0, 1, 4, 5, 7, 8, 9, 15, 16, 21, 22, 23, 24, 32, 56, 71, 72, 104, 255, 8192,
];

/// Service actions that SPC-4 does not define.
const RESERVED: [u8; 6] = [4, 5, 8, 15, 16, 31];

/// Capabilities of LIO.
const CAPABILITIES: [u8; 8] = [0, 8, 0x1d, 0x90, 0xea, 0x01, 0, 0];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for length in LENGTHS {
        for (name, code, least, data) in [
            ("keys", 0, 8, whole_keys(length)),
            ("reservation", 1, 8, whole_reservation(length)),
            ("capabilities", 2, 6, CAPABILITIES.to_vec()),
            ("full_status", 3, 8, whole_registrations(length)),
        ] {
            let name = format!("read_{name}_with_allocation_{length}");
            cases.push(Case::new(name, move |helper| {
                let mut steps = prepared();
                let step = reserve_in(B, code, length);
                steps.push(if length < least {
                    step.sense(5, 0x24, 0)
                } else {
                    let mut data = data.clone();
                    data.truncate(usize::from(length));
                    step.data(data)
                });
                run_steps(helper, &steps)
            }));
        }
    }
    for code in RESERVED {
        let name = format!("read_reserved_action_{code}_is_rejected");
        cases.push(Case::new(name, move |helper| {
            run_steps(helper, &[reserve_in(A, code, 255).sense(5, 0x24, 0)])
        }));
    }
    cases.push(Case::new("read_of_a_clean_unit", |helper| {
        run_steps(
            helper,
            &[
                read_keys(A).data(keys(0, &[])),
                reserve_in(A, 1, 255).data(reservation(0, None)),
                reserve_in(A, 2, 255).data(CAPABILITIES.to_vec()),
                reserve_in(A, 3, 255).data(full_status(0, &[])),
            ],
        )
    }));
    cases
}

/// Returns steps after which both ports are registered and the first one holds a reservation.
fn prepared() -> Vec<Step> {
    vec![
        register(A, 0, KEY_A),
        register(B, 0, KEY_B),
        reserve(A, KEY_A, WRITE_EXCLUSIVE),
        register(A, KEY_A, KEY_A),
    ]
}

/// Returns the keys after [`prepared`]. The target writes zeros for a key that does not fit
/// completely.
fn whole_keys(length: u16) -> Vec<u8> {
    let mut data = keys(3, &[KEY_A, KEY_B]);
    let whole = usize::from(length) / 8 * 8;
    data.iter_mut().skip(whole).for_each(|byte| *byte = 0);
    data
}

/// Returns the reservation after [`prepared`]. The target writes zeros if it does not fit.
fn whole_reservation(length: u16) -> Vec<u8> {
    let mut data = reservation(3, Some((KEY_A, WRITE_EXCLUSIVE)));
    if length < 22 {
        data[8..].fill(0);
    }
    data
}

/// Returns the full status after [`prepared`]. The target counts and sends a registration of 48
/// bytes if 24 bytes remain for it.
fn whole_registrations(length: u16) -> Vec<u8> {
    let one = |key, held, port| Registration {
        key,
        all_ports: false,
        held,
        port,
    };
    let count = match length {
        0..24 => 0,
        24..72 => 1,
        _ => 2,
    };
    let all = [one(KEY_A, Some(WRITE_EXCLUSIVE), A), one(KEY_B, None, B)];
    full_status(3, &all[..count])
}
