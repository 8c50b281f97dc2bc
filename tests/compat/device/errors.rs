// SPDX-License-Identifier: MIT OR Apache-2.0

//! Commands that the unit rejects, and read-only descriptors.

use std::fs::File;

use anyhow::ensure;

use super::lun::{self, Lun};
use super::step::{
    A, B, KEY_A, Step, action, read_keys, read_reservation, register, reserve, reserve_out,
    run_steps,
};
use super::wire::{TYPES, WRITE_EXCLUSIVE, basic, keys, reservation};
use crate::case::Case;
use crate::client::{pr_in, pr_out};
use crate::helper::Helper;
use crate::scratch::Scratch;

/// Service actions with a parameter list of 24 bytes, their type, and whether the target returns a
/// conflict to an unregistered port also without a reservation, as SPC-4 requires.
const ACTIONS: [(&str, u8, u8, bool); 5] = [
    ("reserve", 1, 1, false),
    ("release", 2, 1, false),
    ("clear", 3, 0, false),
    ("preempt", 4, 1, true),
    ("preempt_and_abort", 5, 1, true),
];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for code in [8, 9, 15, 16, 31] {
        cases.push(expect_failure(
            &format!("reserved_action_{code}"),
            (5, 0x24, 0),
            move || action(A, code, 0, basic(KEY_A, 0, 0)),
        ));
    }
    for length in [0, 1, 23, 25, 32, 8192] {
        cases.push(expect_failure(
            &format!("list_of_{length}_bytes"),
            (5, 0x1a, 0),
            move || reserve_out(A, pr_out(1, 1, length), vec![0; usize::from(length)]),
        ));
    }
    for code in [0, 2, 4, 9, 15] {
        cases.push(expect_failure(
            &format!("type_{code}"),
            (5, 0x24, 0),
            move || action(A, 1, code, basic(KEY_A, 0, 0)),
        ));
    }
    for scope in [1, 2, 15] {
        cases.push(expect_failure(
            &format!("scope_{scope}"),
            (5, 0x26, 0),
            move || action(A, 1, scope << 4 | 1, basic(KEY_A, 0, 0)),
        ));
    }
    cases.extend(unregistered());
    cases.push(preempt_of_key_zero());
    cases.push(ignored_fields());
    cases.push(Case::new(
        "read_only_descriptor_can_read_but_not_change",
        read_only,
    ));
    cases
}

fn unregistered() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, code, kind, conflicts) in ACTIONS {
        cases.push(Case::new(
            format!("{name}_by_an_unregistered_port"),
            move |helper| {
                run_steps(
                    helper,
                    &[
                        register(A, 0, KEY_A),
                        reserve(A, KEY_A, WRITE_EXCLUSIVE),
                        action(B, code, kind, basic(KEY_A, KEY_A, 0)).conflict(),
                        action(B, code, kind, basic(0, KEY_A, 0)).conflict(),
                        read_reservation(A).data(reservation(1, Some((KEY_A, WRITE_EXCLUSIVE)))),
                    ],
                )
            },
        ));
        cases.push(Case::new(
            format!("{name}_of_a_clean_unit"),
            move |helper| {
                let step = action(A, code, kind, basic(KEY_A, KEY_A, 0));
                run_steps(
                    helper,
                    &[
                        if conflicts {
                            step.conflict()
                        } else {
                            step.sense(2, 8, 0)
                        },
                        read_keys(A).data(keys(0, &[])),
                    ],
                )
            },
        ));
    }
    cases
}

/// Returns a case with a step that is rejected and changes nothing.
fn expect_failure(
    name: &str,
    (key, code, qualifier): (u8, u8, u8),
    step: impl Fn() -> Step + Send + Sync + 'static,
) -> Case {
    Case::new(format!("{name}_is_rejected"), move |helper| {
        run_steps(
            helper,
            &[
                register(A, 0, KEY_A),
                step().sense(key, code, qualifier),
                read_keys(A).data(keys(1, &[KEY_A])),
                read_reservation(A).data(reservation(1, None)),
            ],
        )
    })
}

fn preempt_of_key_zero() -> Case {
    Case::new("preempt_of_key_zero_is_rejected", |helper| {
        run_steps(
            helper,
            &[
                register(A, 0, KEY_A),
                reserve(A, KEY_A, WRITE_EXCLUSIVE),
                super::step::preempt(A, KEY_A, 0, WRITE_EXCLUSIVE).sense(5, 0x26, 0),
                read_keys(A).data(keys(1, &[KEY_A])),
            ],
        )
    })
}

/// Obsolete and reserved fields of the list, and the service action key in actions that do not use
/// it.
fn ignored_fields() -> Case {
    Case::new("fields_without_meaning_are_ignored", |helper| {
        let steps = TYPES.into_iter().flat_map(|kind| {
            let mut list = basic(KEY_A, u64::MAX, 0);
            list[16..20].fill(0xff);
            list[22..].fill(0xff);
            [
                action(A, 1, kind.code, list.clone()),
                read_reservation(A).data(reservation(1, Some((KEY_A, kind)))),
                action(A, 2, kind.code, list),
            ]
        });
        let mut all = vec![register(A, 0, KEY_A)];
        all.extend(steps);
        run_steps(helper, &all)
    })
}

fn read_only(helper: &Helper) -> anyhow::Result<()> {
    let _lun = Lun::lock(lun::PORTS)?;
    let paths = lun::devices(lun::PORTS)?;
    let device = File::open(&paths[0])?;
    let scratch = Scratch::new()?;
    let running = helper.serving_command(&scratch).start()?;
    let mut client = running.client()?;
    let response = client.command(&pr_out(0, 0, 24), &basic(0, KEY_A, 0), &device)?;
    ensure!(
        response.status == 2 && response.sense_code() == (5, 0x20, 0),
        "{response:?}"
    );
    let response = client.command(&pr_in(0, 255), &[], &device)?;
    ensure!(
        response.status == 0 && response.data[4..] == [0; 4],
        "{response:?}"
    );
    Ok(())
}
